"""What `defend.py` shows a defense, and what it records of it."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bdlib import listing, manifest
from bdlib.cli import defend
from bdlib.defenses.filters.label_disagreement import LabelDisagreement
from bdlib.defenses.repair.mask_inversion import MaskInversion
from bdlib.evaluation.neurons import GROUPS
from bdlib.manifest import SPLITS
from bdlib.records import provenance
from bdlib.records.record import read
from bdlib.stages import defend as stages_of_defend
from bdlib.stages import fitting, vetting
from bdlib.stages.blind import Defender
from bdlib.stages.prepare import Prepared

pytestmark = pytest.mark.usefixtures("unpainted")
RECIPES = Path(__file__).parents[2] / "recipes"
SPY = """
from bdlib.defenses.base import FilterDefense

class Spy(FilterDefense):
    clean_share = 0.5

    def scores(self, view):
        Spy.rows = [*view.rows["ID"]]
        Spy.packed = set(view.pack.ids)
        some = view.rows[::-1].reset_index(drop=True)
        Spy.asked, Spy.got = [*some["ID"]], [n for b in view.batches(some) for n in b.ids]
        Spy.heard = [float(w[:9].sum()) for b in view.batches(some) for w in b.wavs]
        Spy.there = [float(view.pack.waveform(name)[:9].sum()) for name in some["ID"]]
        return {name: float(n == 0) for n, name in enumerate(view.rows["ID"])}

    def keep(self, scores):
        return [name for name, score in scores.items() if not score]
