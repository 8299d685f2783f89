"""How long the tables of the papers take: from records, or from arithmetic.

Cells are those of `recipes/*/experiments/*.yaml`; cells that share a training count it once, and a
filter trains once more. A training takes on a GPU what its steps were measured to take there (s), or
what the records of the same model on the same kind of device took for a clip and epoch (m), or what its
multiply-adds take at a rate that is assumed (a).
Scoring is counted on a GPU, where Table 4 of MVJ needs much of it; what repairs and filters do
besides training is not.
"""

import functools
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bdlib.cli.cells import Cell, cells
from bdlib.stages.document import Document, common

ROOT = Path(__file__).resolve().parents[3]
ASSUMED = {"gpu": 1e14, "core": 5e10}
"""Operations a second where no record tells: a tenth of the bfloat16 peak of an H100 or H200, and one
core; a multiplication and an addition are two."""
LAUNCHED = "mvd_small"  # on a GPU no step takes less than its steps, which are bound by launches
CLIPS = {  # of the training set, where no record of the experiment tells
    ("SpeechCommands", "full"): 85511, ("SpeechCommands", "subset"): 5141,
    ("RAVDESS", "full"): 1008, ("RAVDESS", "subset"): 1008,
    ("ESD", "full"): 12250, ("ESD", "subset"): 12250,
}  # fmt: skip
TEN_WORDS = {"full": 30769, "subset": 2877}  # of Speech Commands, --variant=10
CLASSES = 12  # of Speech Commands; with max_per_class each has as many
SECONDS = {"SpeechCommands": 1.0, "RAVDESS": 3.0, "ESD": 3.0}
TESTED = {"SpeechCommands": 2 * 4890, "RAVDESS": 2 * 216, "ESD": 2 * 2625}  # clean and triggered

Line = dict[str, Any]
Size = tuple[int, int | None]
"""Clips a step, and layers of a wide residual net: what the time of a clip goes by."""


@functools.cache
def records() -> list[Line]:
    """All runs that are published."""
    files = [ROOT / "results" / f"{name}.jsonl" for name in SECONDS]
    lines = [line for f in files if f.exists() for line in f.read_text("utf-8").splitlines()]
    return [entry for entry in map(json.loads, lines) if entry["status"] == "ok"]


@functools.cache
def measured(model: str, device: str, size: Size) -> float | None:
    """Seconds a clip and epoch of trainings of a model, the median of those on record; `gpu` or `core`."""
    kind = "cuda" if device == "gpu" else "cpu"
    known = {
        (run["seed"], run.get("parts", {}).get("training", run)["time"]): run["runtime"]["train_s"]
        / (run["model"]["epochs"] * run["model"]["clips"])
        for run in records()
        if run["model"]["name"] == model
        and run["runtime"]["device"].startswith(kind)
        and size_of(run["model"]["settings"]) == size
    }
    return statistics.median(known.values()) if known else None


def size_of(settings: Line, given: Line | None = None) -> Size:
    """Of the settings of a yaml, and what is given in place of them."""
    known = {**settings["model"], **settings["train"], **(given or {})}
    return int(known["batch_size"]), int(known["depth"]) if "depth" in known else None


@functools.cache
def stepped(model: str) -> float | None:
    """Seconds of a GPU for a clip of one second in a training step, by `tools/gpu.sh`."""
    lines = (ROOT / "results" / "bench" / "gpu.jsonl").read_text("utf-8").splitlines()
    known = {line["part"]: line.get("clips_per_s") for line in map(json.loads, lines)}
    speed = known.get(f"throughput_{model}")
    return 1 / speed if speed else None


@functools.cache
def recorded_clips(dataset: str, experiment: str, scale: str) -> int:
    """The most that a training of an experiment heard; 0 if it has no record."""
    asked = (dataset, experiment, scale)
    runs = [
        run
        for run in records()
        if (run["dataset"]["name"], run["experiment"], run["dataset"]["scale"]) == asked
    ]
    return max((run["model"]["clips"] for run in runs), default=0)


@functools.cache
def plain(path: Path) -> Line:
    """The settings of a yaml; read once, as this takes time and cells are many."""
    return Document(path).plain()


@functools.cache
def defended(name: str) -> Line:
    """The settings of a defense."""
    return common("defenses", name).plain()


@functools.cache
def operations(path: Path) -> dict[str, float]:
    """Of a second of speech, a step of training and one of scoring, forward, without the optimiser."""
    model = plain(path)["model"]
    wide = "view_frames" in model
    with torch.device("meta" if wide else "cpu"):
        net = Document(path).build()["model"]["classifier"](n_classes=CLASSES).eval()

        def forward(frames: int) -> int:
            counter = FlopCounterMode(display=False)
            with counter, torch.no_grad():
                if wide:
                    net.view_logits(torch.empty(1, frames, model["n_mels"]))
                else:
                    net(torch.zeros(1, 16000), torch.ones(1))
            return counter.get_total_flops()

        whole, view = forward(100), forward(model["view_frames"]) if wide else 0
    if not wide or not model.get("brain"):
        return {"training": 3 * whole, "scoring": whole}
    train, passes = plain(path)["train"], 3.0
    if "langevin_steps" in model:  # as in tools/bench/jem.py
        samples, batch = model.get("samples", 6), train["batch_size"]
        steps = model["langevin_steps"] + model.get("more_steps", 0) * train["number_of_epochs"] / 2
        passes += (3 * samples + 2 * samples * steps + samples) / batch
    return {"training": passes * view, "scoring": whole}


