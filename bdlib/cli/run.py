"""One trained classifier on the disk: training, scores, numbers, record."""

import contextlib
import copy
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import yaml
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.distributed import if_main_process, run_on_main

from bdlib.cli import poison
from bdlib.cli.record_entry import record_entry
from bdlib.defenses.repair.shrink import resize
from bdlib.errors import InputError
from bdlib.evaluation import metrics, scores
from bdlib.files import alone, atomic, digest, write_json
from bdlib.models.classifier import SpeechClassifier
from bdlib.records import figure, record
from bdlib.records.provenance import peak_memory_mb, source, versions
from bdlib.training import classifier_brain, log

if TYPE_CHECKING:
    from bdlib.cli.experiment import Experiment


class Run:
    """One trained classifier: its folder, its scores, its numbers.

    Arguments
    ---------
    experiment : Experiment
        What it belongs to.
    folder : Path
        Of the training; holds `save/`, `label_encoder.txt`, `hyperparams.yaml`, `train_log.txt`, `done.json`,
        `scores/` and `figures/`.
    """

    undefended: "Run | None" = None  # of a guarded or repaired one, what it was before

    def __init__(self, experiment: "Experiment", folder: Path) -> None:
        self.experiment, self.folder, self.shown = experiment, folder, folder
        self.check_classes()

    @cached_property
    def classifier(self) -> SpeechClassifier:
        """The kept checkpoint, on the device; loaded when first asked for."""
        fresh, training, _ = self.experiment.new_classifier()
        return classifier_brain.load(fresh, self.folder, training.keep).to(self.experiment.device)

    def train(self, rows: pd.DataFrame) -> None:
        """Train, or go on with an interrupted training; one that is done stands."""
        # Of several processes of one distributed run the first waits for all.
        with alone(self.folder) if if_main_process() else contextlib.nullcontext():
            if (self.folder / "done.json").exists():
                print(f"stands: {self.folder}")
            else:
                self._train(rows)

    def _train(self, rows: pd.DataFrame) -> None:
        print(f"training {self.folder.name} on {len(rows)} clips")
        experiment = self.experiment
        batches = experiment.batches("train", rows, train=True), experiment.batches("valid")
        fresh, training, brain = experiment.new_classifier()
        run_on_main(self._describe)
        before = sum(line["seconds"] for line in log.read_log(self.folder))
        started = time.time() - before  # of an interrupted training, its finished epochs count
        self.classifier = classifier_brain.fit(
            fresh,
            training,
            *batches,
            self.folder,
            experiment.seed,
            experiment.run_opts,
            brain,
        ).to(experiment.device)
        run_on_main(self._finish, args=[len(rows), time.time() - started])

    def _finish(self, clips: int, wall_s: float) -> None:
        epochs = log.read_log(self.folder)
        figure.training_curves(epochs, self.folder / "figures" / "training.png")
        about = {
            "train_s": round(sum(line["seconds"] for line in epochs), 1),
            "wall_s": round(wall_s, 1),
            "peak_memory_mb": peak_memory_mb(self.experiment.device),
            "parameters": sum(p.numel() for p in self.classifier.parameters()),
            "epochs": len(epochs),
            "rollbacks": len(log.read_rollbacks(self.folder)),
            "clips": clips,
            "device": self.experiment.device,
            "source": source(),
            "versions": versions(),
        }
        write_json(self.folder / "done.json", about)

    def _describe(self) -> None:
        with atomic(self.folder / "hyperparams.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(self.experiment.settings, sort_keys=False))
        encoder = CategoricalEncoder()
        encoder.update_from_iterable(self.experiment.classes)
        with atomic(self.folder / "label_encoder.txt") as temporary:
            encoder.save(temporary)

    def check_classes(self) -> None:
        """Refuse a checkpoint whose classes are not the manifest's, in the same order."""
        path = self.folder / "label_encoder.txt"
        if not path.exists():
            return
        encoder = CategoricalEncoder()
        try:
            encoder.load(path)
            known = tuple(encoder.ind2lab[i] for i in range(len(encoder)))
        except (ValueError, RuntimeError, LookupError, OSError) as error:
            raise InputError(f"{path}: broken; delete {self.folder} and train again") from error
        if known != self.experiment.classes:
            raise InputError(
                f"{path}: the checkpoint's classes ({' '.join(known)}) are not the manifest's "
                f"({' '.join(self.experiment.classes)}); train again in another --output_folder"
            )

    def guarded(self, classifier: SpeechClassifier, name: str) -> "Run":
        """This training behind an inference defense or repaired, with scores of its own."""
        other = copy.copy(self)
        other.undefended = self
        other.classifier, other.shown = classifier, self.folder / "guarded" / name
        return other

    def kept(self, name: str, make: Callable[[], SpeechClassifier]) -> SpeechClassifier:
        """A classifier with the weights that `make` found, now or in an earlier call."""
        path = self.folder / "guarded" / name / "model.ckpt"
        if path.exists():
            print(f"stands: {path}")
        else:
            started = time.time()
            made = make().state_dict()
            about = {"repair_s": round(time.time() - started, 1), "source": source()}
            write_json(path.with_name("repair.json"), about | {"versions": versions()})
            with atomic(path) as temporary:
                torch.save(made, temporary)
        fresh, _, _ = self.experiment.new_classifier()
        state = torch.load(path, weights_only=True, map_location="cpu")
        resize(fresh, state)
        fresh.load_state_dict(state)
        return fresh.to(self.experiment.device).eval()

    def score(self) -> None:
        """Stage 5: score the clean and the triggered test set, unless that was done."""
        for split in self.experiment.splits[2:]:
            if not self.score_file(split).exists():
                batches = self.experiment.batches(split)
                scores.score(
                    self.classifier, batches, self.experiment.classes, self.score_file(split)
                )

    def score_file(self, split: str) -> Path:
        """Scores of a test set, named after what it is: another test set gets a file of its own."""
        name = "clean" if split == poison.CLEAN else "triggered"
        rows = self.experiment.poisoned.rows(split)
        key = digest([self.experiment.packs[split].digest, list(rows["ID"])], 8)
        return self.shown / "scores" / f"{name}-{key}.jsonl"

    def measure(self) -> dict[str, Any]:
        """Stage 7: metrics from scores and truth; no model is needed."""
        experiment = self.experiment
        test, clean = (
            experiment.poisoned.rows(poison.CLEAN),
            scores.read(self.score_file(poison.CLEAN)),
        )
        measured = metrics.classification(test, clean)
        if experiment.poisoned.attack:
            triggered = scores.read(self.score_file(poison.TRIGGERED))
            measured |= metrics.backdoor(test, clean, triggered, experiment.poisoned.truth())
            measured |= poison.audibility(experiment.poisoned, experiment.corpus, experiment.output)
        path = self.shown / "figures" / "confusion.png"
        if not path.exists():
            predicted = clean.loc[test["ID"], "predicted"]
            title = f"{self.folder.name}: clean test set"
            figure.confusion_matrix(test["label"], predicted, experiment.classes, path, title)
        return measured

    def record(self, measured: dict[str, Any], defense: dict[str, Any] | None = None) -> Path:
        """Stage 8: append one line to the results, unless this very run has one."""
        entry = record_entry(self, measured, defense)
        name = f"{self.experiment.clean.about['name']}.jsonl"
        path = Path(self.experiment.run["results_folder"]) / name
        if path.exists() and any(old["id"] == entry["id"] for old in record.read(path)):
            print(f"recorded before in {path}")
        else:
            record.append(path, entry)
            print(f"recorded in {path}")
        return path