"""


@pytest.fixture
def corpus(tmp_path):
    """Two classes of noise, 10 clips a class and split."""
    generator = np.random.default_rng(0)
    for split in SPLITS:
        for label in ("a", "b"):
            folder = tmp_path / "corpus" / split / label
            folder.mkdir(parents=True)
            for number in range(10):
                noise = 0.1 * generator.standard_normal(8000)
                soundfile.write(folder / f"{number}.wav", noise, 16000)
    return tmp_path / "corpus"


def split(data_folder, **settings):
    parts = {name: listing.from_folder(data_folder / name) for name in SPLITS}
    for name, rows in parts.items():
        rows["wav"] = rows["wav"].str.replace("$data_root", f"$data_root/{name}")
    return Prepared(parts, "subset", "noise")


def read_text(path):
    return path.read_text("utf-8")


def timeless(value):
    """A record without its times."""
    if isinstance(value, dict):
        times = {"time", "score_ms"}
        return {key: timeless(item) for key, item in value.items() if key not in times}
    return value


def command(monkeypatch, corpus, tmp_path, *options, natural=None, rate="0.5"):
    """The command line of an attack on that corpus, of tones if not told, in a short training."""
    yaml = RECIPES / "RAVDESS" / "hparams" / "xvector_small.yaml"
    attack = natural or ["--attack=tone", "--labels=one_to_one", "--source=a", "--target=b",
                         "--of=source", *([f"--rate={rate}"] if rate else [])]  # fmt: skip
    brief = ["--number_of_epochs=1", "--batch_size=6", "--seconds=0.5"]
    folders = [f"--data_folder={corpus}", f"--output_folder={tmp_path}/exp",
               f"--results_folder={tmp_path}/results", "--noprogressbar"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["defend.py", str(yaml), *brief, *attack, *options, *folders])


def test_a_filter_sees_aliases_in_the_order_it_asks_for(corpus, tmp_path, monkeypatch):
    (tmp_path / "spying.py").write_text(SPY)
    (tmp_path / "spy.yaml").write_text("defense: !new:spying.Spy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(vetting, "OURS", (*vetting.OURS, tmp_path))
    command(monkeypatch, corpus, tmp_path, f"--defense={tmp_path / 'spy.yaml'}")
    defend.main(split)
    spy = sys.modules["spying"].Spy
    (poisoned,) = (tmp_path / "exp" / "poison").glob("*/train.csv")
    names = set(manifest.read(poisoned)["ID"])
    assert len(names) == 20 and not names & {*spy.rows, *spy.packed, *spy.got}
    assert spy.got == spy.asked == spy.rows[::-1] and spy.packed == set(spy.rows)
    np.testing.assert_allclose(spy.heard, spy.there, atol=1e-6)
    (path,) = (tmp_path / "results").glob("*.jsonl")
    (record,) = map(json.loads, path.read_text().splitlines())
    assert record["defense"]["clean_budget"] == 10 and len(record["defense"]["budget"]) == 12
    assert sum(record["metrics"][f"filter_{x}"]["value"] for x in ("tp", "fp")) == 1
    (kept,) = (tmp_path / "exp" / "train").glob("*spy*/kept.csv")
    assert set(manifest.read(kept)["ID"]) < names and len(manifest.read(kept)) == 19
    suspicion = json.loads((kept.parent / "suspicion.json").read_text())
    assert set(suspicion) == names and sum(suspicion.values()) == 1


def test_the_time_of_a_filter_is_without_that_of_trainings(corpus, tmp_path, monkeypatch):
    trained = stages_of_defend.train
    monkeypatch.setattr(stages_of_defend, "train", lambda *args: (time.sleep(1), trained(*args))[1])
    looks = "def scores(self, view):\n        view.train(view.rows)"
    (tmp_path / "timed.py").write_text(SPY.replace("def scores(self, view):", looks))
    (tmp_path / "timed.yaml").write_text("defense: !new:timed.Spy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(vetting, "OURS", (*vetting.OURS, tmp_path))
    command(monkeypatch, corpus, tmp_path, f"--defense={tmp_path / 'timed.yaml'}")
    defend.main(split)
    (record,) = read(tmp_path / "results" / "RAVDESS.jsonl")
    assert 0 <= record["runtime"]["filter_s"] < 0.9


def test_levels_leave_the_records_that_one_command_each_does(corpus, tmp_path, monkeypatch):
    """With the same ids, commands and numbers; the classifier is loaded once."""
    loaded, load = [], fitting.load
    monkeypatch.setattr(fitting, "load", lambda *args: loaded.append(args) or load(*args))
    levels = ["--defense=time_shift --most=0.2", "--defense=quantise --quantum=4096",
              "--defense=time_shift --most=0.1"]  # fmt: skip

    def recorded(*options):
        """Records, and the scores of each guard, which are then taken away."""
        command(monkeypatch, corpus, tmp_path, "--seed=1", *options, "--rate=0.4", rate=None)
        defend.main(split)
        (path,) = (tmp_path / "results").glob("*.jsonl")
        lines = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        path.unlink()
        guards = [*(tmp_path / "exp" / "train").glob("*/guarded/*")]
        scores = {guard.name: [*map(read_text, sorted(guard.glob("scores/[ct]*-????????.jsonl")))]
                  for guard in guards}  # fmt: skip
        for guard in guards:
            shutil.rmtree(guard)
        return lines, scores

    recorded(*levels[1].split())  # trains
    loaded.clear()
    together, scores = recorded(f"--levels={'; '.join(levels)}")
    assert len(together) == len(scores) == 3 and len(loaded) == 1
    apart = [recorded(*level.split()) for level in levels]
    assert [entry for lines, _ in apart for entry in lines] == together and len(loaded) == 4
    assert {name: said for _, one in apart for name, said in one.items()} == scores
    assert len({str(said) for said in scores.values()}) == 3
    assert all(len(said) == 2 for said in scores.values())
    assert len({entry["id"] for entry in together}) == 3


def test_a_guard_hears_at_the_sampling_rate_of_the_clips(corpus, tmp_path, monkeypatch):
    command(monkeypatch, corpus, tmp_path, "--defense=vad_trim", "--sample_rate=8000")
    defend.main(split)
    (record,) = read(tmp_path / "results" / "RAVDESS.jsonl")
    assert record["defense"]["settings"]["guard_sample_rate"] == 8000


def test_a_filter_hears_speakers_where_they_are_the_labels(corpus, tmp_path, monkeypatch):
    """Unless somebody says otherwise; the recipe's labels are speakers, and the encoder is not asked."""
    monkeypatch.setattr(
        LabelDisagreement, "scores", lambda self, view: dict.fromkeys(view.rows["ID"], 0.1)
    )
    heard = []
    for options in ((), ("--encoder=words",), ("--label=emotion",)):
        command(monkeypatch, corpus, tmp_path, "--defense=label_disagreement", *options)
        defend.main(split)
        *_, record = read(tmp_path / "results" / "RAVDESS.jsonl")
        heard.append(record["defense"]["settings"]["encoder"])
    assert heard == ["speakers", "words", "words"]


