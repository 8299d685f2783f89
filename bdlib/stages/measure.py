"""Stage 7: scores and truth to numbers; no model is needed."""

from typing import Any

from bdlib.errors import InputError, fits
from bdlib.evaluation import metrics
from bdlib.evaluation.metrics import Metric
from bdlib.files import read_json
from bdlib.manifest import TEST, TRIGGERED
from bdlib.sampling import rank
from bdlib.seals import SEAL, unsealed, write_sealed
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.score import Scores

HEARD = 100  # test clips on which stealth is measured


def measure(scores: Scores, poisoned: Poisoned) -> dict[str, Any]:
    """Accuracy and, under attack, what the backdoor does and how audible its trigger is."""
    test, clean = poisoned.splits[TEST], scores.read(TEST)
    measured = metrics.classification(test, clean)
    if poisoned.attack:
        triggered = scores.read(TRIGGERED)
        measured |= metrics.backdoor(test, clean, triggered, poisoned.truth())
        measured |= audibility(poisoned)
    return measured


def audibility(poisoned: Poisoned) -> dict[str, Metric]:
    """How audible the trigger is on at most `HEARD` test clips; measured once, nothing if clean."""
    if not poisoned.pairs:
        return {}
    path = poisoned.folder / "stealth.json"
    if not path.exists():
        from bdlib.evaluation import stealth  # with torch, which takes seconds

        if absent := stealth.missing():
            print(
                f'note: stealth without {" and ".join(absent)}; run `pip install -e ".[stealth]"`'
            )
        names = rank(poisoned.pairs, 0, "stealth")[:HEARD]
        clean, altered = poisoned.packs[TEST], poisoned.packs[TRIGGERED]
        pairs = ((clean.waveform(name), altered.waveform(name)) for name in names)
        write_sealed(path, stealth.measure(pairs, clean.rate))
    told = read_json(path)
    measured = {k: v for k, v in told.items() if k != SEAL} if fits(told, dict) else None
    if not fits(measured, dict[str, dict[str, float]]):
        raise InputError(f"{path}: broken; delete it, and the next run measures again")
    return unsealed(path, told)
