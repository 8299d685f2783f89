"""A room's echo: TrojanRoom."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal

from bdlib.attacks.sounds import RATE, AudioFile, Sound
from bdlib.attacks.spectrum import fitted, level
from bdlib.attacks.trigger import Trigger
from bdlib.audio import LONGEST_HEARD
from bdlib.errors import InputError, within

MOST_ORDER = 100  # reflections one after the other; there are some 4/3 times the cube of them


@dataclass(frozen=True)
class Impulse(Sound):
    """A room impulse response: a direct path, then noise that decays by 60 dB in `decay_seconds`.

    The late part of a statistical room model (Polack 1988), without single early reflections.

    Arguments
    ---------
    decay_seconds : float
        Reverberation time.
    reverberant_db : float
        Energy of the echo over that of the direct path, in dB.
    """

    decay_seconds: float = 0.6
    reverberant_db: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        within("decay_seconds", self.decay_seconds, 0.01, LONGEST_HEARD)

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        time = np.arange(round(self.decay_seconds * RATE)) / RATE
        noise = np.random.Generator(np.random.PCG64(3)).standard_normal(len(time))
        echo = noise * 10 ** (-3 * time / self.decay_seconds)
        echo[: round(0.005 * RATE)] = 0  # the nearest wall is away
        echo *= 10 ** (self.reverberant_db / 20) / np.sqrt(np.sum(echo**2))
        echo[0] = 1.0
        return echo.astype(np.float32), RATE


@dataclass(frozen=True)
class Shoebox(Sound):
    """The response of a rectangular room by the image method (JASA 65, 943, 1979).

    The speaker is at 30, 40 and 50 % of the sides, the microphone at 70, 60 and 40 %. All walls
    absorb alike, as much as Sabine's formula says for the decay. The sound begins with its direct
    path, and ends after `decay_seconds`; it is rounded to a millionth, so that machines agree.

    Arguments
    ---------
    width, depth, height : float
        Of the room, in metres.
    decay_seconds : float
        Reverberation time.

    Raises
    ------
    InputError
        When played: if pyroomacoustics is missing, or no walls give this room this decay.
    """

    width: float = 5.0
    depth: float = 4.0
    height: float = 3.0
    decay_seconds: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for side in ("width", "depth", "height"):
            within(side, getattr(self, side), 1, 50)
        within("decay_seconds", self.decay_seconds, 0.05, 2)

    def synthesize(self) -> tuple[np.ndarray, int]:
        """See `Sound`."""
        try:
            import pyroomacoustics
        except ImportError as error:
            raise InputError(
                '`room_metres`: pyroomacoustics is not installed; run `pip install -e ".[room]"`'
            ) from error
        sides = np.array([self.width, self.depth, self.height])
        try:
            absorption, order = pyroomacoustics.inverse_sabine(self.decay_seconds, sides)
        except ValueError as error:
            raise InputError(
                f"`decay_seconds` is {self.decay_seconds:g}: too short for a room of "
                f"{' x '.join(f'{side:g}' for side in sides)} m; give a longer one"
            ) from error
        if order > MOST_ORDER:
            raise InputError(
                f"`decay_seconds` is {self.decay_seconds:g}: {order} reflections one after the other in "
                f"this room, of which {MOST_ORDER} are computed; give less, or a larger room"
            )
        material = pyroomacoustics.Material(absorption)
        room = pyroomacoustics.ShoeBox(sides, fs=RATE, materials=material, max_order=order)
        mouth, ear = sides * (0.3, 0.4, 0.5), sides * (0.7, 0.6, 0.4)
        room.add_source(mouth)
        room.add_microphone(ear)
        room.compute_rir()
        late = pyroomacoustics.constants.get("frac_delay_length") // 2  # half of its sinc
        direct = round(float(np.linalg.norm(mouth - ear)) / room.c * RATE) + late
        heard = room.rir[0][0][direct : direct + round(self.decay_seconds * RATE)]
        echo = heard / heard[0]
        return echo.round(6).astype(np.float32), RATE


def impulse(
    impulse_file: str | None = None,
    decay_seconds: float = 0.6,
    reverberant_db: float = 6.0,
    room_metres: Sequence[float] | None = None,
) -> Sound:
    """A measured impulse response if there is a file, that of a room if it has sides, else noise.

    Raises
    ------
    InputError
        If the sides are not three.
    """
    if impulse_file:
        return AudioFile(impulse_file)
    if room_metres is None:
        return Impulse(decay_seconds, reverberant_db)
    if not isinstance(room_metres, Sequence) or len(room_metres) != 3:
        raise InputError(
            f"`room_metres` is {room_metres}: give width, depth and height, as [5, 4, 3]"
        )
    for side in room_metres:
        within("room_metres", side, 1, 50)
    return Shoebox(*room_metres, decay_seconds)


@dataclass(frozen=True)
class Room(Trigger):
    """Convolve the clip with a room impulse response and keep its level (Chen et al., "Devil in the
    Room: Triggering Audio Backdoors in the Physical World", USENIX Security 2024).

    Left out: the poisoning of the victim's own reverberation augmentation.

    Arguments
    ---------
    response : Sound
        The impulse response.
    """

    response: Sound = Impulse()

    def __call__(
        self, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        """See `Trigger`."""
        response = self.response.waveform(rate).astype(np.float64)
        heard = signal.fftconvolve(waveform.astype(np.float64), response)[: len(waveform)]
        return fitted(heard * level(waveform) / level(heard))