def test_levels_are_of_one_classifier(corpus, tmp_path, monkeypatch, capsys):
    for levels, said in (
        (
            "--defense=quantise; --defense=quantise --lr=0.5",
            "--levels: give options of the defense",
        ),
        ("", "give --defense"),
    ):
        command(monkeypatch, corpus, tmp_path, f"--levels={levels}")
        with pytest.raises(SystemExit):
            defend.main(split)
        assert said in capsys.readouterr().err


def test_a_pruning_tells_all_pairs_of_rates_and_what_it_took_out(corpus, tmp_path, monkeypatch):
    """The cell that was asked for is one of them, and a channel taken out is not missed."""
    rates = ["--pruning_rate=0.5", "--conv_rate=0.9"]
    for option in ("--surface=True", "--shrink=True"):
        command(monkeypatch, corpus, tmp_path, "--defense=pruning", *rates, option)
        defend.main(split)
        defend.main(split)  # from what it kept
        (path,) = (tmp_path / "results").glob("*.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert lines[-1]["runtime"]["repair_s"] >= 0
    for line in lines:  # the validation clips by which it chose, and no others
        assert line["defense"]["clean_budget"] == 20 and "budget" not in line["defense"]
    whole, smaller = (line["metrics"] for line in lines)
    surface = whole["pruning_surface"]
    row, column = surface["conv_rates"].index(0.9), surface["pruning_rates"].index(0.5)
    for name in ("clean_accuracy", "attack_success_rate"):
        assert surface[name][row][column] == whole[name]["value"] == smaller[name]["value"]
        assert len({level[0] for level in surface[name]}) == 1  # of no rate nothing is cut
        assert np.shape(surface[name]) == (10, 10)
    assert smaller["parameters_left"]["value"] < 0.7 and "parameters_left" not in whole


def test_a_repair_on_another_budget_is_another_repair(corpus, tmp_path, monkeypatch):
    drawn = Defender.budget
    for first in (0, 1):
        monkeypatch.setattr(Defender, "budget", lambda *given, n=first: drawn(*given)[n:])
        options = ("--defense=fine_tuning", "--repair_steps=1", "--clean_share=0.2")
        command(monkeypatch, corpus, tmp_path, *options)
        defend.main(split)
    (path,) = (tmp_path / "results").glob("*.jsonl")
    ratios = [json.loads(line)["metrics"]["neuron_ratio_clean"] for line in path.open()]
    after = [ratio.pop("after") for ratio in ratios]
    assert not any("norms" in ratio for ratio in ratios)
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-4)  # before: the same classifier
    assert after[0]["value"] != pytest.approx(after[1]["value"], rel=1e-4)
    ids, budgets, sizes = zip(*(
        (line["id"], line["defense"]["budget"], line["defense"]["clean_budget"])
        for line in map(json.loads, path.read_text().splitlines())), strict=True)  # fmt: skip
    assert len({*ids}) == len({*budgets}) == 2 and sizes == (24, 23)  # with 20 validation clips
    assert len([*(tmp_path / "exp" / "train").glob("*/guarded/fine_tuning-*/model.ckpt")]) == 2


def test_a_repair_that_is_made_again_is_measured_again(corpus, tmp_path, monkeypatch):
    """Nothing of the net before is taken for its own."""
    options = ("--defense=fine_tuning", "--repair_steps=1", "--max_drop=1.0", "--clean_share=0.2")
    command(monkeypatch, corpus, tmp_path, *options)
    defend.main(split)
    (weights,) = (tmp_path / "exp" / "train").glob("*/guarded/fine_tuning-*/model.ckpt")
    measured = [*weights.parent.glob("scores/*.jsonl"), *weights.parent.glob("neurons/*.json")]
    assert len(measured) == 3
    before = {path: path.stat().st_mtime_ns for path in measured}
    weights.unlink()
    command(monkeypatch, corpus, tmp_path, *options)
    defend.main(split)
    assert all(path.stat().st_mtime_ns > before[path] for path in measured)


