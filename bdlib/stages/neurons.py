"""Stage 7 of a repair: the gradients of the neurons that the trigger moves, before and after it."""

from typing import Any

from bdlib.defenses.repair.layers import CONVOLUTIONS
from bdlib.evaluation import neurons
from bdlib.evaluation.metrics import Metric
from bdlib.files import read_json
from bdlib.manifest import TEST, TRIGGERED
from bdlib.sampling import rank
from bdlib.seals import unsealed, write_sealed
from bdlib.stages.score import score_file
from bdlib.stages.train import Trained

CLIPS = 256  # at most, on which gradients are taken
FOLDER = "neurons"
KEYS = dict.fromkeys(("clean clips", "triggered clips"), dict)
"""Of a file in `FOLDER`: ``{data: {"before": norms, "after": norms}}``, see `neurons.Norms`."""
SHOWN = "triggered clips"  # whose norms go into a record


def compared(after: Trained) -> dict[str, Any]:
    """Gradient norms of the neuron groups of a repaired classifier, and of it before.

    Groups are told by the undefended classifier; the loss is that of true labels, of test clips
    without and with the trigger. Taken once for each triggered test set, as one clean twin serves
    all triggers. There are none without an attack, without convolutions, of a trigger that no clip
    can be without, or where channels were taken out.
    """
    if not after.poisoned.attack:
        return {}
    name = score_file(after, after.poisoned, TRIGGERED).stem
    path = after.shown / FOLDER / f"{name}.json"
    if not path.exists():
        if not (norms := _taken(after)):
            return {}
        write_sealed(path, norms)
    return unsealed(path, read_json(path, KEYS))


def _taken(after: Trained) -> dict[str, Any]:
    poisoned = after.poisoned
    nets = {"before": after.undefended.classifier, "after": after.classifier}
    sizes = {sum(p.numel() for p in net.parameters()) for net in nets.values()}
    truth = poisoned.truth()
    names = rank(truth.index[truth["split"] == TRIGGERED], 0, "neurons")[:CLIPS]
    rows = poisoned.splits[TEST]  # of both sets
    rows = rows[rows["ID"].isin(names)].reset_index(drop=True)
    convolutions = any(isinstance(m, CONVOLUTIONS) for m in nets["before"].modules())
    if rows.empty or len(sizes) > 1 or not convolutions:
        return {}
    clips = {
        data: after.batches(split, rows)
        for data, split in zip(KEYS, (TEST, TRIGGERED), strict=True)
    }
    groups = neurons.grouped(neurons.activation_changes(nets["before"], *clips.values()))
    return {
        data: {when: neurons.gradient_norms(net, batches, groups) for when, net in nets.items()}
        for data, batches in clips.items()
    }


def measure(after: Trained) -> dict[str, Metric]:
    """Whether backdoored neurons have larger gradients, as GN-FT's abstract says, on either set.

    `neuron_ratio_clean`, `neuron_ratio_triggered`: see `neurons.contrast`; the value is that
    before the repair, and `after` is the same after it. With the latter go the `norms` by layer and
    group, from which a figure is drawn.
    """
    measured = {}
    for data, norms in compared(after).items():
        before, later = (neurons.contrast(norms[when]) for when in ("before", "after"))
        if before:
            told = {**before, "after": later}
            if data == SHOWN:
                told["norms"] = {when: _rounded(norms[when]) for when in ("before", "after")}
            measured[f"neuron_ratio_{data.partition(' ')[0]}"] = told
    return measured


def _rounded(norms: neurons.Norms) -> neurons.Norms:
    """To four digits, as a figure needs no more."""
    return {
        group: [value if value is None else float(f"{value:.4g}") for value in layers]
        for group, layers in norms.items()
    }
