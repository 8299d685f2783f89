"""The leaderboard's protocol and its experiment files say the same."""

import re
from pathlib import Path

import yaml

from bdlib.files import COMMON

ROOT = Path(__file__).parents[1]
RECIPES = ("SpeechCommands", "RAVDESS")
LEFT_OUT = {"attribute", "audio_file", "ultrasonic"}


def read(dataset):
    """Attacks of the two halves by name and labels, and the systems that meet them."""
    path = ROOT / "recipes" / dataset / "experiments" / "leaderboard.yaml"
    halves = yaml.safe_load(path.read_text("utf-8"))["grid"]
    systems = [next(half[key] for key in half if key.startswith("model,")) for half in halves]
    assert systems[0] == systems[1] and len(halves) == 2
    attacks = []
    for half in halves:
        assert half["seed,poison_seed"] == [[0, 0], [1, 1], [2, 2]]
        (key,) = (key for key in half if key.startswith("attack,"))
        attacks.append([dict(zip(key.split(","), values, strict=True)) for values in half[key]])
    return attacks, systems[0]


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
    for dataset in RECIPES:
        attacks, _ = read(dataset)
        for half, listed in zip(halves, attacks, strict=True):
            by_labels = {
                labels: [a["attack"] for a in listed if a["labels"] == labels]
                for labels in ("one_to_one", "all_to_one", "clean_label")
            }
            sounds = [name for name in half if name in triggers]
            assert by_labels["all_to_one"] == sounds
            assert by_labels["one_to_one"] == (sounds if dataset == "SpeechCommands" else [])
            assert by_labels["clean_label"] == ["six_claps"] * ("six_claps" in half)
            spoken = [a["emotion"] for a in listed if a["attack"] == "emotion"]
            assert spoken == ([n for n in half if n in emotions] if dataset == "RAVDESS" else [])


def test_every_defense_of_the_page_meets_every_attack():
    page = (ROOT / "docs" / "leaderboard.md").read_text("utf-8")
    known = {path.stem for path in (COMMON / "defenses").glob("*.yaml")}
    named = set(re.findall(r"`(\w+)`", page)) & known
    for dataset in RECIPES:
        _, systems = read(dataset)
        assert {defense for _, defense, *_ in systems if defense} == named
    counts = {name: [len(part) for part in read(name)[0]] for name in RECIPES}
    assert counts == {"SpeechCommands": [23, 14], "RAVDESS": [16, 11]}
    cells = [3 * sum(counts[name]) * len(read(name)[1]) for name in RECIPES]
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
    nets = {"keyword_resnet", "mvd_small"}
    assert used == {s for s in known if s[0] in nets and s[1] != "random_filter"}
    assert len(used) == len(first) + len(second)
    for systems in (first, second):
        assert f"{len(seeds) * len(attacks) * len(systems)} cells" in page
    policies = {(name, labels) for name, labels, *_ in attacks}
    assert {name for name, labels in policies if labels == "clean_label_hard"} == {
        *("six_claps", "tempo", "room")
    }
