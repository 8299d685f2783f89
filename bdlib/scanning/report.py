"""One offline page: the verdict, the classes, a map, and the flagged clips to look at and listen to."""

import html
import io
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from bdlib.defenses.disagreement import CALL, Judgement
from bdlib.embed import POLICY, address, sound
from bdlib.encoders import RATE, cropped
from bdlib.files import atomic
from bdlib.scanning.decide import NOTHING, Verdict
from bdlib.scanning.heard import Heard

HERE = Path(__file__).parent
WITH_AUDIO = 200  # flagged clips whose sound is in the page
MOST_BYTES = 8_000_000  # of that sound, as text
MOST_POINTS = 3000  # of the map, flagged ones not counted
PICTURE = (100, 40)  # pixels of a spectrogram
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>bdlib scan: {kind}</title><style>{style}</style></head><body>
<h1>bdlib scan of {corpus}</h1>
<p class="verdict {found}">{sentence}</p>
{evidence}
<p class="quiet">{about}</p>
<h2>Classes</h2>
<p class="quiet">Deviations by which clips that sound like another class exceed what the other classes
lead to expect. Beyond the line, {call:g}, a class is called; another may be called for what is told above.</p>
<div class="bars" id="bars"></div>
<h2>Map</h2>
<p class="quiet">Each point is a clip, placed by the two directions that separate the classes best. Point
at one to see its name, click to hear it; with the keyboard, arrows step through the flagged ones. Orange is flagged, blue the highlighted class.</p>
<div class="tools"><label>Highlight <select id="highlight"><option value="">no class</option></select></label></div>
<canvas id="map" tabindex="0" role="application" aria-label="map of clips; arrows step, enter plays"></canvas>
<p id="told" aria-live="polite"></p>
<h2>Flagged clips</h2>
<p class="quiet">Ticked clips go on the drop list. clean.csv leaves out all of them.</p>
<div class="tools"><input id="find" type="search" placeholder="find" aria-label="find">
<select id="label" aria-label="label"><option value="">all labels</option></select>
<select id="reason" aria-label="reason"><option value="">all reasons</option></select>
<button type="button" id="all">Tick or untick these</button>
<button type="button" id="export">Export drop list</button><span class="quiet" id="count"></span></div>
<table><thead><tr><th>Drop</th><th>Play</th><th>Spectrogram</th>{heads}</tr></thead><tbody id="rows"></tbody></table>
<p><button type="button" id="more" hidden>Show more</button></p>
<script type="application/json" id="data">{data}</script><script>{script}</script></body></html>
"""
HEADS = {
    "path": "Clip",
    "label": "Label",
    "likely": "Sounds like",
    "reasons": "Reasons",
    "score": "Score",
}


def write_report(
    path: Path, told: Mapping[str, Any], heard: Heard, judged: Judgement, verdict: Verdict
) -> None:
    """Write the page.

    Arguments
    ---------
    path : Path
        Of the file.
    told : Mapping[str, Any]
        What scan.json holds.
    heard, judged, verdict : Heard, Judgement, Verdict
        What was found.
    """
    heads = "".join(
        f'<th data-key="{key}"><button type="button">{name}</button></th>'
        for key, name in HEADS.items()
    )
    text = PAGE.format(
        policy=f"{POLICY} file: 'self'",  # clips that are not in the page lie where they were
        kind=html.escape(verdict.kind),
        style=(HERE / "page.css").read_text("utf-8"),
        corpus=html.escape(heard.source.root.name),
        found="" if verdict.kind == NOTHING else "found",
        sentence=html.escape(verdict.sentence),
        evidence=_evidence(told),
        about=html.escape(_about(told)),
        call=CALL,
        heads=heads,
        # In a script element only these three characters can end it or open another.
        data=json.dumps(_data(path, heard, judged, verdict))
        .replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
        script=(HERE / "page.js").read_text("utf-8"),
    )  # fmt: skip
    with atomic(path) as temporary:
        temporary.write_text(text, "utf-8")


def _evidence(told: Mapping[str, Any]) -> str:
    lines = [f"{accused['label']}: {accused['why']}" for accused in told["accused"]]
    lines += [finding["text"] for finding in told["findings"] if finding["speaks_for"] != "poison"]
    lines += [f"not scanned: {line}" for line in told["not_scanned"][:5]]
    if len(told["not_scanned"]) > 5:
        lines.append(
            f"and {len(told['not_scanned']) - 5} more that were not scanned: see scan.json"
        )
    shown = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    hidden = "".join(f"<li>{html.escape(line)}</li>" for line in told["hidden"])
    return f"<ul>{shown}</ul><details><summary>What could hide from this scan</summary><ul>{hidden}</ul></details>"


def _about(told: Mapping[str, Any]) -> str:
    counts = told["counts"]
    return (
        f"{counts['clips']} clips, {counts['flagged']} flagged. Encoder: {told['encoder']['name']} "
        f"({told['encoder']['why']})."
        + (
            f" Of {counts['cropped']} clips longer than 4 s the middle 4 s were heard."
            if counts["cropped"]
            else ""
        )
    )


def _data(path: Path, heard: Heard, judged: Judgement, verdict: Verdict) -> dict[str, Any]:
    """What the script draws."""
    names = {"likely_label": "likely"}
    spans = heard.source.spans(verdict.flagged["clip"])
    flagged = verdict.flagged.rename(columns=names).join(spans).to_dict("records")
    accused = {a.label for a in verdict.accused}
    sizes = dict(zip(*np.unique(heard.labels, return_counts=True), strict=True))
    classes = [
        {"name": name, "excess": float(value), "clips": int(sizes[name]), "called": name in accused}
        for name, value in sorted(verdict.excess.items(), key=lambda item: -item[1])
    ]
    audio, pictures = _heard_and_seen(heard, [row["clip"] for row in flagged[:WITH_AUDIO]])
    root = os.path.relpath(heard.source.root, path.resolve().parent).replace(os.sep, "/")
    return {
        "call": CALL,
        "classes": classes,
        "flagged": flagged,
        "points": _points(heard, judged, verdict),
        "audio": audio,
        "pictures": pictures,
        "root": f"./{quote(root)}/",
    }


def _points(heard: Heard, judged: Judgement, verdict: Verdict) -> list[list[Any]]:
    """Of the map: number, place in the unit square, path, label, likely label, reasons."""
    flagged = dict(zip(verdict.flagged["clip"], verdict.flagged["reasons"], strict=True))
    others = np.setdiff1d(np.arange(len(heard.labels)), list(flagged))
    others = np.random.Generator(np.random.PCG64(0)).permutation(others)[:MOST_POINTS]
    chosen = np.concatenate([others, np.array(list(flagged), np.int64)]).astype(int)
    placed = plane(heard.embeddings, heard.labels, others, chosen)
    low, high = np.quantile(placed, [0.002, 0.998], axis=0)
    unit = ((placed - low) / np.maximum(high - low, 1e-9)).clip(0, 1).round(4)
    return [
        [int(clip), *place, heard.paths[clip], str(heard.labels[clip]),
         judged.classes[judged.likely[clip]] if clip in flagged else "", flagged.get(clip, "")]
        for clip, place in zip(chosen, unit.tolist(), strict=True)
    ]  # fmt: skip


def plane(
    embeddings: np.ndarray, labels: np.ndarray, known: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Rows (len(rows), 2) along the two directions that separate the classes of `known` best.

    Of two classes there is one such direction: then the two in which all vary most.
    """
    if len(np.unique(labels[known])) > 2 and len(known) > 10:
        model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=2)
        model.fit(embeddings[known], labels[known])
        return model.transform(embeddings[rows])
    return PCA(2, random_state=0).fit_transform(embeddings[rows])


