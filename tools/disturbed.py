"""Small runs of every stage, in forked children, so that they can be disturbed; and what they leave."""

import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bdlib.report.figures.figure
import bdlib.scanning.own
import bdlib.scanning.scan
import bdlib.stages.defend
from bdlib.cli import defend, poison, prepare, render, scan, train

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "RAVDESS"
RATE = 16000
TIMES = (
    "time",
    "seconds",
    "wall_s",
    "train_s",
    "repair_s",
    "score_s",
    "score_ms",
    "peak_memory_mb",
    "unixtime",
    "$sealed",
)
"""Keys of what no two runs have alike, or that are digests of files that hold these."""
TINY = (
    *("--number_of_epochs=2", "--batch_size=16", "--seconds=0.7", "--n_mels=8", "--rate=0.2"),
    "--noprogressbar",
)


Disturb = Callable[[], None]
"""What is done in a child before it runs a command."""


def corpus(root: Path) -> Path:
    """Two actors with 32 clips each of RAVDESS's names, noisy tones of 0.7 s."""
    generator = np.random.Generator(np.random.PCG64(0))
    seconds = np.arange(round(0.7 * RATE)) / RATE
    for actor in (1, 2):
        for emotion, statement, repetition in np.ndindex(8, 2, 2):
            name = f"03-01-{emotion + 1:02d}-01-{statement + 1:02d}-{repetition + 1:02d}"
            path = root / f"Actor_{actor:02d}" / f"{name}-{actor:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = 0.2 * np.sin(2 * np.pi * 200 * actor * seconds)
            soundfile.write(path, tone + 0.05 * generator.standard_normal(len(tone)), RATE)
    return root


def recipe_prepare() -> Callable[..., Any]:
    """The `prepare` of the recipe."""
    spec = importlib.util.spec_from_file_location("prepare_ravdess", RECIPE / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.prepare


@dataclass(frozen=True)
class Command:
    """A program and its options, and the command whose files it finds, if there is one."""

    program: str
    options: tuple[str, ...] = ()
    after: str | None = None

    def run(self, clips: Path, folder: Path) -> int:
        """Run it in this process, on what lies in a folder; the exit status."""
        if self.program == "render":
            return render.main(["--results", str(folder / "results")])
        if self.program == "scan":
            options = [f"--output={folder}/scan", f"--cache={folder}/cache", "--task=none"]
            found = scan.main([str(clips), *options])
            return 0 if found < 2 else found
        places = (f"--data_folder={clips}", f"--output_folder={folder}/exp")
        words = [str(RECIPE / "hparams" / "xvector_small.yaml"), *TINY, *places]
        words += [f"--results_folder={folder}/results"]
        words += [option.replace("{folder}", str(folder)) for option in self.options]
        sys.argv = [f"{self.program}.py", *words]
        {"prepare": prepare, "poison": poison, "train": train, "defend": defend}[self.program].main(
            recipe_prepare()
        )
        return 0


COMMANDS = {
    "prepare": Command("prepare"),
    "poison": Command("poison", after="prepare"),
    "export": Command("poison", ("--export={folder}/out",), after="poison"),
    "train": Command("train", after="poison"),
    "filter": Command("defend", ("--defense=spectral_signatures",), after="train"),
    "repair": Command("defend", ("--defense=fine_tuning", "--repair_steps=1"), after="train"),
    "guard": Command("defend", ("--defense=quantise",), after="train"),
    "render": Command("render", after="train"),
    "scan": Command("scan"),
}


def child(act: Callable[[], int | None], said: Path) -> int:
    """Start an act in a forked process, whose words go to a file; its number."""
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        words = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(words, 1), os.dup2(words, 2)
        sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115
        try:
            status = act() or 0
        except SystemExit as stop:
            status = stop.code or 0
        except KeyboardInterrupt:
            status = 130
        sys.stdout.flush()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        status = 99
    os._exit(int(status))


def ended(number: int) -> int:
    """How a child ended: its exit status, or the negative of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def state(folder: Path) -> dict[str, Any]:
    """What lies below a folder, without what no two runs have alike."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = re.sub(r"CKPT\+[^/]*", "CKPT", str(path.relative_to(folder)))
            found.setdefault(name, []).append(_content(path))
    return {name: sorted(contents) for name, contents in found.items()}


def _content(path: Path) -> str:
    if path.suffix in (".png", ".html", ".npz"):
        return "there"  # drawn from numbers that stand elsewhere
    data = path.read_bytes()
    if path.suffix in (".json", ".jsonl", ".txt") and b"{" in data[:1]:
        whole = path.suffix == ".json"
        values = [json.loads(data)] if whole else [json.loads(x) for x in data.splitlines()]
        return json.dumps(_timeless(values), sort_keys=True)
    if path.name == "CKPT.yaml":
        data = re.sub(rb"unixtime:.*\n", b"", data)
    return hashlib.sha256(data).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


class World:
    """A corpus, and what each command leaves undisturbed; in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        bdlib.scanning.own.STEPS = 2  # what it learns is not looked at
        self.folder, self.clips = folder, corpus(folder / "corpus")
        self.whole: dict[str, Path] = {}

    def before(self, name: str, folder: Path) -> Path:
        """A folder as a command finds it."""
        found = COMMANDS[name].after and self.undisturbed(COMMANDS[name].after)
        shutil.rmtree(folder, ignore_errors=True)
        if found:
            return shutil.copytree(found, folder)
        folder.mkdir(parents=True)
        return folder

    def run(self, name: str, folder: Path, disturb: Disturb = lambda: None) -> int:
        """Run a command in a child; how it ended."""
        return ended(self.start(name, folder, disturb))

    def start(self, name: str, folder: Path, disturb: Disturb = lambda: None) -> int:
        """Start a command in a child, where something is changed before; its number."""

        def act() -> int:
            disturb()
            try:
                return COMMANDS[name].run(self.clips, folder)
            finally:
                folder.with_name("modules.txt").write_text("\n".join(sys.modules))

        return child(act, folder.with_name("said.txt"))

    def undisturbed(self, name: str) -> Path:
        """What a command leaves."""
        if name not in self.whole:
            # All run in one place: some files tell where they lie.
            here = self.before(name, self.folder / "trial")
            status = self.run(name, here)
            if status:
                raise SystemExit(f"{name} ended with {status}: {self.said()}")
            self.whole[name] = shutil.copytree(here, self.folder / f"whole-{name}")
            for module in (self.folder / "modules.txt").read_text().splitlines():
                with contextlib.suppress(ImportError):  # so that no child does it again
                    importlib.import_module(module)
        return self.whole[name]

    def said(self) -> str:
        """The last words of a child."""
        return (self.folder / "said.txt").read_text()[-2000:]

    def again(self, name: str, here: Path) -> str:
        """Start a command once more where it was disturbed: `equal`, or what is not."""
        status = self.run(name, here)
        exported = name == "export" and (here / "out").exists()
        if status and not exported:  # an export that stands is not written over
            return f"the same command ended with {status}: {self.said()[-300:]}"
        if hidden := [str(path.relative_to(here)) for path in here.rglob(".*")]:
            return f"left: {hidden}"
        now, wanted = state(here), state(self.undisturbed(name))
        differing = [key for key in now.keys() | wanted.keys() if now.get(key) != wanted.get(key)]
        return f"differs: {sorted(differing)}" if differing else "equal"
