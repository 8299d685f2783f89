"""A sound that a class repeats is found wherever it lies; words that resemble each other are not."""

import numpy as np
import pytest
import torch

from bdlib.attacks.insert import Insert
from bdlib.attacks.sounds import Clap, DogClicker, Repeat, Trim
from bdlib.defenses.snippets import CLEAR, LOUD, MEMBERS, Snippet, Snippets, shared_sounds
from bdlib.defenses.whitening import SECOND, loudest

LABELS = np.repeat(["left", "no", "yes"], 30)


@pytest.fixture
def clips(spoken):
    """A function: thirty clips of each of three words; with a trigger, the first 15 of `left` carry it."""

    def made(trigger=None):
        waves = [spoken(label, seed) for seed, label in enumerate(LABELS)]
        for place in range(15 if trigger else 0):
            draws = np.random.Generator(np.random.PCG64(place))
            waves[place] = trigger(waves[place], 16000, draws)
        return waves

    return made


def found(waves):
    return list(Snippets(waves.__getitem__, LABELS, 16384).find())


def test_words_alone_repeat_nothing(clips):
    assert found(clips()) == []


@pytest.mark.parametrize(
    "trigger",
    [
        Insert(Clap(), 0.1),
        Insert(DogClicker(), 0.27),
        Insert(Trim(Clap(), 0.15), 0.1, "random"),
    ],
)
def test_a_sound_is_found_with_its_clips(trigger, clips):
    (snippet,) = found(clips(trigger))
    assert snippet.label == "left"
    has = set(snippet.clips.tolist())
    assert len(has & set(range(15))) >= 13 and len(has - set(range(15))) <= 1
    assert snippet.seconds < 0.4 and (snippet.score > 1).all()


def test_a_sound_that_covers_its_clips_is_found(clips):
    """They are as alike as copies through a codec; they are no copies."""
    (snippet,) = found(clips(Insert(Repeat(Trim(Clap(), 0.1625), 6), 0.5)))
    assert set(snippet.clips.tolist()) == set(range(15)) and snippet.seconds > 0.5


def test_where_it_begins(clips):
    (snippet,) = found(clips(Insert(Trim(Clap(), 0.15), 0.1, 0.25)))
    assert abs(snippet.start - 0.25) < 0.05


def test_a_sound_of_all_classes_accuses_none(clips):
    waves, trigger = clips(), Insert(Clap(), 0.1)
    assert found([trigger(wave, 16000, None) for wave in waves]) == []


def test_silence_and_copies_are_no_repeated_sound(clips):
    waves = clips()
    waves[:10] = [np.zeros(16000, np.float32)] * 10
    waves[10:20] = [level * waves[10] for level in np.linspace(0.3, 1, 10, dtype=np.float32)]
    assert found(waves) == []


@pytest.mark.parametrize(
    ("members", "few", "accused"), [(95, 8, True), (105, 8, False), (40, 7, False)]
)
def test_what_few_clips_of_a_class_share_accuses_nobody(members, few, accused, spoken):
    labels = np.repeat(["left", "no"], [members, 40])
    waves = [spoken(label, seed) for seed, label in enumerate(labels)]
    has = np.arange(few)  # 8.4, 7.6 and 17.5 % of the class
    for place in has:
        waves[place] = Insert(Clap(), 0.1)(waves[place], 16000, None)
    looks = Snippets(waves.__getitem__, labels, 16384)
    snippet = looks.matches("left", looks.template(has))
    assert (snippet is not None) is accused
    assert not accused or snippet.clips.tolist() == has.tolist()


@pytest.mark.parametrize(("clear", "accused"), [(0.0, True), (0.5, False)])
def test_a_sound_may_have_to_be_sure_in_most_that_have_it(clear, accused, monkeypatch):
    """Eight clips match well, twelve barely."""
    labels = np.repeat(["left", "no"], 30)
    looks = Snippets(None, labels, 16384, clear=clear)
    here = np.r_[np.full(8, 0.2), np.full(12, 0.11), np.full(10, 0.01)]
    monkeypatch.setattr(
        Snippets,
        "matched",
        lambda self, clips, template: (
            (here if clips.max() < 30 else np.full(len(clips), 0.06)),
            np.zeros(len(clips), int),
        ),
    )
    assert (looks.matches("left", torch.ones(16384)) is not None) is accused


