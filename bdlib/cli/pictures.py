"""Pictures of a view model: its votes on a triggered clip, its energies, its Langevin samples."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from bdlib.cli import poison
from bdlib.cli.export import TRIGGERED
from bdlib.evaluation import views
from bdlib.files import seed_of
from bdlib.models.wide_resnet import WideResNet
from bdlib.records import view_figure

if TYPE_CHECKING:
    from bdlib.cli.run import Run


def draw(run: "Run") -> None:
    """Draw what is not drawn yet into the figures of a training; other models have no views."""
    folder, samples = run.folder / "figures", sorted((run.folder / "samples").glob("*.npy"))
    if samples and not (folder / "samples.png").exists():
        by_epoch = {int(path.stem): np.load(path, allow_pickle=False) for path in samples}
        classes = run.experiment.classes[: len(by_epoch[max(by_epoch)])]
        title = f"{run.folder.name}: samples from p(x|y)"
        view_figure.langevin_samples(by_epoch, folder / "samples.png", title, classes)
    attack = run.experiment.poisoned.attack
    if attack and isinstance(run.classifier, WideResNet):
        if not (folder / "energies.png").exists():
            _energies(run)
        if not (folder / "votes.png").exists():
            _votes(run)


def _energies(run: "Run") -> None:
    experiment = run.experiment
    noise = torch.Generator().manual_seed(seed_of("noise", experiment.seed))
    clean = experiment.batches(poison.CLEAN)
    truth = experiment.poisoned.truth()
    rows = experiment.poisoned.rows(TRIGGERED)
    rows = rows[rows["ID"].isin(truth.index[truth["split"] == TRIGGERED])].reset_index(drop=True)
    found = {
        "clean": views.energies(run.classifier, clean),
        "triggered": views.energies(run.classifier, experiment.batches(TRIGGERED, rows)),
        "noise": views.energies(run.classifier, clean, noise),
    }
    path = run.folder / "figures" / "energies.png"
    view_figure.energy_histograms(found, path, f"{run.folder.name}: energy of the test sets")


def _votes(run: "Run") -> None:
    """The first triggered clip whose target class differs from its true one."""
    experiment = run.experiment
    truth = experiment.poisoned.truth()
    row = truth[(truth["split"] == TRIGGERED) & (truth["label_before"] != truth["label_after"])]
    if row.empty:
        return
    name, true, target = row.index[0], row["label_before"].iloc[0], row["label_after"].iloc[0]
    wav = torch.from_numpy(experiment.packs[TRIGGERED].waveform(name))
    features, logits = views.votes(
        run.classifier,
        wav[: round(experiment.corpus["seconds"] * experiment.corpus["sample_rate"])],
    )
    view_figure.view_votes(
        features,
        dict(zip(experiment.classes, logits.T, strict=True)),
        run.classifier.view_frames,
        true,
        target,
        run.folder / "figures" / "votes.png",
        f"{run.folder.name}: {name} with the trigger",
    )