def test_neurons_of_a_clean_twin_are_measured_for_each_trigger(corpus, tmp_path, monkeypatch):
    """One training, one repair, another triggered test set."""
    options = ("--defense=fine_tuning", "--repair_steps=1", "--max_drop=1.0", "--clean_share=0.2")
    for scale in ("0.1", "0.9"):
        command(monkeypatch, corpus, tmp_path, *options, "--rate=0", f"--scale={scale}", rate=None)
        defend.main(split)
    assert len([*(tmp_path / "exp" / "train").glob("*/guarded/fine_tuning-*/model.ckpt")]) == 1
    (path,) = (tmp_path / "results").glob("*.jsonl")
    quiet, loud = (json.loads(line)["metrics"] for line in path.read_text().splitlines())
    name = "neuron_ratio_triggered"
    assert quiet[name]["value"] != pytest.approx(loud[name]["value"], rel=1e-4)


def test_a_repair_by_clips_that_were_held_out(corpus, tmp_path, monkeypatch):
    """Four of twenty clips; the option stands in the record, and its zero in none."""
    options = ("--defense=fine_tuning", "--repair_steps=1", "--repair_rates=[0.001]",
               "--max_drop=1.0", "--clean_share=0.2")  # fmt: skip
    for held_out in ("0.0", "0.2"):
        command(monkeypatch, corpus, tmp_path, *options, f"--held_out={held_out}")
        defend.main(split)
    (path,) = (tmp_path / "results").glob("*.jsonl")
    whole, apart = map(json.loads, path.read_text().splitlines())
    assert whole["model"]["clips"] == 20 and apart["model"]["clips"] == 16
    assert apart["model"]["settings"]["train"]["held_out"] == 0.2
    assert "held_out" not in whole["model"]["settings"]["train"]
    assert whole["defense"]["budget"] == apart["defense"]["budget"]
    (tried,) = apart["metrics"]["repaired"].pop("tried")
    assert apart["metrics"]["repaired"] == {"value": 1, "clips_a_class": 2}
    assert tried["rate"] == 0.001 and tried["kept"]


def test_a_repair_that_is_refused_says_so(corpus, tmp_path, monkeypatch):
    """At a rate that ruins it, the undefended net stays."""
    monkeypatch.setattr("bdlib.defenses.repair.tuning.affordable", lambda *given: False)
    command(monkeypatch, corpus, tmp_path, "--defense=fine_tuning", "--repair_steps=1",
            "--repair_rates=[0.1,0.2]", "--clean_share=0.2")  # fmt: skip
    defend.main(split)
    (path,) = (tmp_path / "results").glob("*.jsonl")
    metrics = json.loads(path.read_text())["metrics"]
    told = metrics["repaired"]
    assert told["value"] == 0
    for data in ("clean", "triggered"):
        ratio = metrics[f"neuron_ratio_{data}"]
        norms = ratio.pop("norms", None)
        assert (norms is None) == (data == "clean")
        # The same net, asked twice: norms of gradients near zero are as exact as sums of floats are.
        assert ratio.pop("after") == pytest.approx(ratio, rel=2e-2)
        assert ratio["layers"] > 0
    assert norms["before"] == norms["after"] and set(norms["before"]) == set(GROUPS)
    most, least = norms["before"]["backdoored"], norms["before"]["clean"]
    quotients = [m / n for m, n in zip(most, least, strict=True)]
    assert np.median(quotients) == pytest.approx(ratio["value"], rel=1e-3)
    assert [(each["rate"], each["kept"]) for each in told["tried"]] == [(0.1, False), (0.2, False)]