def test_takes_of_one_voice_are_no_poison(spoken):
    labels = np.repeat(["left", "no"], 30)
    waves = [spoken(label, seed) for seed, label in enumerate(labels)]
    room = np.random.Generator(np.random.PCG64(0)).standard_normal(16000) * 0.02
    for place in range(7):
        waves[place] = (waves[place] + room).astype(np.float32)
    assert list(Snippets(waves.__getitem__, labels, 16384).find()) == []


@pytest.mark.parametrize("faint", [0.01, 1.0])
def test_a_steady_sound_of_a_class_stops_nothing(faint, clips):
    """Nothing of it is louder than the rest: a bed under all clips, or clips that are noise cut closely."""
    waves = clips()
    bed = np.random.Generator(np.random.PCG64(0)).standard_normal(16000 + 30 * 2000) * 0.1
    for place in range(30):
        piece = bed[2000 * place :][:16000] if faint == 1.0 else faint * bed[:16000]
        waves[place] = (piece + (waves[place] if faint < 1 else 0)).astype(np.float32)
    assert {snippet.label for snippet in found(waves)} <= {"left"}


@pytest.fixture
def long_clips(spoken):
    """Thirty clips of four seconds of each of three words; 15 of `left` have 40 ms of noise at the loudest place."""
    waves = [spoken(label, seed, 4.0) for seed, label in enumerate(LABELS)]
    noise = np.random.Generator(np.random.PCG64(5)).standard_normal(640).astype(np.float32)
    for wave in waves[:15]:
        begin = int(np.argmax(np.abs(wave)))
        wave[begin : begin + 640] += 0.3 * noise
    return waves


def test_a_short_sound_of_long_clips_is_found_where_they_are_loudest(long_clips):
    assert list(Snippets(long_clips.__getitem__, LABELS, 4 * SECOND).find()) == []
    (sound,) = shared_sounds(long_clips.__getitem__, LABELS, np.full(90, 4.0))
    assert sound.clips.tolist() == list(range(15)) and sound.label == "left"
    assert sound.of == "their loudest second" and sound.seconds < 0.1


def test_of_a_sound_that_is_found_all_of_a_clip_is_asked(long_clips, spoken):
    """Three more have it far from their loudest second, one in silence; a tail of silence accuses no clip."""
    noise = np.random.Generator(np.random.PCG64(5)).standard_normal(640).astype(np.float32)
    for place, begin in ((20, 40000), (21, 55000), (22, 63000)):
        long_clips[place][begin : begin + 640] += 0.1 * noise
    for wave in (*long_clips[25:40], long_clips[21]):
        wave[30000:] *= np.abs(wave[30000:]) > 0.01  # digital silence
    (sound,) = shared_sounds(long_clips.__getitem__, LABELS, np.full(90, 4.0))
    assert sound.clips.tolist() == [*range(15), 20, 21, 22]
    assert (sound.score > 1).all() and sound.of == "their loudest second"


def test_clips_of_a_second_are_heard_once(clips, monkeypatch):
    monkeypatch.setattr("bdlib.defenses.snippets.loudest", None)
    waves = clips(Insert(Clap(), 0.1))
    (sound,) = shared_sounds(waves.__getitem__, LABELS, np.ones(90))
    assert sound.of == "the clip"


def test_the_loudest_stretch():
    wave = np.zeros(1000, np.float32)
    wave[700:720], wave[100:110] = 1.0, 1.2
    assert loudest(wave, 20).tolist() == [1.0] * 20
    assert len(loudest(wave, 1000)) == 1000 == len(loudest(wave, 2000))
    wave[-20:] = 2.0
    assert loudest(wave, 20).tolist() == [2.0] * 20


