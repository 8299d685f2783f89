"""The overview: which records are points, what they are called, and that labels keep apart."""

import numpy as np
from matplotlib.text import Annotation, Text

from bdlib.report.figures.overview_figure import draw

FILTER = {"stage": "filter", "clean_budget": 0, "selection": "fixed"}


def rates(accuracy, success):
    return {"clean_accuracy": {"value": accuracy}, "attack_success_rate": {"value": success}}


def system(make_record, name, accuracy, success, **changes):
    defense = {"defense": {"name": name, **FILTER}} if name else {}
    return make_record({**defense, "metrics": rates(accuracy, success), **changes})


def test_a_point_a_system_of_the_shared_attack(make_record):
    records = [
        system(make_record, None, 0.9, 1.0),
        system(make_record, None, 0.94, 1.0, seed=1),
        system(make_record, "scan", 0.9, 0.5),
        system(make_record, "spectre", 0.8, 0.0),
        system(make_record, "random_filter", 0.8, 0.9, **{"attack.trigger.scale": 0.02}),
        system(make_record, "random_filter", 0.7, 0.9, **{"dataset.digest": "d1",
               "dataset.counts.train": 300}),
        system(make_record, "feature_noise", 0.1, 0.0) | {"defense": {
            "name": "feature_noise", **FILTER, "stage": "inference", "selection": "oracle"}},
    ]  # fmt: skip
    ((stem, picture),) = draw(records, []).items()
    figure = picture.figure
    assert stem == "overview-SpeechCommands-12-subset"
    (axis,) = figure.axes
    texts = {text.get_text(): text.xy for text in axis.texts}
    assert texts.keys() == {"resnet50", "scan", "spectre", "random_filter"}
    assert np.allclose(texts["resnet50"], (92, 100)) and np.allclose(texts["scan"], (90, 50))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["undefended", "filter of the training data", "4,700 training clips",
                     "300 training clips"]  # fmt: skip
    assert draw(records[:3], []) == {}  # too few
    # Another policy marks the name only once it has a picture of its own.
    other = {"attack.rate": 0.2}
    few = [system(make_record, name, 0.9, 0.1, **other) for name in ("scan", "spectre", None)]
    assert draw(records + few, []).keys() == {stem}
    enough = [*few, system(make_record, "random_filter", 0.8, 0.9, **other)]
    two = draw(records + enough, [])
    assert len(two) == 2 and all(name.startswith(f"{stem}-") for name in two)


def test_of_settings_that_no_label_tells_the_first_run_is_drawn(make_record):
    """Not what was tried later, beside a page that tells of the first."""
    names = "scan", "spectre", "random_filter", None
    records = [system(make_record, name, 0.9, 0.5) for name in names]
    later = system(make_record, None, 0.7, 0.1, **{"model.settings": {"train": {"keep": "best"}}})
    later["time"] = "2099" + later["time"][4:]
    ((_, picture),) = draw([later, *records], []).items()
    (axis,) = picture.figure.axes
    assert np.allclose({text.get_text(): text.xy for text in axis.texts}["resnet50"], (90, 50))


def test_labels_of_close_points_do_not_overlap(make_record):
    records = [system(make_record, f"filter_{i}", 0.9 + i / 1000, 0.01) for i in range(36)]
    (picture,) = draw(records, []).values()
    figure = picture.figure
    figure.draw_without_rendering()
    texts = figure.findobj(Annotation)
    boxes = [Text.get_window_extent(text) for text in texts]  # of the words, without the line
    assert len(boxes) == 36
    page = figure.axes[0].get_window_extent()
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
