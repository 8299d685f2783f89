"""Pictures of one run: its attack, its training, what it confuses, its views, its repair.

What is drawn already is not drawn again; then no classifier is loaded.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bdlib.files import atomic, seed_of
from bdlib.manifest import TEST, TRIGGERED
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.score import Scores
from bdlib.stages.train import Trained

if TYPE_CHECKING:  # torch takes seconds to import
    from bdlib.defenses.filters.vae_pls.filter import Judged
    from bdlib.stages.trials import Bench, Trial

COMPONENTS = 24  # in which the clips of a class are drawn


def draw(trained: Trained, scores: Scores) -> None:
    """Draw a trained classifier, as it is or defended, into the figures of its folder."""
    last = trained.shown / "figures" / "confusion.png"
    if last.exists():  # and so do the others
        return
    from bdlib.report.figures import figure  # with matplotlib
    from bdlib.training import log

    training = trained.folder / "figures" / "training.png"
    if not training.exists():
        figure.save(figure.training_curves(log.read_log(trained.folder)), training)
    if trained.defended is None:
        _draw_views(trained)
    elif (trained.shown / "repair.json").exists():
        _draw_repair(trained)
    test, title = trained.poisoned.splits[TEST], f"{trained.folder.name}: clean test set"
    predicted = scores.read(TEST).loc[test["ID"], "predicted"]
    classes = trained.poisoned.classes
    figure.save(figure.confusion_matrix(test["label"], predicted, classes, title), last)


def draw_attack(poisoned: Poisoned) -> Path:
    """One of the `pairs` of test clips with and without the trigger, to look at (attack.png) and to listen to; the page."""
    page, picture = poisoned.folder / "attack.html", poisoned.folder / "attack.png"
    if not page.exists():
        from bdlib.report import attack_page
        from bdlib.report.figures import figure

        name = poisoned.pairs[0]
        before, after = (poisoned.packs[split].waveform(name) for split in (TEST, TRIGGERED))
        rate, title = poisoned.packs[TEST].rate, f"{poisoned.attack_name} on {name}"
        figure.save(figure.attack_figure(before, after, rate, title), picture)
        with atomic(page) as temporary:
            temporary.write_text(attack_page.html(title, before, after, rate, picture), "utf-8")
    return page


def draw_autoencoders(folder: Path) -> None:
    """Draw the autoencoders that filters trained in a folder."""
    for done in sorted(folder.glob("autoencoder-*/done.json")):
        place, figures = done.parent, done.parent / "figures"
        if (figures / "samples.png").exists():
            continue
        from bdlib.report.figures import autoencoder_figure, figure
        from bdlib.training import log

        curves = autoencoder_figure.autoencoder_curves(log.read_log(place))
        figure.save(curves, figures / "training.png")
        for name in ("rebuilt", "samples"):
            clips = np.load(place / f"{name}.npy", allow_pickle=False)
            drawn = autoencoder_figure.spectrograms(clips, f"{place.name}: {name}")
            figure.save(drawn, figures / f"{name}.png")


def draw_trial(
    bench: "Bench", trial: "Trial", judged: "Judged", line: dict[str, Any], folder: Path
) -> None:
    """Draw the clips of the target class, of the attack that the autoencoder was trained on."""
    from bdlib.report.figures import figure, pls_figure

    if trial.attack is None or not pls_figure.of_encoder(line):
        return
    from bdlib.defenses.filters.vae_pls.judge import principal

    target = trial.attack["target"]
    here, stem = trial.labels == target, pls_figure.stem(line)
    points = principal(trial.of(bench.latents)[here], COMPONENTS)
    suspected = judged.suspicion[target] > 0.5
    title = f"{stem.replace('-', ' ')}: class {target}"
    drawn = pls_figure.scatter(points, trial.poisoned[here], suspected, title)
    ((name, data),) = pls_figure.scattered([line]).items()
    figure.save(drawn, folder / f"{name}.png", data)


def _triggered(poisoned: Poisoned) -> pd.DataFrame:
    """The truth of the triggered test clips."""
    truth = poisoned.truth()
    return truth[truth["split"] == TRIGGERED]


def _draw_repair(after: Trained) -> None:
    """Draw the gradients of neuron groups before and after a repair, where there are any."""
    from bdlib.stages import neurons  # with torch

    if norms := neurons.compared(after):
        from bdlib.report.figures import figure, neuron_figure

        both = {data: (of["before"], of["after"]) for data, of in norms.items()}
        title = f"{after.folder.name}: {after.defended}"
        figure.save(
            neuron_figure.neuron_gradients(both, title), after.shown / "figures" / "neurons.png"
        )


def _draw_views(trained: Trained) -> None:
    """Draw Langevin samples, energies and votes of a view model; others have none."""
    from bdlib.report.figures import figure, view_figure

    figures, name = trained.folder / "figures", trained.folder.name
    for folder, of in (("samples", "p(x|y)"), ("free_samples", "p(x)")):
        if samples := sorted((trained.folder / folder).glob("*.npy")):
            by_epoch = {int(path.stem): np.load(path, allow_pickle=False) for path in samples}
            count = len(by_epoch[max(by_epoch)])
            classes = trained.poisoned.classes[:count] if folder == "samples" else None
            drawn = view_figure.langevin_samples(by_epoch, f"{name}: samples from {of}", classes)
            figure.save(drawn, figures / "samples.png")
    from bdlib.models.wide_resnet import WideResNet

    if trained.poisoned.attack and isinstance(trained.classifier, WideResNet):
        _draw_energies(trained, figures / "energies.png")
        _draw_votes(trained, figures / "votes.png")


def _draw_energies(trained: Trained, path: Path) -> None:
    import torch

    from bdlib.evaluation import views
    from bdlib.report.figures import figure, view_figure

    poisoned, clean = trained.poisoned, trained.batches(TEST)
    noise = torch.Generator().manual_seed(seed_of("noise", trained.seed))
    rows = poisoned.splits[TRIGGERED]
    rows = rows[rows["ID"].isin(_triggered(poisoned).index)].reset_index(drop=True)
    energies = {
        "clean": views.energies(trained.classifier, clean),
        "triggered": views.energies(trained.classifier, trained.batches(TRIGGERED, rows)),
        "noise": views.energies(trained.classifier, clean, noise),
    }
    title = f"{trained.folder.name}: energy of the test sets"
    figure.save(view_figure.energy_histograms(energies, title), path)


def _draw_votes(trained: Trained, path: Path) -> None:
    """The first triggered clip whose target class differs from its true one."""
    import torch

    from bdlib.evaluation import views
    from bdlib.report.figures import figure, view_figure

    poisoned, truth = trained.poisoned, _triggered(trained.poisoned)
    row = truth[truth["label_before"] != truth["label_after"]]
    if row.empty:
        return
    name, true, target = row.index[0], row["label_before"].iloc[0], row["label_after"].iloc[0]
    audio, wav = poisoned.corpus.audio, poisoned.packs[TRIGGERED].waveform(name)
    wav = torch.from_numpy(wav)[: round(audio.seconds * audio.sample_rate)]
    features, logits = views.votes(trained.classifier, wav)
    by_class = dict(zip(poisoned.classes, logits.T, strict=True))
    title = f"{trained.folder.name}: {name} with the trigger"
    frames = trained.classifier.view_frames
    drawn = view_figure.view_votes(features, by_class, frames, true, target, title)
    figure.save(drawn, path)
