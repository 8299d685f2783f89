"""Which shared sounds a scan tells of."""

from types import SimpleNamespace

import numpy as np

from bdlib.defenses.snippets import Snippet
from bdlib.scanning import repeats
from bdlib.scanning.repeats import Repeats


def test_suspects_are_asked_where_labels_do_not_call_the_class(monkeypatch):
    """Of a class that they call, the sound of a few of its clips would hide how many are poisoned."""
    sounds = [
        Snippet(name, np.arange(8), np.ones(8), 0.0, 0.1, suspects=suspects)
        for name, suspects in (("down", True), ("left", False), ("left", True), ("yes", True))
    ]
    asked = []
    monkeypatch.setattr(repeats, "shared_sounds", lambda *given: asked.append(given[-1]) or sounds)
    heard = SimpleNamespace(read=None, labels=None, measure=lambda name: None)
    judged = SimpleNamespace(score="scores", called=("left", "yes"))
    told = list(Repeats(judged=judged).find(heard))
    assert [found.label for found in told] == ["down", "left"]
    assert len(list(Repeats().find(heard))) == 4 and asked == ["scores", None]
    assert told[0].text.startswith("8 clips of down share a sound of 0.10 s")
