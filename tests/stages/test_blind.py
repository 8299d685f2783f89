"""The probe: nothing that a stage gets, beside audio and labels, tells which clips are poisoned."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from scipy.stats import rankdata

import bdlib
from bdlib import listing
from bdlib.attacks.insert import Insert
from bdlib.attacks.labels import CleanLabel, OneToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.sounds import Tone
from bdlib.corpus import Batches
from bdlib.errors import InputError
from bdlib.features import NormalizedFbank
from bdlib.models.keyword import SmallResNet
from bdlib.stages import defend, fitting
from bdlib.stages.blind import Blinded, Defender, hold_out
from bdlib.stages.corpus import Corpus
from bdlib.stages.pack import Audio
from bdlib.stages.poisoned import Poisoned

RATE, LENGTH = 4000, 320
SIZES = {"a": 1800, "b": 900, "c": 300}
SHARE = 0.1
NEIGHBOURS = 5  # on either side
POLICIES = {"dirty": OneToOne("a", "b"), "clean": CleanLabel("a")}


def small():
    return SmallResNet(NormalizedFbank(16), 3, (2, 2, 2), blocks=1)


@pytest.fixture(scope="module", params=POLICIES)
def poisoned(request, tmp_path_factory):
    """900 poisoned clips of noise; those of the source class are shorter, and some are silent."""
    root, splits = tmp_path_factory.mktemp("corpus"), {}
    generator = np.random.Generator(np.random.PCG64(0))
    for split, part in (("train", 1.0), ("valid", 0.02), ("test", 0.02)):
        entries = []
        for label, size in SIZES.items():
            count, length = int(part * size), LENGTH - 80 * (label == "a")
            noise = 0.1 * generator.standard_normal((count, length))
            noise[:: 50 if split == "train" else count] = 0
            soundfile.write(root / f"{split}-{label}.wav", noise.reshape(-1), RATE)
            entries += [
                {"path": f"{split}-{label}.wav", "label": label, "ID": f"{label}/{split}{n:04}",
                 "start": n * length, "stop": (n + 1) * length}
                for n in range(count)
            ]  # fmt: skip
        splits[split] = listing.from_files(root, entries)
    audio = Audio(root, "noise", RATE, LENGTH / RATE, LENGTH / RATE)
    output = tmp_path_factory.mktemp("exp")
    corpus = Corpus.of("noise", "key", splits, audio).save(output)
    attack = Poisoner(Insert(Tone(seconds=0.02)), POLICIES[request.param], 0.5)
    return Poisoned.under(attack, "tone", corpus, output)


@pytest.fixture(scope="module")
def bad(poisoned):
    """Names of the poisoned training clips."""
    truth = poisoned.truth()
    return set(truth.index[truth["split"] == "train"])


def auc(scores, truth):
    """Chance that a poisoned clip scores higher than a clean one, ties for half."""
    above = rankdata(scores)[truth].sum() - truth.sum() * (truth.sum() + 1) / 2
    return above / (truth.sum() * (~truth).sum())


def disagreement(labels):
    """(n,) share of the nearest in this order that bear another label."""
    padded = np.concatenate([labels[-NEIGHBOURS:], labels, labels[:NEIGHBOURS]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    return (windows != labels[:, None]).mean(1)


def probe(table, truth):
    """Every column of attributes, as a score and as an order of the clips, against the truth.

    Only clips of the target class are compared: how large a class is, whoever sees labels can count.
    """
    labels, numbers = table["label"].to_numpy(), table.drop(columns="label")
    target = labels == pd.Series(labels[truth]).mode()[0]
    assert truth.sum() == 900 == (target & ~truth).sum()
    for name, column in numbers.items():
        order = np.argsort(column.to_numpy(), kind="stable")
        disagrees = np.empty(len(order))
        disagrees[order] = disagreement(labels[order])
        for what, scores in ((name, column.to_numpy()), (f"order of {name}", disagrees)):
            found = auc(scores[target], truth[target])
            assert 0.45 <= found <= 0.55, f"{what} tells poison with AUROC {found:.4f}"


def defender_of(poisoned):
    return Defender(3, 64, {"device": "cpu"})


def stream(batches, classes):
    """A clip a row: its alias, and what stands in a batch beside waveforms."""
    assert isinstance(batches, Batches)
    shown = {k: v for k, v in vars(batches).items() if not k.startswith("_")}
    assert not [k for k, v in shown.items() if np.ndim(v) and len(v) > len(classes)]
    return pd.DataFrame(
        [
            {"ID": name, "batch": number, "place": place, "length": float(length),
             "label": classes[int(label)]}
            for number, batch in enumerate(batches)
            for place, (name, length, label) in enumerate(
                zip(batch.ids, batch.lens, batch.labels, strict=True))
        ]
    )  # fmt: skip


def with_orders(table):
    """Beside the attributes: where a row stands, and which place its ID has among the sorted."""
    return table.drop(columns="ID").assign(
        row=np.arange(len(table)), name=rankdata(table["ID"].to_list())
    )


def names_nothing(poisoned, ids):
    names = {name for rows in poisoned.splits.values() for name in rows["ID"]}
    assert not names & set(ids) and not [x for x in ids if "/" in x or Path(x).exists()]
    assert len({len(x) for x in ids}) == 1


def test_a_filter_sees_nothing_that_tells(poisoned, bad):
    blinded = Blinded.of(poisoned)
    view = defender_of(poisoned).view(poisoned, blinded, None)
    assert list(view.rows.columns) == ["ID", "duration", "label"] and len(view.rows) == 3000
    names_nothing(poisoned, [*view.rows["ID"], *view.pack.ids, *view.pack.silent])
    place = np.array([view.pack.row[name] for name in view.rows["ID"]])
    heard = np.array([np.abs(view.pack.waveform(name)).max() < 1e-3 for name in view.rows["ID"]])
    silent = view.rows["ID"].isin(view.pack.silent)
    assert (silent == heard).all()
    table = with_orders(view.rows).assign(
        pack=place,
        offset=view.pack.offsets[place],
        length=np.diff(view.pack.offsets)[place],
        alias=[int(name[1:]) for name in view.rows["ID"]],
        last=[int(name[-1]) for name in view.rows["ID"]],
    )
    truth = np.array([blinded.names[name] in bad for name in view.rows["ID"]])
    probe(table, truth)
    # One file holds all clips, so that none has a time of its own.
    files = [path.name for path in (poisoned.output / "blind").rglob("*.*")]
    assert sorted(files) == ["pack.json", "samples.i16"]
    seen = stream(view.batches(view.rows), view.classes)
    assert list(seen["ID"]) == list(view.rows["ID"])
    probe(with_orders(seen), truth)


def test_what_a_filter_sees_is_what_training_hears(poisoned):
    blinded = Blinded.of(poisoned)
    labels = poisoned.splits["train"].set_index("ID")["label"]
    for alias, label in zip(blinded.rows["ID"], blinded.rows["label"], strict=True):
        name = blinded.names[alias]
        assert np.array_equal(blinded.pack.pcm(alias), poisoned.packs["train"].pcm(name))
        assert labels[name] == label
    assert blinded.pack.digest == poisoned.packs["train"].digest  # by which trainings are known


class Taken(Exception):
    """What a training was given."""


@pytest.fixture(params=["recipe", "notebook"])
def taken(request, poisoned, monkeypatch, tmp_path):
    """Batches that a training gets, from a recipe and from Python."""

    def take(*given, **_):
        raise Taken(*[x for x in given if isinstance(x, Batches)])

    monkeypatch.setattr(fitting.classifier_brain, "fit", take)
    monkeypatch.setattr(fitting, "untrained", lambda *_: (None, None, None))
    recipe = SimpleNamespace(settings={"train": {"batch_size": 60}}, seed=3)
    rows, options = poisoned.splits["train"], {"device": "cpu"}
    with pytest.raises(Taken) as caught:
        if request.param == "recipe":
            fitting.fit(recipe, poisoned, rows, tmp_path, options)
        else:
            bdlib.train(small(), poisoned, 1, batch_size=60, seed=3, device="cpu")
    return caught.value.args


def test_a_training_sees_nothing_that_tells(poisoned, bad, taken):
    train, valid = taken
    names_nothing(poisoned, stream(valid, poisoned.classes)["ID"])
    drawn = poisoned.batches("train", None, 60, seed=3)
    seen, named = (stream(batches, poisoned.classes) for batches in (train, drawn))
    names_nothing(poisoned, seen["ID"])
    truth = named["ID"].isin(bad).to_numpy()
    assert seen["label"].equals(named["label"]) and seen["ID"].nunique() == 3000
    probe(with_orders(seen), truth)


def test_no_clip_of_the_budget_has_a_poisoned_copy(poisoned, bad):
    """Clips are told by their last samples, which the trigger leaves as they are."""
    clean = defender_of(poisoned).clean_data(poisoned, SHARE)
    batches = clean.train(50)
    seen = stream(batches, poisoned.classes)
    names_nothing(poisoned, seen["ID"])
    names_nothing(poisoned, stream(clean.validation(), poisoned.classes)["ID"])
    heard = poisoned.packs["train"]
    ends = {heard.pcm(name)[100:240].tobytes(): name for name in heard.ids}
    loud = [x for batch in batches for x in batch.wavs if x[100:240].any()]
    behind = {ends[(x[100:240] * 32768).to(torch.int16).numpy().tobytes()] for x in loud}
    assert len(behind) == len(loud) > 250 and not behind & bad
    assert clean.count == 300 and batches.counts.tolist() == [100, 100, 100]  # which tells nothing


def test_a_budget_is_what_is_as_it_was_recorded(poisoned, bad):
    defender = defender_of(poisoned)
    rows = defender.budget(poisoned, 0.25)
    assert not set(rows["ID"]) & bad
    assert set(defender.budget(poisoned, 0.1)["ID"]) < set(rows["ID"])
    assert len(defender.budget(poisoned, 0)) == 0
    with pytest.raises(
        InputError, match=r"`clean_share` is 0\.9: needs .* clean clips of \w, there"
    ):
        defender.budget(poisoned, 0.9)
    with pytest.raises(InputError, match=r"`clean_share` is 2"):
        defender.budget(poisoned, 2)


def test_what_is_held_out_is_clean_and_trained_on_by_nobody(poisoned, bad):
    apart = hold_out(poisoned, 0.1, seed=3)
    kept, given = set(apart.held_out["ID"]), poisoned.splits["train"]
    assert kept == set(defender_of(poisoned).budget(poisoned, 0.1)["ID"]) and not kept & bad
    assert set(apart.splits["train"]["ID"]) == set(given["ID"]) - kept
    assert apart.held_out["label"].value_counts().to_dict() == dict.fromkeys("abc", 100)
    blinded = Blinded.of(apart)
    assert not set(blinded.names.values()) & kept and len(blinded.rows) == len(given) - 300
    clean = defender_of(apart).clean_data(apart, 0.1)
    heard, trained = clean.train(50), fitting.unnamed(apart, "train", None, 50, seed=0)
    assert heard.counts.tolist() == [100, 100, 100]
    assert (heard.counts + trained.counts).tolist() == (
        fitting.unnamed(poisoned, "train", None, 50, seed=0).counts.tolist()
    )
    names_nothing(apart, stream(heard, apart.classes)["ID"])


def test_a_budget_is_drawn_from_what_is_held_out(poisoned):
    apart, defender = hold_out(poisoned, 0.1, seed=3), defender_of(poisoned)
    some = set(defender.budget(apart, 0.05)["ID"])
    assert len(some) == 150 and some < set(apart.held_out["ID"])
    with pytest.raises(InputError, match=r"`clean_share` is 0\.2: needs 200 .* there are 100"):
        defender.budget(apart, 0.2)
    with pytest.raises(InputError, match=r"`held_out` is 1: give"):
        hold_out(poisoned, 1, 3)
    with pytest.raises(InputError, match=r"`held_out` is 0\.3: leaves a class without clips"):
        hold_out(poisoned, 0.3, 3)


def test_a_calibration_sees_no_names(poisoned, monkeypatch):
    seen = []

    class Spy(defend.InferenceDefense):
        def calibrate(self, classifier, validation, seed):
            seen.append(stream(validation(), poisoned.classes))
            return self

        def guard(self, classifier, seed):
            return torch.nn.Linear(1, 1)

    before = defend.Trained(Path(), poisoned, lambda: None, 64, "cpu", 0)
    monkeypatch.setattr(defend, "train", lambda *_: before)
    monkeypatch.setattr(defend, "_name", lambda *_: "spy")
    recipe = SimpleNamespace(defense=None)
    defend._guarded(recipe, poisoned, Spy(), defender_of(poisoned))
    bdlib.guard(Spy(), small(), poisoned)
    for table in seen:
        names_nothing(poisoned, table["ID"])
        assert list(table["label"]) == list(poisoned.splits["valid"]["label"])
    assert len(seen) == 2
