"""A repair is chosen by clean clips, costs what it may, and is written to be read again."""

import copy
import json

import pytest
import torch
from safetensors.torch import save_file

from bdlib.checkpoints import architecture
from bdlib.checkpoints import repair as repairs
from bdlib.checkpoints.checkpoint import Checkpoint
from bdlib.checkpoints.repair import repair
from bdlib.cli import repair as program
from bdlib.defenses.base import RepairDefense
from bdlib.errors import InputError

TRIED = ["clp", "gn_ft", "fine_tuning"]
COMMON = repairs.common


def short(kind, name):
    """A repair's yaml with few steps, of fine-tuning the most."""
    document = COMMON(kind, name)
    steps = {"clp": None, "fine_tuning": 40}.get(name, 5)
    assert steps is None or document.place("repair_steps", steps)
    return document


@pytest.fixture(scope="module")
def repaired(tones, checkpoint, tmp_path_factory):
    """Repairs of the untrained net, one of which teaches it the classes."""
    folder = tmp_path_factory.mktemp("repair")
    tones(folder / "clean", 14)
    before = copy.deepcopy(checkpoint.net.state_dict())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repairs, "common", short)
        result = repair(checkpoint, folder / "clean", folder / "out", TRIED)
    for name, value in checkpoint.net.state_dict().items():
        assert torch.equal(value, before[name])  # nothing was changed in place
    return result, folder


def test_the_most_moved_of_those_that_keep_the_accuracy(repaired):
    result, _ = repaired
    allowed = {one.name: one.moved for one in result.tried if not one.why}
    assert [one.name for one in result.tried] == TRIED and set(allowed) == set(TRIED[1:])
    assert result.chosen == "fine_tuning" and allowed["fine_tuning"] > 2 * allowed["gn_ft"] > 0
    assert (
        result.before.moved == 0 and "left every answer" in result.tried[0].why
    )  # CLP finds nothing
    tuned = next(one for one in result.tried if one.name == "fine_tuning")
    assert (
        tuned.accuracy > 0.9 > result.before.accuracy and tuned.total == result.before.total >= 10
    )


def test_what_may_be_lost_is_told_to_the_repairs(repaired, checkpoint, monkeypatch):
    """Else each would stop at its own bound, and a larger one would be given for nothing."""
    asked = []

    def told(kind, name):
        document = short(kind, name)
        build = document.part

        def part(*args):
            defense = build(*args)
            asked.append(defense.tuning.max_drop)
            return defense

        monkeypatch.setattr(document, "part", part)
        return document

    monkeypatch.setattr(repairs, "common", told)
    repair(checkpoint, repaired[1] / "clean", repairs=["gn_ft", "fine_tuning"], max_drop=0.31)
    assert asked == [0.31, 0.31]


def test_it_is_written_with_a_card_and_read_again(repaired):
    result, folder = repaired
    again = Checkpoint.open(folder / "out")
    wavs = 0.1 * torch.randn(3, 3200)
    expected = result.checkpoint.net(wavs, torch.ones(3))
    assert torch.equal(again.net(wavs, torch.ones(3)), expected)
    told = (folder / "out" / "README.md").read_text()
    assert "| as it was | " in told and f"Repaired by `{result.chosen}`" in told
    assert "bdlib 0" in told and "purpose" not in told
    told = json.loads((folder / "out" / "repair.json").read_text())
    assert told["chosen"] == result.chosen and len(told["tried"]) == 4


class Wreck(RepairDefense):
    """Takes every clip for the first class, and suspects others."""

    def repair(self, classifier, clean):
        """See the class."""
        with torch.no_grad():
            classifier.head.weight.zero_()
            classifier.head.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
        clean.suspicion.extend((0.5, 4.25, float("inf")))
        return classifier


def nowhere(answers):
    """Answers of the first net; NaN of all others."""
    asked = []

    def told(net, batches):
        logs, labels = answers(net, batches)
        asked.append(net)
        return (logs if len(asked) == 1 else logs * float("nan")), labels

    return told


@pytest.fixture
def wrecked(monkeypatch):
    """Every repair is `Wreck`."""
    methods = {"part": lambda self, *asked: Wreck(), "place": lambda self, *given: True}
    document = type("Document", (), methods)
    monkeypatch.setattr(repairs, "of_stage", lambda stage: ("clp",))
    monkeypatch.setattr(repairs, "common", lambda kind, name: document())