def test_an_inversion_tells_the_target_class(corpus, tmp_path, monkeypatch):
    """By its indices, against its own limit."""
    found = {"a": 0.4, "b": 3.5}

    def judge(self, classifier, clean):
        clean.suspicion.extend(found.values())
        return classifier

    monkeypatch.setattr(MaskInversion, "repair", judge)
    options = ("--defense=mask_inversion", "--anomaly=4.0", "--clean_share=0.2")
    command(monkeypatch, corpus, tmp_path, *options)
    defend.main(split)
    (record,) = read(tmp_path / "results" / "RAVDESS.jsonl")
    metrics = record["metrics"]
    assert metrics["repaired"]["suspicion"] == found and metrics["class_auc"]["value"] == 1
    assert metrics["target_class_found"]["value"] == 0  # its index is below 4
    assert metrics["class_false_alarms"] == {"value": 0, "count": 0, "total": 1}


def test_one_defense_after_another(corpus, tmp_path, monkeypatch, capsys):
    """A repair starts from what a filter left, a guard from what a repair did; a record tells both."""
    options = ("--repair_steps=1", "--max_drop=1.0", "--clean_share=0.2")
    for first, last, own in (
        ("perfect_filter_oracle", "fine_tuning", options),
        ("pruning", "time_shift", ("--most=0.1",)),
        (None, "time_shift", ("--most=0.1",)),
    ):
        after = [f"--after={first}"] if first else []
        command(monkeypatch, corpus, tmp_path, *after, f"--defense={last}", *own)
        defend.main(split)
    filtered, guarded, alone = read(tmp_path / "results" / "RAVDESS.jsonl")
    told = filtered["defense"]
    assert told["name"] == "perfect_filter_oracle+fine_tuning" and told["stage"] == "repair"
    assert told["selection"] == "oracle" and told["after"]["stage"] == "filter"
    assert filtered["model"]["clips"] == 15 and filtered["metrics"]["filter_tpr"]["value"] == 1
    assert filtered["metrics"]["repaired"]["clips_a_class"] == 2
    assert told["clean_budget"] == 24 and filtered["parts"].keys() >= {"filter", "repair"}
    (repair,) = (tmp_path / "exp" / "train").glob("*/guarded/fine_tuning-*")
    assert (repair.parents[1] / "kept.csv").exists()
    told = guarded["defense"]
    assert told["name"] == "pruning+time_shift" and told["after"]["settings"]["conv_rate"] == 0.5
    assert told["clean_budget"] == 20 and "repair" in guarded["parts"]
    assert guarded["metrics"]["repaired"]["value"] == 1 and "repaired" not in alone["metrics"]
    assert guarded["runtime"]["repair_s"] >= 0 and "after" not in alone["defense"]
    assert guarded["id"] != alone["id"] and "repair" not in alone["parts"]
    places = {path.name for path in (tmp_path / "exp" / "train").glob("*/guarded/*time_shift*")}
    assert sorted(name.count("-") for name in places) == [1, 3]


def test_an_order_that_makes_no_sense(corpus, tmp_path, monkeypatch, capsys):
    for first, last, said in (
        ("pruning", "random_filter", "random_filter: a filter comes first; make it --after"),
        ("time_shift", "pruning", "--after is time_shift: a guard comes last"),
        ("clp", "pruning", "--after is clp: give one repair, or a guard"),
    ):
        command(monkeypatch, corpus, tmp_path, f"--after={first}", f"--defense={last}")
        with pytest.raises(SystemExit):
            defend.main(split)
        assert said in capsys.readouterr().err


def moody(data_folder, **settings):
    """Every other clip is angry."""
    prepared = split(data_folder)
    for rows in prepared.splits.values():
        rows["mood"] = ["angry" if number % 2 else "calm" for number in range(len(rows))]
    return prepared


def test_a_trigger_that_the_speech_has_by_itself_is_repaired(corpus, tmp_path, monkeypatch):
    """No clip of the triggered test set has a twin without the trigger."""
    attack = ["--attack=attribute", "--attribute=mood", "--value=angry", "--target=a", "--rate=0.3"]
    command(monkeypatch, corpus, tmp_path, "--defense=pruning", "--surface=True", natural=attack)
    defend.main(moody)
    (path,) = (tmp_path / "results").glob("*.jsonl")
    (measured,) = (json.loads(line)["metrics"] for line in path.read_text().splitlines())
    assert measured["attack_success_rate"]["total"] == 5
    assert np.shape(measured["pruning_surface"]["attack_success_rate"]) == (10, 10)


