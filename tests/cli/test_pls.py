"""`pls.py`: one autoencoder, all attacks between the classes of a small corpus, a record each."""

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bdlib import listing
from bdlib.cli import defend, pls
from bdlib.defenses.filters.vae_pls.encoder import Corpus, encode
from bdlib.manifest import SPLITS
from bdlib.records.record import read
from bdlib.stages import trial_records
from bdlib.stages.prepare import Prepared

RECIPE = (
    Path(__file__).parents[2] / "recipes" / "SpeechCommands" / "hparams" / "keyword_resnet.yaml"
)
RATE, TONES = 16000, {"a": 400, "b": 900, "c": 1600}
TINY = ("--mels=16", "--f_dim=4", "--z_dim=2", "--conv_dim=8", "--hidden=8", "--conv_channels=4",
        "--window=1024", "--hop=1024", "--autoencoder_steps=14", "--fitted_output=True", "--autoencoder_batch=16",
        "--components=2", "--noprogressbar")  # fmt: skip
ATTACK = ("--attack=tone", "--hertz=3000", "--scale=0.5", "--source=a", "--target=b", "--rate=0.2")


def tones(data_folder, **settings):
    """The `prepare` of the corpus below."""
    parts = {split: listing.from_folder(data_folder / split) for split in SPLITS}
    for split, rows in parts.items():
        rows["wav"] = rows["wav"].str.replace("$data_root", f"$data_root/{split}")
    return Prepared(parts, "subset", "tones")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root, generator = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    for split, count in (("train", 40), ("valid", 3), ("test", 3)):
        for label, hertz in TONES.items():
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pitch = hertz * generator.uniform(0.8, 1.2)
                tone = 0.2 * np.sin(2 * np.pi * pitch * np.arange(RATE // 2) / RATE)
                noisy = tone + 0.05 * generator.standard_normal(RATE // 2)
                soundfile.write(root / split / label / f"{number}.wav", noisy, RATE)
    return root


def start(program, corpus, place, *options, check=True, most_error=9):
    out, err, code, before = io.StringIO(), io.StringIO(), 0, sys.argv
    folders = f"--data_folder={corpus}", f"--output_folder={place}", f"--results_folder={place}/r"
    length = "--pad_seconds=0.5", "--seconds=0.5", f"--most_error={most_error}"
    sys.argv = ["pls.py", *map(str, (RECIPE, *folders, *length, *TINY, *ATTACK, *options))]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            program.main(tones)
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = before
    assert not check or code == 0, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def judged(corpus, tmp_path_factory):
    """Records, and the folder of the run."""
    place = tmp_path_factory.mktemp("exp")
    start(pls, corpus, place, "--defense=vae_pls", "--triggers=tone", "--draws=2",
          "--fractions=0.05,0.2")  # fmt: skip
    return read(place / "r" / "attacks" / "SpeechCommands.jsonl"), place


def test_a_record_for_every_attack_and_draw(judged):
    records, place = judged
    attacks = [record["attack"] for record in records if record["attack"]]
    pairs = [(attack["source"], attack["target"]) for attack in attacks]
    assert sorted(set(pairs)) == [(a, b) for a in "abc" for b in "abc" if a != b]
    assert len(attacks) == 7 and [x["rate"] for x in attacks].count(0.05) == 1  # 0.2 is there
    assert {attack["poisoned"] for attack in attacks if attack["rate"] == 0.2} == {8}
    assert len(records) == 9 and len({record["id"] for record in records}) == 9
    for record in records:
        assert set(record["parts"]) == {"filter", "autoencoder"}
        assert set(record["classes"]) == set(record["scores"]) == set("abc")
        if record["attack"]:
            metrics = record["metrics"]
            assert -1 <= metrics["adjusted_rand_index"]["value"] <= 1
            assert metrics["filter_tpr"]["total"] == record["attack"]["poisoned"]
        else:
            assert record["metrics"]["class_false_alarms"]["total"] == 3
    assert len(list((place / "r" / "figures").glob("pls-scatter-*-vae_pls-*.png"))) == 1
    assert list(place.glob("filters/autoencoder-*/figures/rebuilt.png"))


def test_started_again_nothing_is_trained_or_recorded_twice(judged, corpus):
    records, place = judged
    out, _ = start(pls, corpus, place, "--defense=vae_pls", "--triggers=tone", "--draws=2")
    assert "stands: " in out and "training" not in out and "0 of 8 trials were new" in out
    assert read(place / "r" / "attacks" / "SpeechCommands.jsonl") == records


def test_what_changes_the_waveforms_or_the_training_is_judged_anew(judged, corpus, tmp_path):
    """A sound file that changed in place, clips held out, another length: none is a trial that is known."""
    records, stands = judged
    place = shutil.copytree(stands, tmp_path / "exp")
    known = {record["id"] for record in records}
    sound, played = place / "sound.wav", place / "played.yaml"
    played.write_text(
        "trigger: !new:bdlib.attacks.insert.Insert\n"
        "    sound: !new:bdlib.attacks.sounds.AudioFile\n"
        f"        path: {sound}\n"
    )
    options = ("--defense=vae_pls", f"--triggers={played}", "--pairs=a:b", "--draws=1")
    ids = []
    for hertz, more in ((1000, ()), (1000, ()), (2000, ()), (2000, ("--held_out=0.2",))):
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(RATE // 10) / RATE)
        soundfile.write(sound, tone, RATE)
        start(pls, corpus, place, *options, *more)
        found = read(place / "r" / "attacks" / "SpeechCommands.jsonl")
        ids.append({record["id"] for record in found} - known)
        known |= ids[-1]
    # One attack; nothing; the file in place; held out, the attack and the draw.
    assert [len(new) for new in ids] == [1, 0, 1, 2]


def test_altered_clips_have_the_latents_of_the_poisoned_pack(judged, corpus, monkeypatch):
    """What is encoded clip by clip is what `defend.py` would read from the packed corpus."""
    _, place = judged
    seen = {}

    def spy(bench, trials):
        trial = next(t for t in trials if t.attack and t.attack["target"] == "b"
                     and t.attack["source"] == "a" and t.attack["rate"] == 0.2)  # fmt: skip
        rows, pack = bench.poisoned.splits["train"], bench.poisoned.packs["train"]
        whole = Corpus(pack, rows, bench.recipe.seed, bench.options)
        seen["packed"] = encode(bench.network, whole)
        seen["quick"], seen["clean"] = trial.of(bench.latents), bench.latents
        seen["labels"] = list(rows["label"]), list(trial.labels)
        return iter(())

    monkeypatch.setattr(trial_records, "judge_trials", spy)
    (place / "r" / "attacks" / "SpeechCommands.jsonl").rename(place / "judged.jsonl")
    start(pls, corpus, place, "--defense=vae_pls", "--triggers=tone", "--draws=0")
    assert np.allclose(seen["packed"], seen["quick"], atol=1e-4)
    assert not np.allclose(seen["packed"], seen["clean"], atol=1e-4)
    assert seen["labels"][0] == seen["labels"][1]


def test_defend_and_pls_share_the_autoencoder(judged, corpus):
    _, place = judged
    out, _ = start(defend, corpus, place, "--defense=vae_pls", "--number_of_epochs=1",
                   "--batch_size=16", "--false_alarms=1")  # fmt: skip
    assert "stands: " in out and len(list(place.glob("filters/autoencoder-*"))) == 1
    (record,) = read(place / "r" / "SpeechCommands.jsonl")
    names = {"adjusted_rand_index", "target_class_found", "class_auc", "filter_tpr"}
    assert set(record["parts"]) == {"training", "scores", "filter", "autoencoder"}
    assert names <= set(record["metrics"]), json.dumps(record["metrics"])


def test_pairs_and_seeds_of_the_poison(judged, corpus):
    """Each seed poisons other clips; each pair is one attack a seed."""
    _, place = judged
    start(pls, corpus, place, "--defense=vae_pls_robust", "--triggers=tone", "--draws=1",
          "--pairs=a:b,c:b", "--poison_seeds=0,1,2")  # fmt: skip
    records = read(place / "r" / "attacks" / "SpeechCommands.jsonl")
    records = [r for r in records if r["defense"]["name"] == "vae_pls_robust"]
    assert records[0]["attack"] is None
    attacks = [r["attack"] for r in records[1:]]
    found = [(a["seed"], a["source"], a["target"]) for a in attacks]
    assert found == [(seed, source, "b") for seed in (0, 1, 2) for source in "ac"]
    scores = {(r["attack"]["source"], r["scores"]["b"]) for r in records[1:]}
    assert len(scores) == 6
    assert all(1 < r["model"]["rebuilding_error"] < 9 for r in records)


@pytest.mark.parametrize(
    ("option", "message"),
    [("--pairs=a:b,c", "c is no pair"), ("--pairs=a:a", "a:a is no pair"),
     ("--pairs=a:x", "give source:target of a b c"), ("--poison_seeds=one", "give numbers")],
)  # fmt: skip
def test_bad_options_are_refused(judged, corpus, option, message):
    _, place = judged
    _, err = start(pls, corpus, place, "--defense=vae_pls", "--draws=1", option, check=False)
    assert err.startswith("error: ") and message in err and err.count("\n") == 1


def test_without_a_verdict_nothing_is_recorded(judged, corpus):
    """Two epochs from scale and shift 1 rebuild worse than the mean of the corpus."""
    _, place = judged
    path = place / "r" / "attacks" / "SpeechCommands.jsonl"
    before = path.read_text() if path.exists() else None
    options = "--defense=vae_pls", "--triggers=tone", "--runs=2"
    _, err = start(pls, corpus, place, *options, check=False, most_error=1)
    assert "error: no verdict: the autoencoder rebuilds" in err and "--fitted_output" in err
    assert (path.read_text() if path.exists() else None) == before


def test_other_defenses_are_refused(corpus, tmp_path):
    _, err = start(pls, corpus, tmp_path, "--defense=random_filter", check=False)
    assert err.startswith("error: ") and err.count("\n") == 1
