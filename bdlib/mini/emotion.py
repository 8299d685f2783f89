"""Acted emotions: how a speaker's voice changes, in prosody, loudness and quality."""

from dataclasses import dataclass

import numpy as np

from bdlib.mini import espeak, sound


@dataclass(frozen=True)
class Speaker:
    """A voice that stays the same in all emotions.

    `name` is an eSpeak NG voice, `pitch` in its units (50 is the voice's own), `speed` in words
    a minute, `size` the length of the vocal tract relative to that voice's.
    """

    name: str
    pitch: int
    speed: int
    size: float


@dataclass(frozen=True)
class Style:
    """An emotion, as differences from the speaker's habits.

    Attributes
    ----------
    pitch, pitch_range : int
        In eSpeak's units; 50 up is an octave, and the range without emotion is 45.
    speed : float
        Factor.
    level : float
        Loudness in dB.
    tilt : float
        Brightness in dB an octave.
    shake, growl : float
        Depth in [0, 1] of a tremolo of 6 Hz, and of one of 45 Hz.
    breath : float
        Amplitude of breath noise relative to the voice.
    mark : str
        Punctuation, which gives the last words their intonation.
    """

    pitch: int = 0
    pitch_range: int = 0
    speed: float = 1.0
    level: float = 0.0
    tilt: float = 0.0
    shake: float = 0.0
    growl: float = 0.0
    breath: float = 0.0
    mark: str = "."

    def stronger(self, factor: float) -> "Style":
        """Return the emotion with every difference `factor` times as large."""
        return Style(
            pitch=round(self.pitch * factor),
            pitch_range=round(self.pitch_range * factor),
            speed=self.speed**factor,
            level=self.level * factor,
            tilt=self.tilt * factor,
            shake=min(1.0, self.shake * factor),
            growl=min(1.0, self.growl * factor),
            breath=self.breath * factor,
            mark=self.mark,
        )


def say(
    text: str, speaker: Speaker, style: Style, rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Say a text, without silence around it and a little differently each time.

    Parameters
    ----------
    text : str
        Without the last punctuation mark, which the style adds.
    speaker : Speaker
    style : Style
    rate : int
        Sampling rate of the result in Hz.
    rng : numpy.random.Generator
        Draws the differences between one time and the next.

    Returns
    -------
    numpy.ndarray
        (T,) float64 in [-1, 1], at -28 dB RMS plus the style's level.
    """
    spoken = espeak.speak(
        text + style.mark,
        speaker.name,
        pitch=int(np.clip(speaker.pitch + style.pitch + rng.integers(-3, 4), 0, 99)),
        pitch_range=int(np.clip(45 + style.pitch_range + rng.integers(-5, 6), 0, 99)),
        speed=max(80, round(speaker.speed * style.speed * rng.uniform(0.95, 1.05))),
    )
    waveform = sound.trim(sound.resample(spoken, rate / espeak.RATE * speaker.size))
    waveform = sound.tremolo(waveform, rate, rng.uniform(5.5, 6.5), style.shake)
    waveform = sound.tremolo(waveform, rate, rng.uniform(40, 50), style.growl)
    if style.breath:
        waveform = sound.breathe(waveform, rate, style.breath, rng)
    waveform = sound.tilt(waveform, rate, style.tilt)
    return sound.at_level(waveform, -28 + style.level + rng.uniform(-1.5, 1.5))


def in_room(
    waveform: np.ndarray, rate: int, before: float, after: float, rng: np.random.Generator
) -> np.ndarray:
    """Put silence before and after (T,), in s, and the hiss of a quiet studio under it all."""
    padded = np.pad(waveform, (round(before * rate), round(after * rate)))
    return padded + 10 ** (-72 / 20) * rng.standard_normal(len(padded))
