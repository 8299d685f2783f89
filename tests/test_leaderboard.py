"""The leaderboard's protocol and its experiment files say the same."""

import re
from pathlib import Path

import yaml

from bdlib.cli.command import RECOMMENDED
from bdlib.cli.render import planned
from bdlib.files import COMMON
from bdlib.records import record
from bdlib.report.leaderboard import recommended

ROOT = Path(__file__).parents[1]
RECIPES = ("SpeechCommands", "RAVDESS")
LEFT_OUT = {"attribute", "audio_file", "ultrasonic"}


def read(dataset):
    """Attacks of the two halves by name and labels, and the systems that meet them."""
    path = ROOT / "recipes" / dataset / "experiments" / "leaderboard.yaml"
    grids = yaml.safe_load(path.read_text("utf-8"))["grid"]
    seeds = [grid.pop("seed,poison_seed") for grid in grids]
    assert seeds == [[[seed, seed]] for seed in range(3) for _ in range(2)]
    first, *later = zip(grids[::2], grids[1::2], strict=True)
    assert later == [first] * 2
    keys, systems = first[0].keys(), [list(grid.values())[1] for grid in first]
    assert systems[0] == systems[1]
    names = next(key for key in keys if key.startswith("attack,")).split(",")
    listed = [next(iter(grid.values())) for grid in first]
    return [[dict(zip(names, a, strict=True)) for a in half] for half in listed], systems[0]


def test_what_is_recommended_is_the_choice_of_the_records():
    paths = sorted((ROOT / "results").glob("*.jsonl"))
    records = [entry for path in paths for entry in record.read(path)]
    assert recommended(records, planned(ROOT)) == RECOMMENDED


def test_the_lot_is_that_of_the_experiments():
    page = (ROOT / "docs" / "leaderboard.md").read_text("utf-8")
    code, _ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    drawn: dict[str, list[str]] = {}
    exec(code, drawn)
    triggers = {path.stem for path in (COMMON / "attacks").glob("*.yaml")} - LEFT_OUT - {"emotion"}
    emotions = set(drawn["EMOTIONS"].split())
    halves = drawn["development"], drawn["confirmation"]
    assert sorted(halves[0] + halves[1]) == sorted(triggers | emotions)
    for name, half in zip(("Development", "Confirmation"), halves, strict=True):
        (told,) = re.findall(rf"- \*\*{name}\*\*: (.*?)\.\n", page, re.DOTALL)
        assert re.split(r"[,;]\s+", told) == half
    words, speakers = (read(dataset)[0] for dataset in RECIPES)
    for at, half in enumerate(halves):
        sounds = [(name, "one_to_one") for name in half if name in triggers]
        spoken = [name for name in half if name in emotions]
        asked = [(a["attack"], a["labels"]) for a in words[at]]
        assert asked == [*sounds[: 6 - (at == 0)], *[("six_claps", "clean_label")] * (at == 0)]
        said = [a.get("emotion") or (a["attack"], a["labels"]) for a in speakers[at]]
        assert said == [*[(name, "all_to_one") for name, _ in sounds[:4]], *spoken[:2]]


def test_every_defense_of_the_page_meets_every_attack():
    page = (ROOT / "docs" / "leaderboard.md").read_text("utf-8")
    known = {path.stem for path in (COMMON / "defenses").glob("*.yaml")}
    named = set(re.findall(r"`(\w+)`", page)) & known
    for dataset in RECIPES:
        _, systems = read(dataset)
        assert {defense for _, defense, *_ in systems if defense} == named
    cells = [3 * sum(map(len, halves)) * len(systems) for halves, systems in map(read, RECIPES)]
    assert f"{sum(cells):,} cells ({cells[0]:,} and {cells[1]:,})" in page


def test_the_attacker_who_knows_the_filter_meets_what_the_page_says():
    """The same net, seeds and defenses as the leaderboard, in the number of cells that is told."""
    page = (ROOT / "docs" / "leaderboard.md").read_text("utf-8")
    path = ROOT / "recipes" / "SpeechCommands" / "experiments" / "adaptive.yaml"
    grids = [list(grid.values()) for grid in yaml.safe_load(path.read_text("utf-8"))["grid"]]
    (seeds, attacks, first), (*same, second) = grids
    assert same == [seeds, attacks] and seeds == [[0, 0], [1, 1], [2, 2]]
    used = {tuple(system) for system in first + second}
    known = {tuple(system) for system in read("SpeechCommands")[1]}
    assert used == {system for system in known if system[1] != "random_filter"}
    assert len(used) == len(first) + len(second)
    for systems in (first, second):
        assert f"{len(seeds) * len(attacks) * len(systems)} cells" in page
    policies = {(name, labels) for name, labels, *_ in attacks}
    assert {name for name, labels in policies if labels == "clean_label_hard"} == {
        *("six_claps", "tempo", "room")
    }
