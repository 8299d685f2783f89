"""The html page stands alone, escapes all text and holds every run."""

import base64
import re
from html.parser import HTMLParser

from bdlib.report.page import SCRIPT, html

VOID = {"meta", "img", "wbr"}


class Page(HTMLParser):
    """Collects tags and text, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_all_text_is_escaped(make_record):
    evil = "<script>alert('&')</script>"
    record = make_record(
        {
            "command": evil,
            "error": evil,
            "attack.name": evil,
            "dataset.name": evil,
            "model.name": evil,
            "versions": {evil: evil},
            "defense": {"name": evil, "stage": "filter", "clean_budget": 0, "selection": "fixed"},
        }
    )
    failed = dict(record, status="failed", seed=1)
    text = html([record, failed], [], [])
    page = Page(text)
    assert text.count("<script") == 1 and SCRIPT.read_text() in text
    assert not {tag for tag, _ in page.tags} & {"link", "iframe"}
    assert page.text.count(evil) > 10


def test_every_run_is_there_with_how_it_was_made(make_record):
    records = [
        make_record(),
        make_record({"id": "r1", "seed": 5, "status": "failed", "metrics": {}, "command": "x"}),
    ]
    page = Page(html(records, [], []))
    assert sum(tag == "details" for tag, _ in page.tags) == 4  # contents, a section, two runs
    for word in ("python train.py hparams/resnet50.yaml", '"digest": "d0"', '"seed": 5',
                 '"bdlib": "0.1.0"', "(720 of 800)", "failed", "measured on a subset", "record r0"):  # fmt: skip
        assert word in page.text


def test_figures_are_inside_and_nothing_is_fetched(tmp_path, make_record):
    png = tmp_path / "clap_attack.png"
    png.write_bytes(b"\x89PNG not really")
    text = html([make_record()], [], [], [png])
    sources = [attrs["src"] for tag, attrs in Page(text).tags if tag == "img"]
    assert [base64.b64decode(s.partition("base64,")[2]) for s in sources] == [png.read_bytes()]
    assert not re.search(r"(src|href)=\"(?!data:|#)|@import|url\(", text)


def test_an_attack_is_a_section_with_five_columns_and_its_figures(tmp_path, make_record):
    noise = {"name": "feature_noise", "stage": "inference", "clean_budget": 0,
             "selection": "oracle", "settings": {"noise": 0.2}}  # fmt: skip
    records = [make_record(), make_record({"attack.name": "whistle"}),
               make_record({"defense": noise}), make_record({"dataset.scale": "mini"})]  # fmt: skip
    stems = ("noise-SpeechCommands-12-subset-clap-scale-0.1", "overview-SpeechCommands-12-subset",
             "noise-SpeechCommands-12-subset-clap-scale-0.15", "other")  # fmt: skip
    figures = [tmp_path / f"{stem}.png" for stem in stems]
    for figure in figures:
        figure.write_bytes(b"png")
    text = html(records, [], [], figures)
    page = Page(text)
    assert sum(tag == "section" for tag, _ in page.tags) == 3
    clap, rest = text.partition('<section id="c1-0"')[2].split("</section>", 1)
    assert stems[0] in clap and "Actor" not in clap and stems[2] not in clap
    assert "overview" in text.partition('c1-0">\n')[0] and "Other figures (1)" in rest
    assert clap.count('<th scope="col">') == 4  # nothing is published
    table, details = clap.split("</table>")
    assert "noise" not in table and "feature_noise" in details  # levels found on the test set
    links = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    assert links <= {attrs.get("id") for _, attrs in page.tags}


def test_no_record_is_said(make_record):
    assert "No runs have been measured yet" in Page(html([], [], [])).text
    assert html([make_record()], [], []) == html([make_record()], [], [])


TRY = """
const rows = () => [...document.querySelectorAll("tbody tr")].filter((row) => row.offsetParent)
  .map((row) => row.cells[0].textContent);
said.all = rows();
const buttons = document.querySelectorAll("thead button");
buttons[0].click(); said.up = rows();
buttons[0].click(); said.down = rows();
const find = document.querySelector("input[type=search]");
find.value = "mvd clap"; find.dispatchEvent(new Event("input")); said.found = rows();
find.value = "whistle"; find.dispatchEvent(new Event("input")); said.none = rows();
"""


def test_tables_sort_and_filter_in_a_browser(browser, make_record):
    names = ("mvj", "mvd", "resnet50")
    records = [make_record({"id": name, "model.name": name}) for name in names]
    said = browser(html(records, [], []), TRY, 1200)
    assert sorted(said["all"]) == said["up"] == said["down"][::-1] == sorted(names)
    assert said["found"] == ["mvd"] and said["none"] == []