def _heard_and_seen(heard: Heard, clips: Sequence[int]) -> tuple[dict[int, str], dict[int, str]]:
    """Sound and spectrogram of clips as data addresses, until the page would be too large."""
    from matplotlib.image import imsave

    audio: dict[int, str] = {}
    pictures: dict[int, str] = {}
    total = 0
    for clip in clips:
        samples = cropped(heard.read(clip))
        heard_as, picture = sound(samples, RATE, "ogg"), io.BytesIO()
        total += len(heard_as)
        if total > MOST_BYTES:
            break
        imsave(picture, spectrogram(samples), cmap="magma", format="png", origin="lower")
        audio[clip] = heard_as
        pictures[clip] = address("image/png", picture.getvalue())
    return audio, pictures


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """Level in dB, 60 dB deep, of a clip (T,) at `RATE`; (40, 100), low frequencies first."""
    width, height = PICTURE
    starts = np.linspace(0, max(0, len(samples) - 512), width).astype(int)
    frames = np.pad(samples, (0, 512))[starts[:, None] + np.arange(512)] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames, axis=1))[:, 1:] ** 2
    edges = np.unique(np.geomspace(2, 256, height + 1).astype(int))
    rows = np.interp(
        np.arange(height), np.linspace(0, height - 1, len(edges) - 1), np.arange(len(edges) - 1)
    )
    bands = np.stack([power[:, a:b].mean(1) for a, b in itertools.pairwise(edges)])
    level = 10 * np.log10(bands[rows.round().astype(int)] + 1e-10)
    return np.maximum(level, level.max() - 60)
