"""Pictures of view models (votes, energies, Langevin samples), of repairs and of autoencoders."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bdlib.cli import poison
from bdlib.cli.export import TRIGGERED
from bdlib.defenses.repair.layers import CONVOLUTIONS
from bdlib.evaluation import neurons, views
from bdlib.files import seed_of
from bdlib.models.wide_resnet import WideResNet
from bdlib.records import autoencoder_figure, neuron_figure, view_figure
from bdlib.sampling import rank
from bdlib.training import log

if TYPE_CHECKING:
    from bdlib.cli.run import Run

MOST_CLIPS = 256  # on which gradients are taken


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


def draw_repair(after: "Run") -> None:
    """Draw the gradients of neuron groups before and after a repair, unless that was done.

    Groups are told by the undefended classifier. There is nothing to draw without an attack, without
    convolutions, or of a trigger that no clip can be without.
    """
    experiment, path = after.experiment, after.shown / "figures" / "neurons.png"
    before = after.undefended
    convolutions = any(isinstance(m, CONVOLUTIONS) for m in before.classifier.modules())
    if path.exists() or not experiment.poisoned.attack or not convolutions:
        return
    truth = experiment.poisoned.truth()
    asked = rank(truth.index[truth["split"] == TRIGGERED], 0, "neurons")[:MOST_CLIPS]
    rows = experiment.poisoned.rows(poison.CLEAN)  # of both sets: the loss is that of true labels
    rows = rows[rows["ID"].isin(asked)].reset_index(drop=True)
    if rows.empty:
        return
    clips = {
        "clean clips": experiment.batches(poison.CLEAN, rows),
        "triggered clips": experiment.batches(TRIGGERED, rows),
    }
    groups = neurons.grouped(neurons.activation_changes(before.classifier, *clips.values()))
    norms = {
        name: tuple(
            neurons.gradient_norms(run.classifier, batches, groups) for run in (before, after)
        )
        for name, batches in clips.items()
    }
    neuron_figure.neuron_gradients(norms, path, f"{before.folder.name}: {after.shown.name}")


def autoencoders(folder: Path) -> None:
    """Draw what is not drawn yet of the autoencoders that filters trained in `folder`."""
    for done in sorted(folder.glob("autoencoder-*/done.json")):
        place, figures = done.parent, done.parent / "figures"
        if (figures / "samples.png").exists():
            continue
        autoencoder_figure.autoencoder_curves(log.read_log(place), figures / "training.png")
        for name in ("rebuilt", "samples"):
            clips = np.load(place / f"{name}.npy", allow_pickle=False)
            title = f"{place.name}: {name}"
            autoencoder_figure.spectrograms(clips, figures / f"{name}.png", title)


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
