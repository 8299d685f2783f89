"""Names that somebody else gave, where a file is called after them or a terminal shows them."""

import unicodedata
from pathlib import Path
from typing import Any

from bdlib.errors import InputError

CONTROLS = "Cc", "Cs", "Zl", "Zp"  # categories: control characters, lone surrogates, line breaks
REORDERING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # of what is written from right to left
LONGEST_NAME = 100  # characters; a file system takes 255 bytes, and digests are added


def is_utf8(text: str) -> bool:
    """Whether a name can be written: of other bytes in a file's name Python makes lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def forges(text: str) -> bool:
    """Whether a name has characters with which a terminal shows what is not there, or which no file can hold."""
    return any(unicodedata.category(c) in CONTROLS or c in REORDERING for c in text)


def is_hidden(path: Path, folder: str | Path) -> bool:
    """Whether a name on the way from a folder to a path in it begins with a dot."""
    return any(part[0] == "." for part in path.relative_to(folder).parts)


def plain(text: str) -> str:
    """A name of somebody else as a terminal may show it: what `forges` is written out."""
    return "".join(ascii(c)[1:-1] if forges(c) else c for c in text)


def plain_name(name: Any, what: str) -> str:
    """`name`, if a file or a folder may be called after it and stays where it was put.

    Arguments
    ---------
    name : Any
        Text of printable characters, without slashes and without a dot at the beginning.
    what : str
        What it names, for the error.

    Raises
    ------
    InputError
        If it is anything else.

    Example
    -------
    >>> plain_name("clap", "the attack")
    'clap'
    """
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        why = f"a name has 1 to {LONGEST_NAME} printable characters"
    elif name.startswith(".") or set(name) & set("/\\"):
        why = "files are called after it; leave out slashes and a dot at the beginning"
    else:
        return name
    raise InputError(f"{what} is {str(name)[:LONGEST_NAME]!r}: {why}")
