"""What a class does without arguments is what its yaml does."""

import dataclasses
import inspect
from functools import partial

import pytest

from bdlib.attacks.ambience import sounds
from bdlib.attacks.ambient import Ambient
from bdlib.attacks.insert import Insert
from bdlib.attacks.natural import NaturalAttribute
from bdlib.attacks.room import Room, impulse
from bdlib.attacks.sounds import AudioFile, Repeat, Sequence, Trim
from bdlib.stages.document import common, known

KEYS = {"attacks": "trigger", "labels": "policy", "defenses": "defense"}
YAMLS = [(kind, name) for kind in KEYS for name in known(kind).split()]

# Several yaml of one class: these differ from the one that is the class's own, in what they are for.
VARIANTS = {
    "car_horn": {"scale"},
    "clap_horn": {"scale"},
    "clap_middle": {"position"},
    "dog_clicker": {"scale"},
    "opus": {"codec"},
    "random_clap": {"position"},
    "resample": {"mode"},
    "six_claps": {"scale"},
    "vae_pls_robust": {"least_spread", "robust", "selection"},
    "vae_pls_search": {"judge", "least_spread", "selection", "spectrum"},
    "vorbis": {"codec"},
}
# What nobody but the user can know: which sound, how much of it, which file, who is attacked.
NEEDED = {
    Insert: {"sound"},
    Trim: {"sound", "seconds"},
    Repeat: {"sound", "times"},
    Sequence: {"sounds"},
    AudioFile: {"path"},
    NaturalAttribute: {"attribute", "value"},
}


def default(cls, name):
    """What an argument is if it is not given."""
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if field.name == name and field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
    return inspect.signature(cls).parameters[name].default


def differences(part):
    """Arguments that are not as by default, of an object or a partial, and of what it needs."""
    if isinstance(part, tuple):
        return set().union(*map(differences, part))
    if isinstance(part, partial):
        cls, given = part.func, part.keywords
    elif dataclasses.is_dataclass(part) and not inspect.isclass(part):
        cls, given = type(part), {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    else:
        return set()
    different = set()
    for name, value in given.items():
        usual = default(cls, name) if name in inspect.signature(cls).parameters else value
        if usual is inspect.Parameter.empty:
            assert name in NEEDED[cls], f"{cls.__name__}: {name} has no default"
            different |= differences(value)
        elif isinstance(value, partial) and value.func is usual:
            different |= differences(value)
        elif (tuple(value) if isinstance(value, list) else value) != usual:
            different.add(name)
    return different


@pytest.mark.parametrize(("kind", "name"), YAMLS)
def test_the_yaml_says_what_the_class_does(kind, name):
    document = common(kind, name)
    if name == "audio_file":
        document.place("trigger_file", "sound.wav")
    part = document.build()[KEYS[kind]]
    assert differences(part) == VARIANTS.get(name, set())
    if kind != "labels" and type(part) not in NEEDED:
        assert differences(type(part)()) == set()


def test_functions_that_make_a_part():
    """Where a yaml calls a function for an argument, its defaults are the argument's."""
    assert Ambient() == Ambient(sounds())
    assert Room() == Room(impulse())