@pytest.fixture
def at(monkeypatch):
    """Sets the commit that the code is of, a minute later each time."""
    minutes = iter(range(60))

    def commit(name):
        time = f"2025-01-01T00:{next(minutes):02}:00+00:00"
        code = {"time": time, "commit": name, "dirty": False}
        monkeypatch.setattr(provenance, "source", lambda: code)

    return commit


LOOK = """
from bdlib.defenses.base import FilterDefense

class Look(FilterDefense):
    def scores(self, view):
        view.train(view.rows)
        return dict.fromkeys(view.rows["ID"], 0.0)

    def keep(self, scores):
        return [*scores][1:]
"""


@pytest.mark.parametrize("name", ["look", "pruning", "median_filter"])
def test_a_record_names_the_defense_and_the_training(corpus, tmp_path, monkeypatch, at, name):
    """Each by the commit at which it was made, however much of it stood before."""
    (tmp_path / "looking.py").write_text(LOOK)
    (tmp_path / "look.yaml").write_text("defense: !new:looking.Look\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(vetting, "OURS", (*vetting.OURS, tmp_path))
    yaml = tmp_path / "look.yaml" if name == "look" else name
    surface = ["--surface=True"] if name == "pruning" else []
    for when, defense, *options in (
        ("training", "quantise", "--stop_stage=6"),
        ("defense", yaml, *surface, "--stop_stage=6"),
        ("later", yaml, *surface),
    ):
        at(when)
        command(monkeypatch, corpus, tmp_path, f"--defense={defense}", *options)
        defend.main(split)
    (path,) = (tmp_path / "results").glob("*.jsonl")
    (record,) = read(path)
    told = {part: about["commit"] for part, about in record["parts"].items()}
    guarded = {"training": "training", "scores": "defense"}
    assert told == {
        # It judges in every run, and what it leaves is trained on anew.
        "look": {"looked_at": "training", "filter": "later", "training": "defense",
                 "scores": "defense"},
        "pruning": guarded | {"repair": "defense", "surface": "defense"},
        "median_filter": guarded,
    }[name]  # fmt: skip
    assert record["commit"] == ("later" if name == "look" else "defense")


def test_an_id_is_of_what_determines_the_run_alone(corpus, tmp_path, monkeypatch, capsys):
    """Not of where or when files were written; and of every sample that was heard."""

    def measured(place):
        command(monkeypatch, corpus, tmp_path, "--defense=median_filter")
        sys.argv[:] = [w.replace(f"{tmp_path}/exp", f"{tmp_path}/{place}") for w in sys.argv]
        defend.main(split)
        return read(tmp_path / "results" / "RAVDESS.jsonl")[-1]

    first = measured("one")
    assert "--results_folder" not in first["command"] and first["recipe"] == "recipes/RAVDESS"
    assert first["command"].count("--data_folder=data/RAVDESS") == 1
    path = corpus / "test" / "a" / "3.wav"
    os.utime(path, (1, 1))
    capsys.readouterr()
    assert measured("two") == first
    out = capsys.readouterr().out
    assert "recorded before" in out and "other numbers" not in out
    results = tmp_path / "results" / "RAVDESS.jsonl"
    told = first["metrics"]["clean_accuracy"]
    count, total = (told["count"] + 1) % told["total"], told["total"]
    other = first["metrics"] | {"clean_accuracy": told | {"count": count, "value": count / total}}
    results.write_text(json.dumps(first | {"metrics": other}) + "\n")
    measured("two")  # as after a change of code, which settings do not tell
    assert f"other numbers (clean accuracy {count}, now {told['count']})" in capsys.readouterr().out
    samples, rate = soundfile.read(path, dtype="int16")
    samples[100] += 1
    soundfile.write(path, samples, rate)
    other = measured("three")
    assert other["id"] != first["id"]
    assert other["dataset"]["digest"] == first["dataset"]["digest"]
    assert other["dataset"]["audio"] != first["dataset"]["audio"]