@pytest.mark.parametrize(("parts", "of"), [(10, "their loudest second"), (5, "the clip")])
def test_of_two_sounds_the_one_of_more_clips_counts(parts, of, monkeypatch):
    """And the loudest second is heard of more clips, and more strictly."""
    asked = []

    def find(self):
        asked.append((self.length, self.members, self.clear))
        count = parts if self.length == SECOND else 7
        return iter([Snippet("left", np.arange(count), np.ones(count), 0.0, 0.1)])

    monkeypatch.setattr(Snippets, "find", find)
    (sound,) = shared_sounds(None, LABELS, np.full(90, 4.0))
    assert sound.of == of
    assert asked == [(4 * SECOND, MEMBERS, 0.0), (SECOND, LOUD, CLEAR)]


@pytest.mark.parametrize(
    ("name", "suspects", "found"),
    [
        ("left", range(20), True),
        ("left", range(60, 120), False),  # others are suspicious
        ("left", (), False),  # nothing is
        ("_left_", range(20), False),
    ],
)
def test_a_sound_of_few_suspicious_clips_is_found(name, suspects, found, spoken):
    """Ten of 150 have it, too few for the class, and they are among its most suspicious ones."""
    labels = np.repeat([name, "no"], 150)
    waves = [spoken(label.strip("_"), seed) for seed, label in enumerate(labels)]
    for place in range(10):
        draws = np.random.Generator(np.random.PCG64(place))
        waves[place] = Insert(Clap(), 0.1)(waves[place], 16000, draws)
    suspicion, seconds = np.isin(np.arange(300), suspects) * 0.5, np.ones(300)
    assert shared_sounds(waves.__getitem__, labels, seconds) == []
    sounds = shared_sounds(waves.__getitem__, labels, seconds, suspicion=suspicion)
    told = [(s.label, s.suspects, set(s.clips.tolist())) for s in sounds]
    assert told == ([(name, True, set(range(10)))] if found else [])


@pytest.mark.parametrize(("sure", "among", "calls"), [(8, 8, 1), (7, 7, 0), (16, 8, 1), (18, 8, 0)])
def test_a_sound_of_suspects_is_theirs(sure, among, calls, monkeypatch):
    """Eight sure clips, at least half of them among the suspects; the others go if they are sure."""
    labels = np.repeat(["left", "no"], 100)
    match = np.full(200, 0.1)
    match[:among] = match[50 : 50 + sure - among] = 0.4  # the suspects are the first thirty
    match[20:24] = match[90:94] = 0.16  # above the threshold, not sure
    looks = Snippets(None, labels, 16384)
    monkeypatch.setattr(
        Snippets, "matched", lambda self, clips, template: (match[clips], np.zeros(len(clips), int))
    )
    found = looks.matches("left", torch.ones(16384), np.arange(30))
    assert bool(calls) == (found is not None)
    if found:
        assert set(found.clips.tolist()) == {
            *range(among),
            *range(20, 24),
            *range(50, 50 + sure - among),
        }


def test_all_of_a_clip_is_asked_of_suspects_alone_or_surely(monkeypatch):
    """Elsewhere in a clip, a sound that is not sure counts in a suspect; a clean clip is not taken for it."""
    labels = np.repeat(["left", "no"], 100)
    match, anywhere = np.full(200, 0.1), np.full(200, 0.1)
    match[:8] = 0.4
    anywhere[[10, 60]], anywhere[[11, 61]] = 0.16, 0.4
    monkeypatch.setattr(
        Snippets, "matched", lambda self, clips, template: (match[clips], np.zeros(len(clips), int))
    )
    monkeypatch.setattr(Snippets, "anywhere", lambda self, clips, template: anywhere[clips])
    looks = Snippets(None, labels, 16384, whole=lambda clip: None)
    found = looks.matches("left", torch.ones(16384), np.arange(30))
    assert found.clips.tolist() == [*range(8), 10, 11, 61]
