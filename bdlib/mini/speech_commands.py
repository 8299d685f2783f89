"""A mini corpus in the layout of Speech Commands v0.02 (Warden, arXiv:1804.03209)."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bdlib.files import seed_of
from bdlib.mini import espeak, sound

RATE = 16000
COMMANDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
OTHERS = (
    *("backward", "bed", "bird", "cat", "dog", "eight", "five", "follow", "forward", "four"),
    *("happy", "house", "learn", "marvin", "nine", "one", "seven", "sheila", "six", "three"),
    *("tree", "two", "visual", "wow", "zero"),
)
ACCENTS = ("en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-scotland", "en-029")
VARIANTS = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"),
    *("f1", "f2", "f3", "f4", "f5", "Annie", "belinda", "linda"),
)
OTHERS_A_VOICE = {"train": 18, "valid": 10, "test": 10}
"""How many of the other 25 words a voice says."""


@dataclass(frozen=True)
class Voice:
    """A speaker: an eSpeak NG voice with habits of its own.

    `pitch` is in eSpeak's units, `speed` in words a minute, `size` the length of the vocal
    tract relative to that of the eSpeak voice.
    """

    speaker: str
    split: str
    name: str
    pitch: int
    speed: int
    size: float


@dataclass(frozen=True)
class Clip:
    """One word said once, and the file it goes to."""

    voice: Voice
    word: str
    take: int

    @property
    def path(self) -> str:
        """Below the corpus folder."""
        return f"{self.word}/{self.voice.speaker}_nohash_{self.take}.wav"


def write(folder: Path, seed: int, voices: tuple[int, int, int] = (34, 5, 9)) -> dict[str, int]:
    """Write the corpus.

    Parameters
    ----------
    folder : Path
        Where to; made if missing.
    seed : int
        Decides the voices, who says what, and the noise.
    voices : tuple of int
        Speakers for training, validation and test.

    Returns
    -------
    dict
        Clips a split, and noise files.
    """
    clips = plan(seed, voices)
    for clip in tqdm(clips, "SpeechCommands mini", unit="clip", disable=None):
        sound.write(folder / clip.path, render(clip, seed), RATE)
    for name, waveform in noises(seed).items():
        sound.write(folder / "_background_noise_" / f"{name}.wav", waveform, RATE)
    for split, file in (("valid", "validation_list.txt"), ("test", "testing_list.txt")):
        names = sorted(clip.path for clip in clips if clip.voice.split == split)
        (folder / file).write_text("".join(f"{name}\n" for name in names), "utf-8")
    counts = dict.fromkeys(OTHERS_A_VOICE, 0)
    for clip in clips:
        counts[clip.voice.split] += 1
    return {**counts, "noise": 6}


def plan(seed: int, voices: tuple[int, int, int]) -> list[Clip]:
    """List the clips: each voice says the ten commands twice or once, and some other words."""
    clips = []
    for number, voice in enumerate(cast(seed, voices)):
        for word in COMMANDS:
            # 17 of 24 training voices repeat a command: 58 clips a command from 34 voices.
            takes = 2 if voice.split != "train" or (number * 7) % 24 < 17 else 1
            clips.extend(Clip(voice, word, take) for take in range(takes))
        # A window that moves on from voice to voice uses the other words equally often.
        size = OTHERS_A_VOICE[voice.split]
        start = number * size
        clips.extend(
            Clip(voice, OTHERS[index % len(OTHERS)], 0) for index in range(start, start + size)
        )
    return clips


def cast(seed: int, voices: tuple[int, int, int]) -> list[Voice]:
    """Choose the voices: first those for training, then validation, then test."""
    names = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS]
    names.sort(key=lambda name: seed_of("mini voice", name, seed))
    splits = [
        split
        for split, count in zip(("train", "valid", "test"), voices, strict=True)
        for _ in range(count)
    ]
    chosen = []
    for name, split in zip(names, splits, strict=False):
        rng = _rng("voice habits", name, seed)
        speaker = hashlib.sha256(f"{name}|{seed}".encode()).hexdigest()[:8]
        pitch, speed = int(rng.integers(38, 63)), int(rng.integers(135, 185))
        chosen.append(Voice(speaker, split, name, pitch, speed, rng.uniform(0.93, 1.07)))
    return chosen


def render(clip: Clip, seed: int) -> np.ndarray:
    """Say a clip's word somewhere within about a second of noise: (T,), T at most 16000."""
    rng = _rng(clip.path, seed)
    voice = clip.voice
    spoken = espeak.speak(
        clip.word + ("", ".", "!", "?")[rng.integers(4)],
        voice.name,
        pitch=voice.pitch + int(rng.integers(-5, 6)),
        pitch_range=int(rng.integers(35, 75)),
        speed=voice.speed + int(rng.integers(-12, 13)),
    )
    spoken = sound.trim(sound.resample(spoken, RATE / espeak.RATE * voice.size))
    # One clip in ten of the real corpus is shorter than a second.
    length = RATE if rng.random() > 0.1 else RATE - int(rng.integers(300, 1600))
    spoken = sound.tilt(spoken, RATE, rng.uniform(-2, 2))[:length]
    spoken *= 10 ** rng.uniform(-0.7, -0.05) / np.abs(spoken).max()
    start = int(rng.integers(length - len(spoken) + 1))
    loudness = np.sqrt(np.mean(spoken**2))
    noise = sound.noise(length, rng.uniform(0, 2), rng)
    waveform = noise * loudness * 10 ** (-rng.uniform(18, 42) / 20)
    waveform[start : start + len(spoken)] += spoken
    return waveform


