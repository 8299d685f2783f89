"""The page in a browser without a window: it sorts, filters, plays, exports, and asks for nothing."""

import json
import shutil
import subprocess

import pytest

from bdlib.scanning.scan import scan

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
TRY = """
const said = {}, asked = [];
window.addEventListener("error", (event) => { said.error = event.message; });
document.addEventListener("securitypolicyviolation", (event) => asked.push(event.blockedURI));
HTMLMediaElement.prototype.play = function () { said.played = this.src.slice(0, 20); return Promise.resolve(); };
let exported = null;
URL.createObjectURL = (blob) => { exported = blob; return "blob:none"; };
HTMLAnchorElement.prototype.click = function () { said.download = this.download; };
setTimeout(async () => {
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
  said.asked = asked; said.loaded = performance.getEntriesByType("resource").map((r) => r.name.slice(0, 5));
  said.wide = document.documentElement.scrollWidth > window.innerWidth;
  const out = document.createElement("pre"); out.id = "said"; out.textContent = "SAID" + JSON.stringify(said) + "DIAS";
  document.body.append(out);
}, 50);
"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium")
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_in_a_browser(encoder, poisoned, tmp_path, width):
    scan(poisoned, "words", tmp_path / "out", cache=tmp_path / "c", quiet=True)
    page = (tmp_path / "out" / "report.html").read_text()
    tried = tmp_path / "tried.html"
    tried.write_text(page.replace("</body>", f"<script>{TRY}</script></body>"))
    shown = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
         "--virtual-time-budget=4000", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'user'}", "--dump-dom",
         tried.as_uri()],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    text = shown.stdout.rpartition("SAID{")[2].partition("}DIAS")[0]
    said = json.loads(
        "{" + text.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&") + "}"
    )
    assert "error" not in said and "CONSOLE" not in shown.stderr
    assert said["rows"] >= 11 and said["up"] == said["down"][::-1] == sorted(said["up"])
    assert said["filtered"] == [said["up"][0]]
    lines = said["list"].splitlines()
    assert lines[0] == "path,label" and len(lines) == said["rows"]  # one was unticked
    assert said["download"] == "drop_list.csv" and said["up"][0] not in said["list"]
    assert said["played"] == "data:audio/ogg;base6" and "labelled left" in said["told"]
    assert said["asked"] == [] and set(said["loaded"]) <= {"data:"} and not said["wide"]