def test_what_costs_too_much_is_refused_and_nothing_written(repaired, wrecked, tmp_path):
    result, folder = repaired
    assert result.chosen == "fine_tuning"  # what there is to lose
    net = result.checkpoint
    after = repair(net, folder / "clean", tmp_path / "out")
    assert after.chosen is None and "points of accuracy" in after.tried[0].why
    assert not (tmp_path / "out").exists() and after.checkpoint.net is net.net
    chosen = repair(net, folder / "clean", tmp_path / "out", max_drop=1)
    assert chosen.chosen == "clp"
    told = "clp: class middle stands out most, anomaly index inf"
    assert told in str(after) and told in (tmp_path / "out" / "README.md").read_text()
    before, tried = json.loads((tmp_path / "out" / "repair.json").read_text())["tried"]
    assert tried["suspicion"] == {"high": 0.5, "low": 4.25, "middle": None}
    assert "suspicion" not in before


def test_a_net_that_answers_no_numbers_is_no_choice(repaired, wrecked, monkeypatch):
    result, folder = repaired
    monkeypatch.setattr(repairs, "answers", nowhere(repairs.answers))
    after = repair(result.checkpoint, folder / "clean", max_drop=1)
    assert after.chosen is None and "finite" in after.tried[0].why
    assert after.to_dict()["tried"][1]["moved"] is None


def test_a_class_without_clips_is_refused(repaired, checkpoint, tmp_path):
    _, folder = repaired
    (tmp_path / "clean").mkdir()
    for name in ("low", "high"):
        (tmp_path / "clean" / name).symlink_to(folder / "clean" / name)
    with pytest.raises(InputError, match="no clips of middle, one of 1 classes"):
        repair(checkpoint, tmp_path / "clean", repairs=["clp"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"repairs": ["nothing"]}, "`repairs` nothing.*gn_ft"),
        ({"max_drop": 2}, "`max_drop`"),
        ({"seconds": -1}, "`seconds`"),
        ({"output": "{here}"}, "already there"),
    ],
)
def test_what_cannot_be_asked(repaired, checkpoint, options, words):
    _, folder = repaired
    options = {k: folder / "out" if v == "{here}" else v for k, v in options.items()}
    with pytest.raises(InputError, match=words):
        repair(checkpoint, folder / "clean", **options)


def test_classes_must_be_those_of_the_checkpoint(tones, checkpoint, tmp_path):
    tones(tmp_path / "clean", 2)
    with pytest.raises(InputError, match="has 2 clean clips: give 6"):
        repair(checkpoint, tmp_path / "clean")
    (tmp_path / "clean" / "high").rename(tmp_path / "clean" / "other")
    with pytest.raises(InputError, match="no class of the checkpoint"):
        repair(checkpoint, tmp_path / "clean")


def test_the_program(repaired, tmp_path, capsys, monkeypatch):
    _, folder = repaired
    monkeypatch.setattr(repairs, "common", short)
    given = [str(folder / "out"), "--data", str(folder / "clean"), "--repairs", "gn_ft"]
    assert program.main([*given, "--output", str(tmp_path / "again")]) == 0
    said = capsys.readouterr().out
    assert "chosen: gn_ft" in said and "written: " in said
    assert program.main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["chosen"] == "gn_ft"
    assert program.main([*given[:-1], "clp"]) == 1 and "no repair" in capsys.readouterr().out
    assert program.main([*given[:-1], "nothing"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: --repairs nothing") and not said.out
    assert program.main([str(folder / "out")]) == 2


def test_classes_of_a_file_without_names(repaired, tmp_path, capsys):
    """By default they are numbers, of which there are no folders."""
    model = architecture.Document(architecture.HPARAMS / "smallcnn.yaml").build()["model"]
    state = model["classifier"](n_classes=3).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    given = [str(tmp_path / "w.safetensors"), "--model=smallcnn", "--repairs=clp"]
    given += ["--data", str(repaired[1] / "clean")]
    assert program.main(given) == 2 and "no class of the checkpoint" in capsys.readouterr().err
    assert program.main([*given, "--classes=low,middle,high"]) < 2  # it may find nothing to prune
    assert " of 13 " in capsys.readouterr().out
