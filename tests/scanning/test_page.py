"""The page in a browser without a window: it sorts, filters, plays, exports, and asks for nothing."""

import pytest

from bdlib.scanning.scan import scan

TRY = """
HTMLMediaElement.prototype.play = function () { said.played = this.src.slice(0, 20); return Promise.resolve(); };
let exported = null;
URL.createObjectURL = (blob) => { exported = blob; return "blob:none"; };
HTMLAnchorElement.prototype.click = function () { said.download = this.download; };
const cells = (place) => [...document.querySelectorAll("#rows tr")].map((row) => row.children[place].textContent);
said.rows = cells(3).length;
document.querySelector('th[data-key="path"] button').click();
said.up = cells(3);
document.querySelector('th[data-key="path"] button').click();
said.down = cells(3);
document.getElementById("find").value = said.up[0];
document.getElementById("find").dispatchEvent(new Event("input"));
said.filtered = cells(3);
document.querySelector("#rows input").click();
document.getElementById("export").click();
said.list = await exported.text();
const box = document.getElementById("map").getBoundingClientRect();
const point = suspects[0];
document.getElementById("map").dispatchEvent(new MouseEvent("click",
  { clientX: box.left + point.px, clientY: box.top + point.py }));
await null;
said.told = document.getElementById("told").textContent;
"""


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_in_a_browser(encoder, poisoned, tmp_path, browser, width):
    scan(poisoned, "words", tmp_path / "out", cache=tmp_path / "c", quiet=True)
    said = browser((tmp_path / "out" / "report.html").read_text(), TRY, width)
    assert said["rows"] >= 11 and said["up"] == said["down"][::-1] == sorted(said["up"])
    assert said["filtered"] == [said["up"][0]]
    lines = said["list"].splitlines()
    assert lines[0] == "path,label" and len(lines) == said["rows"]  # one was unticked
    assert said["download"] == "drop_list.csv" and said["up"][0] not in said["list"]
    assert said["played"] == "data:audio/ogg;base6" and "labelled left" in said["told"]