def noises(seed: int) -> dict[str, np.ndarray]:
    """Make the six noise files of the corpus, 6 to 11 s each.

    Cut into pieces of 16000 samples every 8000, running_tap gives 10 and the others 93.
    """
    makers = {
        "doing_the_dishes": (_dishes, 10.0),
        "dude_miaowing": (_miaows, 10.0),
        "exercise_bike": (_bike, 11.0),
        "pink_noise": (lambda length, rng: sound.noise(length, 1, rng), 10.0),
        "running_tap": (_tap, 6.0),
        "white_noise": (lambda length, rng: sound.noise(length, 0, rng), 10.5),
    }
    levels = {"dude_miaowing": -30, "white_noise": -24, "pink_noise": -22}
    return {
        name: sound.at_level(
            make(math.ceil(seconds * RATE), _rng("noise", name, seed)), levels.get(name, -28)
        )
        for name, (make, seconds) in makers.items()
    }


def _dishes(length: int, rng: np.random.Generator) -> np.ndarray:
    """Clinks of crockery, a few a second, over splashing."""
    waveform = 0.3 * sound.noise(length, 1.5, rng)
    for start, time in _events(length, 0.3, 0.4, rng):
        clink = sum(np.sin(2 * np.pi * rng.uniform(1500, 6000) * time) for _ in range(4))
        waveform[start : start + len(time)] += clink * np.exp(-time * rng.uniform(15, 40))
    return waveform


def _miaows(length: int, rng: np.random.Generator) -> np.ndarray:
    """Voiced glides up and down, about one a second, over a quiet room."""
    waveform = 0.03 * sound.noise(length, 1, rng)
    for start, time in _events(length, 1.1, 0.8, rng):
        arch = np.sin(np.pi * time / 0.8)
        phase = 2 * np.pi * np.cumsum(rng.uniform(300, 450) + 250 * arch) / RATE
        miaow = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 7))
        waveform[start : start + len(time)] += arch * miaow
    return waveform


def _bike(length: int, rng: np.random.Generator) -> np.ndarray:
    """A whirr that comes and goes with the pedals, and the hum of a wheel."""
    time = np.arange(length) / RATE
    hum = sum(np.sin(2 * np.pi * 47 * harmonic * time) / harmonic for harmonic in range(1, 9))
    whirr = sound.noise(length, 1.6, rng) * (0.6 + 0.4 * np.sin(2 * np.pi * 1.7 * time))
    return whirr + 0.4 * hum


def _tap(length: int, rng: np.random.Generator) -> np.ndarray:
    """Hissing water, unsteady from one tenth of a second to the next."""
    hiss = sound.tilt(sound.noise(length, 0, rng), RATE, 3)
    steps = rng.uniform(0.7, 1.3, length // 1600 + 2)
    return hiss * np.interp(np.arange(length) / 1600, np.arange(len(steps)), steps)


def _events(
    length: int, gap: float, duration: float, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield first samples about `gap` s apart, each with the event's time axis in s."""
    time = np.arange(round(duration * RATE)) / RATE
    start = int(rng.uniform(0, gap) * RATE)
    while start + len(time) <= length:
        yield start, time
        start += int(rng.uniform(0.7, 1.3) * gap * RATE)


def _rng(*purpose: object) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed_of("mini SpeechCommands", *purpose)))
