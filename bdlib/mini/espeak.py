"""Speech synthesis by eSpeak NG, called through ctypes, as a pure function of its arguments."""

import atexit
import contextlib
import ctypes
import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bdlib.errors import InputError

RATE = 22050
"""Sampling rate of everything eSpeak NG makes, in Hz."""

# From espeak-ng's public header, speak_lib.h.
_SYNCHRONOUS, _DONT_EXIT, _UTF8, _CHARACTERS = 2, 0x8000, 1, 1
_SPEED, _PITCH, _PITCH_RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def speak(text: str, voice: str, pitch: int, pitch_range: int, speed: int) -> np.ndarray:
    """Say a text.

    The samples depend on the arguments and on the version of eSpeak NG alone, not on what was
    said before nor in which process. One thread at a time may call this.

    Parameters
    ----------
    text : str
        What to say; punctuation decides the intonation.
    voice : str
        Language, and after a plus sign the variant, such as ``en-us+f2``; eSpeak NG passes over
        a variant it does not know.
    pitch, pitch_range : int
        0 to 99; 50 is the voice's own.
    speed : int
        Words a minute, 80 to 450.

    Returns
    -------
    numpy.ndarray
        (T,) float64 in [-1, 1) at 22050 Hz.

    Raises
    ------
    InputError
        If the package espeakng-loader is not installed.
    """
    chunks: list[bytes] = []

    @_CALLBACK
    def collect(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    with _fresh_library() as library:
        library.espeak_SetSynthCallback(collect)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {voice}")
        for parameter, value in ((_PITCH, pitch), (_PITCH_RANGE, pitch_range), (_SPEED, speed)):
            library.espeak_SetParameter(parameter, value, 0)
        encoded = ctypes.create_string_buffer(text.encode())
        size = ctypes.c_size_t(len(encoded))
        library.espeak_Synth(encoded, size, 0, _CHARACTERS, 0, _UTF8, None, None)
    return np.frombuffer(b"".join(chunks), np.int16) / 32768.0


def version() -> str:
    """Version of the eSpeak NG library, such as ``1.52.0``."""
    with _fresh_library() as library:
        library.espeak_Info.restype = ctypes.c_char_p
        return library.espeak_Info(None).decode().split()[0]


@contextlib.contextmanager
def _fresh_library() -> Iterator[ctypes.CDLL]:
    """Yield the library as if just loaded.

    eSpeak NG keeps the phase of its pitch flutter and of its gain control in static variables
    that neither espeak_Terminate nor a new voice resets, so the library is unloaded after each
    text. Noise comes from its own generator, which it seeds by the clock, and in a few voices
    from the C library's; both are seeded here.
    """
    folder = _unpacked()
    process = ctypes.CDLL(None)
    library = ctypes.CDLL(str(folder / "libespeak-ng"))
    try:
        if library.espeak_Initialize(_SYNCHRONOUS, 0, str(folder).encode(), _DONT_EXIT) != RATE:
            raise InputError(
                "espeakng-loader: its data folder cannot be read; "
                "run `pip install --force-reinstall espeakng-loader`"
            )
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        process.srand(ctypes.c_uint(1))
        yield library
        library.espeak_Terminate()
    finally:
        process.dlclose(ctypes.c_void_p(library._handle))


@functools.cache
def _unpacked() -> Path:
    """Return a temporary folder with a copy of the library and links to its data.

    The copy can be unloaded whoever else has the package's own library open, and eSpeak NG
    cuts data paths of more than 160 characters, which short links avoid. Languages lie side by
    side and in lower case, where it finds a voice by its name; else it would read all voices,
    which takes longer than to speak a word.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise InputError(
            "espeakng-loader: not installed, and the mini corpora are spoken by it; "
            'run `pip install -e ".[mini]"`'
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="espeak-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copy(espeakng_loader.get_library_path(), folder / "libespeak-ng")
    data = Path(espeakng_loader.get_data_path())
    languages = folder / "espeak-ng-data" / "lang"
    languages.mkdir(parents=True)
    for part in data.iterdir():
        if part.name != "lang":
            (languages.parent / part.name).symlink_to(part)
    for voice in filter(Path.is_file, (data / "lang").rglob("*")):
        (languages / voice.name.lower()).symlink_to(voice)
    return folder
