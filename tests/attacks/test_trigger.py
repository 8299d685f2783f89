"""Attacks as plain data: what is written, what is read back, and what is refused."""

import json
from dataclasses import replace

import pytest

from bdlib.attacks import labels, natural, opportunistic, sounds
from bdlib.attacks.insert import Insert
from bdlib.attacks.padding import Padding
from bdlib.attacks.tempo import Tempo
from bdlib.attacks.trigger import from_dict
from bdlib.errors import InputError
from bdlib.files import COMMON
from bdlib.stages.document import common

TONE = {"type": "bdlib.attacks.sounds.Tone", "hertz": 440.0, "seconds": 0.1}


def test_what_is_written():
    assert Insert(sounds.Tone(), 0.2, 0.5).to_dict() == {
        "type": "bdlib.attacks.insert.Insert", "sound": TONE, "scale": 0.2, "position": 0.5
    }  # fmt: skip


@pytest.mark.parametrize(
    "part",
    [
        sounds.Sequence((sounds.Clap(), sounds.Repeat(sounds.Trim(sounds.Tone(880.0), 0.05), 3))),
        Insert(sounds.AudioFile("a b/ü.wav"), 1.0, "random"),
        labels.OneToOne("no", "on"),
        labels.AllToOne("0011"),
        labels.AllToAll(("a", "b", "c")),
        labels.CleanLabel("left"),
        labels.CleanLabelHard("left", 5),
        Tempo(1.5, "repeat"),
        opportunistic.Opportunistic(chosen=sounds.Trim(sounds.AudioFile("a.wav"), 1.0, 3.0)),
        natural.Unaltered(),
        natural.NaturalAttribute("emotion", "angry", "Actor_01", "male"),
    ],
)
def test_json_and_back_are_equal(part):
    again = from_dict(json.loads(json.dumps(part.to_dict())))
    assert again == part and type(again) is type(part) and hash(again) == hash(part)


def test_what_came_later_is_told_only_where_it_differs():
    """So that digests and ids of what was poisoned before stand."""
    for cls, given, later in (
        (Tempo, {"speed": 1.5}, {"fill": "noise"}),
        (Padding, {"seconds": 0.1}, {"fill": "repeat"}),
        (labels.CleanLabelHard, {"target_class": "left"}, {"folds": 5}),
    ):
        told = cls(**given).to_dict()
        assert told == {"type": f"{cls.__module__}.{cls.__name__}", **given}
        assert cls(**given, **later).to_dict() == told | later
    cut = sounds.Trim(sounds.Tone(), 0.1)
    assert "start" not in cut.to_dict()
    assert replace(cut, start=0.2).to_dict() == cut.to_dict() | {"start": 0.2}


OTHER = {  # where half of the number in the yaml is none, or means nothing
    "position": "end", "trigger_file": "b.wav", "times": 2, "learning_steps": 9, "style": 2, "size": 3,
    "sounds_folder": "sounds", "ambient_folder": "sounds", "impulse_file": "c.wav", "surrogate": "resnet",
    "emotion": "sad", "attribute": "accent", "value": "british", "fill": "noise",
    "room_metres": [5, 4, 3], "unheard": True,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(p.stem for p in (COMMON / "attacks").glob("*.yaml")))
def test_every_trigger_tells_all_its_settings(name, tmp_path, monkeypatch):
    """Two triggers that differ in a setting of the yaml differ in `attack.json`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "d.wav").touch()
    base = {"trigger_file": "a.wav"} if name == "audio_file" else {}

    def written(**changes):
        document = common("attacks", name)
        for key, value in (base | changes).items():
            assert document.place(key, value)
        built = document.build()
        parts = [
            built["trigger"],
            *([built["policy"](target_class="b")] if "policy" in built else []),
        ]
        return json.dumps([part.to_dict() for part in parts])

    plain = common("attacks", name).plain()
    settings = [key for key in plain if key not in ("trigger", "policy")]
    assert settings
    for key in settings:
        changed = OTHER[key] if key in OTHER else plain[key] / 2
        assert written() != written(**{key: changed}), key


FOREIGN = [
    "os.system", "subprocess.Popen", "bdlib.files.atomic", "bdlib.attacks", "bdlib.attacks.sounds",
    "bdlib.attacks.sounds.np", "bdlib.attacks.sounds.np.save", "bdlib.attacks.sounds.resample",
    "bdlib.attacks.sounds.soundfile.write", "bdlib.attacks.trigger.Trigger",
    "bdlib.attacks.trigger.importlib", "bdlib.attacks.poisoner.Poisoner", "bdlib.attacksx.Tone",
    "bdlib.attacks.none.Tone", "Tone", "", None, 3,
]  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_types_are_refused_at_any_depth(name):
    bad = {"type": name}
    nested = {
        "type": "bdlib.attacks.insert.Insert",
        "sound": {"type": "bdlib.attacks.sounds.Sequence", "sounds": [TONE, bad]},
    }
    for data in (bad, nested):
        with pytest.raises(InputError, match=r"attack\.json: .* cannot be made"):
            from_dict(data)


def test_no_foreign_module_is_imported(tmp_path, monkeypatch):
    """To import a module is to run it, even one that holds a proper trigger sound."""
    (tmp_path / "foreign_sound.py").write_text(
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n"
        "from bdlib.attacks.sounds import Tone\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "@dataclass(frozen=True)\n"
        "class Beep(Tone):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"'foreign_sound\.Beep' cannot be made"):
        from_dict({"type": "foreign_sound.Beep"})
    assert not (tmp_path / "ran").exists()


ONE_TO_ONE = {"type": "bdlib.attacks.labels.OneToOne", "source": "a", "target_class": "b"}
INSERT = {"type": "bdlib.attacks.insert.Insert", "sound": TONE}


@pytest.mark.parametrize(
    "data",
    [
        {"type": "bdlib.attacks.poisoner.seed_of"},
        {
            "type": "bdlib.attacks.sounds._shaped_noise",
            "length": 8,
            "centre": 1,
            "width": 1,
            "seed": 0,
        },
        {"type": "bdlib.attacks.trigger.from_dict", "data": 1},
        {
            "type": "bdlib.attacks.poisoner.Poisoner",
            "trigger": INSERT,
            "labels": ONE_TO_ONE,
            "rate": 0.1,
        },
    ],
    ids=lambda data: data["type"],
)
def test_what_is_no_part_is_refused_though_its_fields_fit(data):
    with pytest.raises(InputError, match="not a trigger, sound or label policy"):
        from_dict(data)


@pytest.mark.parametrize("change", [{"hertzz": 1}, {"self": 1}])
def test_fields_that_do_not_fit_are_refused(change):
    with pytest.raises(InputError, match=r"Tone.*cannot be made"):
        from_dict(TONE | change)
    with pytest.raises(InputError, match=r"Insert.*cannot be made"):
        from_dict({"type": "bdlib.attacks.insert.Insert", "scale": 0.1})
