"""Sound and pictures inside of an html page, which then needs no other file and no network."""

import base64
import io

import numpy as np
import soundfile

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "media-src data:"
)
"""Content security policy of such a page: nothing is fetched."""


def address(kind: str, data: bytes) -> str:
    """Data of a MIME type as an address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def sound(samples: np.ndarray, rate: int, kind: str) -> str:
    """A clip (T,) as an address: `ogg` (Vorbis, small) or `flac` (as it is, in 16 bits)."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind.upper())
    return address(f"audio/{kind}", file.getvalue())
