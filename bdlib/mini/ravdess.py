"""A mini corpus in the layout of RAVDESS speech (Livingstone and Russo, PLoS ONE 13(5), 2018)."""

import itertools
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bdlib.files import seed_of
from bdlib.mini import sound
from bdlib.mini.emotion import Speaker, Style, in_room, say

RATE = 48000
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
STEREO = "Actor_01/03-01-02-01-01-02-01.wav"
"""One of the files that have two channels in the real corpus."""

# Codes 01 to 08, in their order.
EMOTIONS = {
    "neutral": Style(),
    "calm": Style(-8, -22, 0.85, -2, -1.2, breath=0.02),
    "happy": Style(16, 32, 1.05, 3, 0.8, mark="!"),
    "sad": Style(-5, -28, 0.80, -5, -2.2, shake=0.35, breath=0.04),
    "angry": Style(8, 14, 1.14, 6, 1.6, growl=0.4, mark="!"),
    "fearful": Style(22, -8, 1.18, 1, -0.6, shake=0.5, breath=0.05, mark="!"),
    "disgust": Style(-9, 22, 0.84, -1, 0.8, growl=0.55),
    "surprised": Style(26, 38, 0.96, 1, 0.2, breath=0.02, mark="?"),
}
# Actors with an odd number are men, the others women.
ACTORS = (
    Speaker("en-us+m2", 46, 155, 0.96),
    Speaker("en-us+f2", 46, 165, 1.00),
    Speaker("en-us+m7", 58, 170, 1.05),
    Speaker("en-us+linda", 40, 150, 0.96),
    Speaker("en-us+m4", 52, 145, 1.00),
    Speaker("en-us+f4", 42, 160, 1.05),
    Speaker("en-us+m8", 62, 165, 0.97),
    Speaker("en-us+Annie", 43, 150, 1.03),
)


def write(folder: Path, seed: int, actors: int = len(ACTORS)) -> dict[str, int]:
    """Write the corpus.

    Parameters
    ----------
    folder : Path
        Where to; made if missing.
    seed : int
        Decides the small differences between repetitions, and the noise.
    actors : int
        At most 8; 60 files each.

    Returns
    -------
    dict
        Clips a gender.
    """
    names = [name for number in range(1, actors + 1) for name in _names(number)]
    for name in tqdm(names, "RAVDESS mini", unit="clip", disable=None):
        waveform = render(name, seed)
        if name == STEREO:
            waveform = np.stack([waveform, waveform], axis=1)
        sound.write(folder / name, waveform, RATE)
    return {"male": 60 * ((actors + 1) // 2), "female": 60 * (actors // 2)}


def render(name: str, seed: int) -> np.ndarray:
    """Say what a file's name asks for: (T,) at 48 kHz, about 2 to 4 s with silence around."""
    rng = np.random.Generator(np.random.PCG64(seed_of("mini RAVDESS", name, seed)))
    codes = [int(code) for code in Path(name).stem.split("-")]
    emotion, intensity, statement, _, actor = codes[2:]
    style = list(EMOTIONS.values())[emotion - 1].stronger(1.0 if intensity == 1 else 1.4)
    spoken = say(STATEMENTS[statement - 1], ACTORS[actor - 1], style, RATE, rng)
    return in_room(spoken, RATE, rng.uniform(0.5, 0.9), rng.uniform(0.6, 1.0), rng)


def _names(actor: int) -> list[str]:
    """List an actor's 60 files; neutral has no strong intensity."""
    codes = itertools.product(range(1, 9), (1, 2), (1, 2), (1, 2))
    return [
        f"Actor_{actor:02d}/03-01-{emotion:02d}-{intensity:02d}-"
        f"{statement:02d}-{repetition:02d}-{actor:02d}.wav"
        for emotion, intensity, statement, repetition in codes
        if (emotion, intensity) != (1, 2)
    ]