@dataclass(frozen=True)
class Work:
    """Cells of an experiment at a scale, and what they train."""

    dataset: str
    scale: str
    listed: tuple[Cell, ...]

    @functools.cached_property
    def trainings(self) -> dict[tuple, Line]:
        """Settings by what determines a training."""
        found: dict[tuple, Line] = {}
        for cell in self.listed:
            given = dict(option[2:].partition("=")[::2] for option in cell.options if "=" in option)
            names = [
                name for name in (given.pop("after", None), given.pop("defense", None)) if name
            ]
            settings = {name: defended(name) for name in names}
            own = {"selection", "surface"}.union(*settings.values())
            if "attack" in given and float(given.get("rate", 1)) == 0:
                trigger = common("attacks", given["attack"]).plain()
                # One clean twin serves all; without the clips of an attribute, all targets.
                own |= {"target"} if "policy" in trigger else {"attack", *trigger}
            rest = {key: value for key, value in given.items() if key not in own}
            found[cell.yaml, *rest.items()] = {"yaml": cell.yaml, **rest}
            for name in names:
                if ".filters." in str(settings[name]["defense"]):
                    mine = {k: v for k, v in given.items() if k in settings[name] or k not in own}
                    found[cell.yaml, name, *mine.items()] = {"yaml": cell.yaml, **mine}
        return found

    def clips(self, settings: Line) -> int:
        """Of a training set."""
        if self.dataset == "SpeechCommands":
            most = settings.get("max_per_class")
            if known := recorded_clips(self.dataset, settings["experiment"], self.scale):
                return known
            if settings.get("variant") == "10":
                return TEN_WORDS[self.scale]
            if most and most.isdecimal():
                return min(CLASSES * int(most), CLIPS[self.dataset, self.scale])
        return CLIPS[self.dataset, self.scale]

    def hours(self, device: str) -> str:
        """Of all, with how it is known."""
        total, how = 0.0, set()
        for settings in self.trainings.values():
            path = ROOT / "recipes" / self.dataset / settings["yaml"]
            train = plain(path)["train"]
            epochs = int(settings.get("number_of_epochs", train["number_of_epochs"]))
            heard = epochs * self.clips(settings)
            each, kind = self._each(path, settings, device)
            how.add(kind)
            if each is None:
                each = operations(path)["training"] * SECONDS[self.dataset] / ASSUMED[device]
                batch = int(settings.get("batch_size", train["batch_size"]))
                each = max(each, _launches() / batch if device == "gpu" else 0.0)
            total += heard * each
        if device == "gpu":
            total += self._scoring()
        hours = total / 3600
        shown = f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
        return f"{shown} ({', '.join(sorted(how, reverse=True))})"

    def on_gpu(self) -> bool:
        """Whether records or steps on a GPU tell of all trainings."""
        root = ROOT / "recipes" / self.dataset
        return all(self._each(root / s["yaml"], s, "gpu")[0] for s in self.trainings.values())

    def _each(self, path: Path, settings: Line, device: str) -> tuple[float | None, str]:
        """Seconds a clip and epoch, and how they are known."""
        if device == "gpu" and (step := stepped(path.stem)):
            return step * SECONDS[self.dataset], "s"
        each = measured(path.stem, device, size_of(plain(path), settings))
        return each, "a" if each is None else "m"

    def _scoring(self) -> float:
        """Seconds; one Langevin step at test time costs a pass and its gradient more."""
        passes = sum(
            operations(ROOT / "recipes" / self.dataset / cell.yaml)["scoring"]
            * (3 if any(option.startswith("--step_size=") for option in cell.options) else 1)
            for cell in self.listed
        )
        return passes * TESTED[self.dataset] * SECONDS[self.dataset] / ASSUMED["gpu"]


def _launches() -> float:
    """Seconds of the shortest step on a GPU."""
    batch, depth = 16, 10  # of the records' experiment
    return measured(LAUNCHED, "gpu", (batch, depth)) * batch


def hours() -> str:
    """A row an experiment and scale."""
    lines = [
        "| Experiment | Scale | Runs | Trainings | One GPU [h] | One core [h] |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for path in sorted(ROOT.glob("recipes/*/experiments/*.yaml")):
        for scale in ("full", "subset"):
            listed = tuple(cells(path, scale, "data"))
            if any(cell.program == "pls" for cell in listed):
                continue  # autoencoders, which a search over a corpus trains by the hundred
            work = Work(path.parts[-3], scale, listed)
            core = work.hours("core") if scale == "subset" else "–"
            gpu = "–" if scale == "subset" and not work.on_gpu() else work.hours("gpu")
            name = f"{path.parts[-3]}, {path.stem}"
            lines.append(
                f"| {name} | {scale} | {len(listed):,} | {len(work.trainings):,} | {gpu} | {core} |"
            )
    return "\n\n" + "\n".join(lines) + "\n\n"
