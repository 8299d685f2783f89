"""Of how many nets it is true that backdoored neurons have the larger gradients, in a page."""

from collections import defaultdict

from blocks import ROOT, Blocks

from bdlib.records import record
from bdlib.report.neurons_table import SETS, by_net

AMONG = {"RAVDESS": "speakers", "SpeechCommands": "keywords"}


def counted() -> str:
    """Poisoned nets by kind: in the median over layers, and in parentheses in every layer."""
    found: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for name, among in AMONG.items():
        for some in by_net(record.read(ROOT / f"results/{name}.jsonl")).values():
            if some[0]["attack"]["poisoned"]:
                net = f"`{some[0]['model']['name']}`"
                found[net, among].append(some[0]["metrics"][SETS[1]])
    told = []
    for (net, among), ratios in sorted(found.items()):
        larger = sum(ratio["value"] > 1 for ratio in ratios)
        ordered = sum(ratio["ordered"] == ratio["layers"] for ratio in ratios)
        told.append(f"{net} on {among} {larger} of {len(ratios)} ({ordered})")
    return ", ".join(told)


BLOCKS: Blocks = {"docs/fidelity.md": {"counted": counted}}
