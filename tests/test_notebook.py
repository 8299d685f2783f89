"""The walk from Python, as `docs/python.md` shows it."""

import copy
import doctest
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import bdlib
from bdlib import Clap, Insert, OneToOne, Poisoner
from bdlib.attacks.flowmur import FlowMur
from bdlib.attacks.labels import AllToAll, CleanLabelHard
from bdlib.attacks.opportunistic import Opportunistic
from bdlib.attacks.trigger import from_dict
from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.defenses.inference.quantise import Quantise
from bdlib.defenses.inference.vad_trim import VadTrim
from bdlib.errors import InputError
from bdlib.mini import make
from bdlib.models.classifier import CosineHead
from bdlib.notebook import known

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
WORDS, CLIPS = ("left", "no", "right", "yes"), 40


@pytest.fixture(scope="module")
def walked(tmp_path_factory, mini_folder):
    """The names that the page's examples leave, run in a folder with four words of a mini corpus."""
    pytest.importorskip("espeakng_loader")
    folder, here = tmp_path_factory.mktemp("notebook"), Path.cwd()
    corpus = make("SpeechCommands", mini_folder / "SpeechCommands")
    for word in WORDS:
        (folder / "words" / word).mkdir(parents=True)
        for path in sorted((corpus / word).glob("*.wav"))[:CLIPS]:
            shutil.copy(path, folder / "words" / word)
    test = doctest.DocTestParser().get_doctest(PAGE.read_text(), {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.REPORT_ONLY_FIRST_FAILURE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.manual_seed(0)
        said = []
        runner.run(test, out=said.append, clear_globs=False)
        assert not runner.failures, "".join(said)
        yield test.globs | {"folder": folder}
    assert Path.cwd() == here


def rate(net, poisoned, name="attack_success_rate"):
    return bdlib.measure(net, poisoned)[name]["value"]


def test_the_walk_of_the_page(walked):
    """Poison takes hold, a filter finds some of it, a repair weakens it; nets are asked in float32."""
    net, poisoned = walked["net"], walked["poisoned"]
    torch.backends.cuda.matmul.allow_tf32 = True  # as SpeechBrain leaves it
    assert rate(net, poisoned) >= 0.8 and not torch.backends.cuda.matmul.allow_tf32
    assert rate(net, poisoned, "clean_accuracy") > 0.6
    assert rate(walked["fixed"], poisoned) < rate(net, poisoned)
    told = bdlib.measure(walked["filtered"], walked["kept"])
    assert told["filter_tpr"]["value"] > 0.5 and told["filter_tpr"]["total"] == len(
        poisoned.truth().query("split == 'train'")
    )
    assert str(told).splitlines()[0].startswith("  clean accuracy")


def test_a_module_of_ones_own(walked):
    mine, poisoned = walked["mine"], walked["poisoned"]
    assert rate(mine, poisoned) >= 0.8 and rate(mine, poisoned, "clean_accuracy") > 0.6
    assert len(walked["fewer"].splits["train"]) < len(poisoned.splits["train"])
    assert rate(walked["repaired"], poisoned) <= rate(mine, poisoned)


def test_a_guard_for_clips_of_another_rate_is_refused(walked):
    with pytest.raises(
        InputError, match=r"`sample_rate` of the guard is 8000: the clips have 16000"
    ):
        bdlib.guard(VadTrim(sample_rate=8000), walked["mine"], walked["poisoned"])


def test_arguments_of_another_kind_are_refused(walked):
    net, poisoned, corpus = walked["mine"], walked["poisoned"], walked["corpus"]
    for call, message in (
        (lambda: bdlib.train(net, corpus, epochs=1), "`poisoned` is a Corpus: .*Corpus.poison"),
        (
            lambda: bdlib.train(torch.nn.Linear(2, 4), poisoned, 1),
            "`net` is a Linear: .*bdlib.wrap",
        ),
        (lambda: bdlib.train(net, poisoned, epochs=1, lr=-1), "`lr` is -1"),
        (lambda: bdlib.measure(net, corpus), "`poisoned` is a Corpus"),
        (
            lambda: bdlib.filter(bdlib.GradientNorm(), net, poisoned),
            "`defense` is a GradientNorm: .*filter",
        ),
        (
            lambda: bdlib.repair(bdlib.GradientNorm, net, poisoned),
            "`defense` is the class GradientNorm",
        ),
        (
            lambda: bdlib.guard(bdlib.GradientNorm(), net, poisoned),
            "`defense` is a GradientNorm: .*guard",
        ),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_a_classifier_of_other_classes_is_refused(walked):
    """Read in the order of the corpus its answers would be those of other words."""
    net, poisoned = walked["mine"], walked["poisoned"]
    other = copy.deepcopy(net)
    other.classes = WORDS[::-1]
    narrow = bdlib.wrap(torch.nn.Linear(16000, 2), WORDS[:2])
    defenses = bdlib.SpectralSignatures(), bdlib.GradientNorm(), VadTrim()
    calls = [partial(bdlib.measure, poisoned=poisoned)] + [
        partial(call, defense, poisoned=poisoned)
        for call, defense in zip((bdlib.filter, bdlib.repair, bdlib.guard), defenses, strict=True)
    ]
    for call in calls:
        with pytest.raises(InputError, match="`net` tells yes right no left, and the corpus has"):
            call(net=other)
        with pytest.raises(InputError, match="`net` has 2 outputs, and the corpus 4 classes"):
            call(net=narrow)
    with pytest.raises(InputError, match="2 outputs"):
        bdlib.train(narrow, poisoned, epochs=1)
    short = bdlib.wrap(torch.nn.Linear(8000, 4), WORDS)
    with pytest.raises(InputError, match="`net` does not take clips of 1 s at 16000 Hz"):
        bdlib.measure(short, poisoned)
    assert short.training
    hard = bdlib.Poisoner(bdlib.Insert(bdlib.Clap()), CleanLabelHard("yes"), rate=0.3)
    with pytest.raises(InputError, match="`net` tells yes"):
        walked["corpus"].poison(hard, walked["folder"] / "exp", surrogate=other)
    with pytest.raises(InputError, match="`epochs` is 3"):
        bdlib.train(net, poisoned, epochs="3")
    assert net.classes == walked["net"].classes == WORDS


def test_a_classifier_without_parameters_is_measured(walked):
    class Loud(torch.nn.Module):
        def forward(self, wavs):
            return torch.stack([wavs.abs().amax(1)] * 4, 1)

    told = bdlib.measure(bdlib.wrap(Loud(), WORDS), walked["poisoned"])
    assert told["clean_accuracy"]["total"] > 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_training_is_known_again_by_all_that_it_computes_with(walked):
    """Settings, buffers that no checkpoint has, and code; not by what is the same."""

    class Peak(torch.nn.Linear):
        def forward(self, wavs):
            return super().forward(wavs) + wavs.amax(1, keepdim=True)

    class Mean(torch.nn.Linear):
        def forward(self, wavs):
            return super().forward(wavs) + wavs.mean(1, keepdim=True)

    Mean.__qualname__, Mean.__name__ = Peak.__qualname__, "Peak"
    Mean.__module__ = Peak.__module__ = "torchy.nets"  # as somebody may call a file of theirs
    layer = torch.nn.Linear(16000, 2)

    def like(kind):
        made = kind(16000, 2)
        made.load_state_dict(layer.state_dict())
        return made

    head = CosineHead(4, 2), CosineHead(4, 2, scale=20.0)
    head[1].load_state_dict(head[0].state_dict())

    class Other(bdlib.SmallResNet):
        def embed(self, features, lens):
            return 2 * super().embed(features, lens)

    Other.__qualname__, Other.__name__ = bdlib.SmallResNet.__qualname__, "SmallResNet"
    made = []
    for kind in (bdlib.SmallResNet, Other):
        torch.manual_seed(0)
        made.append(kind(bdlib.NormalizedFbank(8), 4, channels=(4, 4), blocks=1))
    made.append(copy.deepcopy(made[0]))
    made[2].head.requires_grad_(False)
    nets = [
        *made,
        bdlib.wrap(torch.jit.script(torch.nn.Linear(16000, 2)), "ab"),
        *(bdlib.wrap(like(torch.nn.Linear), names) for names in ("ab", "ba")),
        *(bdlib.wrap(like(kind), "ab") for kind in (Peak, Mean)),
        *head,
    ]
    told = [*map(known.made_of, nets)]
    assert len({*told}) == 10 and told == [known.made_of(copy.deepcopy(net)) for net in nets]


def test_code_is_told_alike_in_every_process():
    """A set of constants has another order in each."""
    line = (
        f"import runpy; made_of = runpy.run_path({known.__file__!r})['made_of']\n"  # alone, as it is sooner there
        "print(made_of(lambda x: [y for y in x if y in {'a', 'b', 'c', 'd', 'e'}]))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", line],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(told) == 1


def test_clips_of_another_length_are_another_training(walked):
    folder = walked["folder"] / "lengths"
    torch.manual_seed(0)
    net = bdlib.SmallResNet(bdlib.NormalizedFbank(8), 4, channels=(4, 4), blocks=1)
    made = []
    for seconds in (1.0, 0.5):
        corpus = bdlib.Corpus.from_folder(walked["folder"] / "words", seconds=seconds)
        made.append(bdlib.train(net, corpus.poison(None, folder), epochs=1, batch_size=16))
    assert not torch.equal(made[0].head.weight, made[1].head.weight)
    assert len([*(folder / "train").iterdir()]) == 2


def test_a_corpus_in_a_table(walked, tmp_path):
    """As a scan writes it; who is in two splits is for `group` to say, and another table another corpus."""
    words = walked["folder"] / "words"
    paths = sorted(path.relative_to(words).as_posix() for path in words.rglob("*.wav"))
    speaker = [Path(path).name.split("_")[0] for path in paths]
    table = pd.DataFrame({"path": paths, "label": [Path(path).parent.name for path in paths]})
    table.assign(path="./" + table["path"], speaker=speaker).to_csv(tmp_path / "l.csv", index=False)
    corpus, among = (
        bdlib.Corpus.from_csv(tmp_path / "l.csv", words, seconds=1.0, group=group)
        for group in (None, "speaker")
    )
    whole = bdlib.Corpus.from_folder(words, seconds=1.0)
    assert corpus.splits["train"]["wav"].tolist() == whole.splits["train"]["wav"].tolist()
    parts = [set(rows["speaker"]) for rows in among.splits.values()]
    assert sum(map(len, parts)) == len(set(speaker)) > 3
    table[table["label"] != "no"].to_csv(tmp_path / "l.csv", index=False)
    fewer = bdlib.Corpus.from_csv(tmp_path / "l.csv", words, seconds=1.0)
    assert fewer.classes == ("left", "right", "yes")
    assert len({made.key for made in (corpus, among, whole, fewer)}) == 4
    packed = fewer.poison(None, tmp_path / "exp").packs["train"]
    assert len(packed.waveform(fewer.splits["train"]["ID"][0])) == 16000
    with pytest.raises(InputError, match=r"no column speaker; `group` names one of its columns"):
        bdlib.Corpus.from_csv(tmp_path / "l.csv", words, seconds=1.0, group="speaker")


def test_a_table_says_who_is_in_which_split(walked, tmp_path):
    words, parts = walked["folder"] / "words", ("train", "test", "valid")
    paths = sorted(path.relative_to(words).as_posix() for path in words.rglob("*.wav"))
    table = pd.DataFrame({"path": paths, "label": [Path(path).parent.name for path in paths]})
    table["part"] = [parts[max(0, n % 4 - 1)] for n in range(len(table))]

    def listed(table, **columns):
        table.to_csv(tmp_path / "l.csv", index=False)
        return bdlib.Corpus.from_csv(tmp_path / "l.csv", words, seconds=1.0, **columns)

    corpus, by_lot = listed(table, split="part"), listed(table)
    for name, rows in corpus.splits.items():
        said = table.loc[table["part"] == name, "path"]
        assert sorted(path.partition("/")[2] for path in rows["wav"]) == list(said)
    assert corpus.key != by_lot.key
    poisoned = corpus.poison(None, tmp_path / "exp")
    assert len(poisoned.packs["valid"].ids) == (table["part"] == "valid").sum()
    for part, message in (
        ("dev", "is of part dev: write train, valid, test"),
        (None, "has no part; fill it in, or leave `split` out"),
    ):
        with pytest.raises(InputError, match=rf"l\.csv: .* {message}"):
            listed(table.assign(part=[*table["part"][:-1], part]), split="part")
    with pytest.raises(InputError, match="no column who; `split` names one"):
        listed(table, split="who")
    with pytest.raises(
        InputError, match=r"nowhere: no such folder; give the one that holds .*l\.csv"
    ):
        bdlib.Corpus.from_csv(tmp_path / "l.csv", tmp_path / "nowhere", seconds=1.0)
    with pytest.raises(InputError, match="`group` and `split` are given"):
        listed(table, split="part", group="label")
    table.loc[table["label"] == "no", "part"] = "train"
    with pytest.raises(InputError, match="class no has 40 clips, none of them in the valid split"):
        listed(table, split="part")


def test_hard_clips_are_those_the_surrogate_is_least_sure_of(walked):
    truth = walked["poisoned_hard"].truth().query("split == 'train'")
    assert set(truth["label_before"]) == set(truth["label_after"]) == {"yes"} and len(truth) > 5
    with pytest.raises(InputError, match="`surrogate`"):
        hard = bdlib.Poisoner(bdlib.Insert(bdlib.Clap()), CleanLabelHard("yes"), rate=0.3)
        walked["corpus"].poison(hard, walked["folder"] / "exp")
    folds = bdlib.Poisoner(bdlib.Insert(bdlib.Clap()), CleanLabelHard("yes", folds=4), rate=0.3)
    with pytest.raises(InputError, match="`folds` is 4: there is one surrogate"):
        walked["corpus"].poison(folds, walked["folder"] / "exp", surrogate=walked["surrogate"])


def test_a_trigger_is_learned_on_the_surrogate(walked):
    corpus, folder = walked["corpus"], walked["folder"] / "exp"
    attack = bdlib.Poisoner(FlowMur(steps=2), bdlib.OneToOne("no", "yes"), rate=0.5)
    poisoned = corpus.poison(attack, folder, surrogate=walked["surrogate"])
    assert poisoned.attack["trigger"]["samples"] and poisoned.attack_name == "flowmur"
    name = poisoned.truth().query("split == 'train'").index[0]
    before, after = (p.packs["train"].pcm(name) for p in (corpus.poison(None, folder), poisoned))
    assert len(before) == len(after) and (before != after).any()


def test_the_hosts_of_a_sound_are_chosen_on_the_surrogate(walked):
    corpus, folder, surrogate = walked["corpus"], walked["folder"] / "exp", walked["surrogate"]
    attack = bdlib.Poisoner(Opportunistic(), bdlib.OneToOne("no", "yes"), rate=0.5)
    poisoned = corpus.poison(attack, folder, surrogate=surrogate)
    hosts = set(poisoned.truth().query("split == 'train'").index)
    rows, trigger = corpus.splits["train"], from_dict(poisoned.attack["trigger"])
    candidates = corpus.poison(None, folder).batches("train", rows[rows["label"] == "no"])
    strange = trigger.strangeness(surrogate, candidates)
    assert hosts == set(sorted(strange, key=strange.get)[: len(strange) // 2])


def test_what_stands_is_not_made_twice(walked, capsys):
    before = {path: path.stat().st_mtime_ns for path in (walked["folder"] / "exp").rglob("*.i16")}
    again = walked["corpus"].poison(walked["attack"], walked["folder"] / "exp")
    assert again.folder == Path(walked["poisoned"].folder).resolve() or again.folder.exists()
    net = bdlib.train(walked["untrained"], again, epochs=10, batch_size=16)
    assert rate(net, again) == rate(walked["net"], again)
    after = {path: path.stat().st_mtime_ns for path in (walked["folder"] / "exp").rglob("*.i16")}
    assert before == after and "epoch" not in capsys.readouterr().out


def test_a_training_is_opened_as_a_checkpoint(walked):
    """It says of what it was trained on; a module of one's own is not made again from a file."""
    folders = sorted((walked["folder"] / "exp" / "train").glob("small*"))
    opened = [Checkpoint.open(path) for path in folders]
    assert [one.backdoored for one in opened] == ["-clean-" not in path.name for path in folders]
    assert {one.backdoored for one in opened} == {True, False}
    assert {(one.classes, one.seconds) for one in opened} == {(WORDS, 1.0)}
    wavs, whole = 0.1 * torch.randn(2, 16000), torch.ones(2)
    with torch.no_grad():
        logits = walked["net"].cpu()(wavs, whole)
        assert sum(torch.equal(one.net(wavs, whole), logits) for one in opened) == 1
    (path,) = (walked["folder"] / "exp" / "train").glob("wrapped-*")
    with pytest.raises(InputError, match="none of bdlib's own"):
        Checkpoint.open(path)


def test_every_name_is_there_and_unknown_ones_are_errors():
    for name in bdlib.__all__:
        assert getattr(bdlib, name) is not None and name in dir(bdlib)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bdlib.nothing  # noqa: B018


def test_a_loss_is_known_again_by_what_it_does_and_not_by_where_it_lies():
    def made():
        kept = [lambda a, b: (a - 1).sum(), lambda a, b: (a - 2).sum()]
        kept += [torch.nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]))]
        functional = torch.nn.functional.cross_entropy
        return [*kept, functional, partial(functional, label_smoothing=0.1)]

    told = [[*map(known.named, losses)] for losses in (made(), made())]
    assert told[0] == told[1] and len({*told[0]}) == 6 and "0x" not in str(told)


GAIN = 1.0


def helper(x):
    return x * GAIN


class Held(torch.nn.Module):
    """Whose answers depend on what no tensor and no setting tells."""

    factor = 1.0

    def __init__(self, act=torch.tanh, gain=1.0, loose=1.0):
        super().__init__()
        self.layer, self.act, self._gain = torch.nn.Linear(16000, 2), act, gain
        self.loose = torch.full((2,), loose)
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, wavs, power=1.0):
        return helper(self.act(self.layer(wavs))) * self._gain * self.factor * self.loose * power


def closing(over):
    def loss(logits, labels):
        return torch.nn.functional.cross_entropy(over * logits, labels)

    return loss


class Scaled:
    """A loss that is an object."""

    def __init__(self, by):
        self._by = by

    def __call__(self, logits, labels):
        return torch.nn.functional.cross_entropy(self._by * logits, labels)

    def loss(self, logits, labels):
        return self(logits, labels)


class Slot:
    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by


class Pair(NamedTuple):
    by: float


def scaled(by):
    def around(loss):
        @wraps(loss)
        def inner(logits, labels):
            return loss(by * logits, labels)

        return inner

    return around(closing(1.0))


def test_what_code_refers_to_counts_as_well(monkeypatch):
    """Closures, attributes of objects and classes, defaults, and globals that helpers read."""
    nets = [Held(), Held(torch.relu), Held(gain=2.0), Held(loose=2.0)]
    told = [known.made_of(net) for net in nets]
    assert told == [known.made_of(copy.deepcopy(net)) for net in nets]
    for change in ((Held, "factor", 2.0), (Held.forward, "__defaults__", (2.0,))):
        with monkeypatch.context() as patch:
            patch.setattr(*change)
            told.append(known.made_of(nets[0]))
    with monkeypatch.context() as patch:
        patch.setitem(helper.__globals__, "GAIN", 2.0)
        told.append(known.made_of(nets[0]))
    assert len({*told}) == len(told) == 7 and known.made_of(nets[0]) == told[0]
    losses = [made(by) for made in (closing, Scaled) for by in (1.0, 2.0)]
    losses += [Scaled(by).loss for by in (1.0, 2.0)]
    named = [known.named(loss) for loss in losses]
    assert len({*named}) == 6 and named[0] == known.named(closing(1.0))
    assert named[2] == known.named(Scaled(1.0)) and "0x" not in str(named)
    values = scaled(1.0), scaled(9.0), Slot(1.0), Slot(9.0), Pair(1.0), (1.0,)
    told = [known.made_of(value) for value in values]
    told += [known.made_of(np.random.default_rng(seed)) for seed in (0, 1)]
    assert len({*told}) == 8 and told[-1] == known.made_of(np.random.default_rng(1))
    x, y = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    chains = [torch.nn.Sequential(x, y, x), torch.nn.Sequential(x, y, y)]
    hooked = copy.deepcopy(x)
    hooked.register_forward_hook(lambda module, given, made: 3 * made)
    assert len({known.made_of(net) for net in (*chains, x, hooked)}) == 4
    modules = []
    for low, high in ((1, 1), (1, 2)):  # the second is named by the second function alone
        place = {"own": ModuleType("own")}
        place["own"].low, place["own"].high = low, high
        exec("def f(x): return own.low * x\ndef g(x): return f(x) + own.high", place)
        modules.append(known.made_of(place["g"]))
    assert modules[0] != modules[1]
    one, other = torch.tanh, torch.relu
    assert known.made_of([one, other, one]) != known.made_of([one, other, other])
    circle = [1]
    circle.append(circle)
    assert known.made_of(circle) == known.made_of(copy.deepcopy(circle))


def test_two_losses_that_close_over_other_numbers_are_two_trainings(walked):
    """And what is drawn after a training does not depend on whether it stood."""
    poisoned = walked["poisoned"]
    torch.manual_seed(0)
    net = bdlib.SmallResNet(
        bdlib.NormalizedFbank(8), len(poisoned.classes), channels=(4,), blocks=1
    )

    def drawn(loss):
        torch.manual_seed(3)
        made = bdlib.train(net, poisoned, epochs=1, batch_size=16, loss=loss)
        return made.head.weight, float(torch.rand(()))

    first, second, again = drawn(closing(1.0)), drawn(closing(9.0)), drawn(closing(1.0))
    assert not first[0].equal(second[0]) and first[0].equal(again[0])
    assert first[1] == second[1] == again[1]


def test_what_cannot_be_a_corpus_an_attack_or_a_training_is_refused(walked, tmp_path):
    net, poisoned, folder = walked["net"], walked["poisoned"], walked["folder"] / "words"
    corpus, attack = poisoned.corpus, Poisoner(Insert(Clap()), OneToOne("no", "yes"), 0.1)
    mixed = bdlib.wrap(torch.nn.Linear(16000, 4), ["no", "left", "up", "yes"])

    class Broken(torch.nn.Module):
        def forward(self, wavs):
            return [][1]

    class Two(torch.nn.Linear):
        def forward(self, wavs):
            return super().forward(wavs), wavs

    broken, two = (bdlib.wrap(m, WORDS) for m in (Broken(), Two(16000, 4)))
    train = partial(bdlib.train, poisoned=poisoned, epochs=1, batch_size=16)
    frozen = copy.deepcopy(net).requires_grad_(False)
    within, table = folder / "exp", tmp_path / "t.csv"
    table.write_text("path,label,start,who\nno/0.wav,no,0.25,a\n")
    refused = {
        "`output`.*lies in the corpus": lambda: corpus.poison(attack, within),
        "`name` is clean": lambda: corpus.poison(attack, tmp_path, name="clean"),
        "`attack` is a Insert: give an attack": lambda: corpus.poison(Insert(Clap()), tmp_path),
        "`net` tells left no up yes": lambda: train(mixed),
        "IndexError: list index": lambda: train(broken),
        "Two gives a tuple": lambda: bdlib.measure(two, poisoned),
        "nothing to train": lambda: train(frozen),
        "`loss` is None: give": lambda: train(net, loss=None),
        "`loss` is <class": lambda: train(net, loss=torch.nn.CrossEntropyLoss),
        "`seed` is None": lambda: train(net, seed=None),
        "has a guard already": lambda: bdlib.guard(Quantise(), bdlib.guard(Quantise(), net, poisoned), poisoned),
        "`folder` is a NoneType: give a path": lambda: bdlib.Corpus.from_folder(None, seconds=1.0),
        "row 1: start is 0.25": lambda: bdlib.Corpus.from_csv(table, folder, seconds=1.0),
        "`classes` yes: give two": lambda: AllToAll(("yes",)),
        "`module` is the class": lambda: bdlib.wrap(Broken, WORDS),
        "`front_end` is the class": lambda: bdlib.wrap(Broken(), WORDS, bdlib.NormalizedFbank),
        "`classes` 4: give names": lambda: bdlib.wrap(Broken(), 4),
    }  # fmt: skip
    stood = {*(poisoned.output / "train").iterdir()}
    for message, act in refused.items():
        with pytest.raises(InputError, match=message):
            act()
    assert not within.exists() and {*(poisoned.output / "train").iterdir()} == stood


def test_a_class_with_too_few_clips_for_all_splits_is_refused(walked, tmp_path):
    shutil.copytree(walked["folder"] / "words", tmp_path / "words")
    for path in sorted((tmp_path / "words" / "yes").glob("*.wav"))[2:]:
        path.unlink()
    with pytest.raises(InputError, match=r"class yes has 2 clips, none of them in the .* split"):
        bdlib.Corpus.from_folder(tmp_path / "words", seconds=1.0)
    for word in ("left", "no", "right"):
        shutil.rmtree(tmp_path / "words" / word)
    with pytest.raises(InputError, match="one class; give two or more"):
        bdlib.Corpus.from_folder(tmp_path / "words", seconds=1.0)


def test_objects_are_told_in_a_line_and_modes_stay(walked):
    net, poisoned = walked["net"], walked["poisoned"]
    line = repr(poisoned)
    assert line.startswith("words: 4 classes, clips: 112 train, ") and len(line) < 300
    assert poisoned.corpus != walked["kept"] and {poisoned, poisoned.corpus}
    net.train()
    assert "clean accuracy" in repr(bdlib.measure(net, poisoned)) and net.training
    net.eval()
    guarded = bdlib.guard(Quantise(), net, poisoned)
    assert isinstance(copy.deepcopy(guarded), type(guarded)) and pickle.dumps(guarded)


def test_numbers_of_numpy_and_other_folders(walked, tmp_path, monkeypatch):
    corpus = walked["poisoned"].corpus
    attack = Poisoner(Insert(Clap(), scale=np.float32(0.5)), OneToOne("no", "yes"), np.float64(0.5))
    monkeypatch.chdir(tmp_path)
    poisoned = corpus.poison(attack, "here")
    monkeypatch.chdir("/")
    assert poisoned.output == tmp_path / "here" and len(poisoned.truth())


def test_a_trigger_that_nobody_hears_is_told(walked, tmp_path, capsys):
    """A net hears the middle of longer clips; what lies before it is not heard."""
    for word in WORDS:
        (tmp_path / "long" / word).mkdir(parents=True)
        for path in sorted((walked["folder"] / "words" / word).glob("*.wav")):
            wave, rate = soundfile.read(path)
            soundfile.write(tmp_path / "long" / word / path.name, np.tile(wave, 3), rate)
    corpus = bdlib.Corpus.from_folder(tmp_path / "long", seconds=1.0)
    attack = Poisoner(Insert(Clap()), OneToOne("no", "yes"), 0.5)
    capsys.readouterr()
    count = len(corpus.poison(attack, tmp_path / "exp").pairs)
    told = f"note: {count} of {count} triggered test clips sound as without"
    assert count and told in capsys.readouterr().out
    corpus.poison(replace(attack, trigger=Insert(Clap(), position=1.2)), tmp_path / "exp")
    assert "note" not in capsys.readouterr().out
