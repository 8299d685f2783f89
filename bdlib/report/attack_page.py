"""One page for one attack: a clip with and without the trigger, to listen to and to look at."""

from html import escape
from pathlib import Path

import numpy as np

from bdlib.embed import POLICY, address, sound
from bdlib.report.page_style import STYLE

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>Without the trigger: <audio controls src="{before}"></audio></p>
<p>With it: <audio controls src="{after}"></audio></p>
<figure><img alt="spectrograms of both, and what differs" src="{picture}"></figure>
</body>
</html>
"""


def html(title: str, before: np.ndarray, after: np.ndarray, rate: int, picture: Path) -> str:
    """The page as text; it needs no other file and no network.

    Arguments
    ---------
    title : str
        What the attack is, and which clip.
    before, after : np.ndarray
        (T,) in [-1, 1].
    rate : int
        In Hz.
    picture : Path
        A png of both.
    """
    return PAGE.format(
        policy=POLICY,
        title=escape(title),
        style=STYLE,
        before=sound(before, rate, "flac"),
        after=sound(after, rate, "flac"),
        picture=address("image/png", picture.read_bytes()),
    )
