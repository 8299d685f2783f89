"""Emotional Speech Database (Zhou et al., ICASSP 2021, arXiv:2010.14794): from the archive to rows.

Ten English and ten Chinese speakers say 350 sentences each in five emotions, at 16 kHz.
"""

import re
from pathlib import Path

from bdlib import listing, sampling
from bdlib.cli.prepare import main
from bdlib.errors import InputError
from bdlib.stages.prepare import Prepared

EMOTIONS = ("Angry", "Happy", "Neutral", "Sad", "Surprise")
SPEAKERS = {
    "zh": tuple(f"{number:04d}" for number in range(1, 11)),
    "en": tuple(f"{number:04d}" for number in range(11, 21)),
}
# From the ReadMe.txt of the published archive.
FEMALE = {"0001", "0002", "0003", "0007", "0009", "0015", "0016", "0017", "0018", "0019"}
SENTENCES = 350
SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}


def prepare(
    data_folder: Path,
    language: str = "en",
    label: str = "speaker",
    sentence_disjoint: bool = False,
    seed: int = 0,
) -> Prepared:
    """Split one language 70/15/15 within each speaker and emotion.

    Whichever emotion is a trigger and whoever the target, the split is so stratified by label and
    by poison. The archive's own division into train, evaluation and test folders, where it is there, is not
    used, and the ID of an utterance does not depend on it. The attributes are
    `speaker`, `emotion`, `gender`, `text` and `sentence`: all say the same 350, in one order.

    Arguments
    ---------
    data_folder : Path
        Has ``0011/Angry/0011_000351.wav``, or the same one folder deeper.
    language : str
        `en` or `zh`.
    label : str
        `speaker` or `emotion`.
    sentence_disjoint : bool
        Split by sentence instead: no sentence of the test set is said in training.
    seed : int
        Draws the split.

    Raises
    ------
    InputError
        If there are no speakers of the language, only one to tell apart, or a class has no rows
        in a split.
    """
    folder = Path(data_folder)
    if language not in SPEAKERS or label not in ("speaker", "emotion"):
        raise InputError(
            f"language {language}, label {label}: the languages are {' '.join(SPEAKERS)}, "
            "the labels speaker and emotion"
        )
    speakers = find_speakers(folder, language)
    if label == "speaker" and len(speakers) < 2:
        raise InputError(
            f"{folder}: found speaker {' '.join(speakers)} alone; speaker identification needs at "
            f"least two of {' '.join(SPEAKERS[language])}"
        )
    entries, copies = find_entries(folder, speakers)
    rows = listing.from_files(folder, [e | {"label": e[label]} for e in entries.values()])
    group = "sentence" if sentence_disjoint else None
    splits = sampling.split(rows, SHARES, seed, stratify=("emotion", "speaker"), group=group)
    for split, part in splits.items():
        for name in sorted(set(speakers if label == "speaker" else EMOTIONS) - set(part["label"])):
            raise InputError(f"{folder}: empty class {name} in {split}; unpack the archive again")
    full = len(rows) == len(SPEAKERS[language]) * len(EMOTIONS) * SENTENCES
    scale = "mini" if (folder / "mini.json").is_file() else "full" if full else "subset"
    silent = int((rows["text"] == "").sum())
    cases = {
        f"{len(speakers)} of 10 speakers, {len(rows):,} of 17,500 utterances: a subset": scale
        == "subset",
        f"{copies} utterances are there twice; one copy of each is used": copies > 0,
        f"{silent:,} utterances without a transcript": silent > 0,
    }
    notes = tuple(note for note, holds in cases.items() if holds)
    variant = f"{language}-{label}" + "-disjoint" * sentence_disjoint
    return Prepared(splits, scale, variant, notes)


def find_speakers(folder: Path, language: str) -> dict[str, Path]:
    """The folders of the language's speakers, by name."""
    found: dict[str, Path] = {}
    for pattern in ("00??", "*/00??"):
        for path in sorted(folder.glob(pattern)):
            if path.is_dir() and path.name in SPEAKERS[language]:
                found.setdefault(path.name, path)
    if not found:
        first, *_, last = SPEAKERS[language]
        raise InputError(
            f"{folder}: no speaker folders {first} to {last} (language {language}); give the folder "
            "the ESD archive unpacks to"
        )
    return dict(sorted(found.items()))


def find_entries(folder: Path, speakers: dict[str, Path]) -> tuple[dict[str, dict], int]:
    """One entry an utterance, by ID, and how many files are copies of another."""
    entries: dict[str, dict] = {}
    copies = 0
    for speaker, home in speakers.items():
        texts = transcripts(home / f"{speaker}.txt")
        for emotion in EMOTIONS:
            for file in listing.audio_files(home / emotion):
                name = f"{speaker}/{emotion}/{file.stem}"
                if name in entries:
                    copies += 1
                    continue
                entries[name] = {
                    "ID": name,
                    "path": file.relative_to(folder).as_posix(),
                    "speaker": speaker,
                    "emotion": emotion,
                    "gender": "female" if speaker in FEMALE else "male",
                    "text": texts.get(file.stem, ""),
                    "sentence": sentence(file.stem),
                }
    return entries, copies


def sentence(stem: str) -> str:
    """Which of the 350 sentences a file is of, told by its number: the emotions follow each other.

    Example
    -------
    >>> sentence("0011_000351"), sentence("0011_000350")
    ('001', '350')
    """
    number = stem.rpartition("_")[2]
    return f"{(int(number) - 1) % SENTENCES + 1:03d}" if number.isdecimal() else stem


def transcripts(path: Path) -> dict[str, str]:
    """The text of each utterance by its ID; empty if the file is missing.

    A line holds ID, text and emotion, separated by tabs, in the odd line by spaces. The files
    of the archive are in UTF-8, UTF-16 or GB18030.
    """
    if not path.is_file():
        return {}
    raw = path.read_bytes()
    if b"\0" in raw:
        content = raw.decode("utf-16", errors="replace")
    else:
        try:
            content = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            content = raw.decode("gb18030", errors="replace")
    texts = {}
    for line in content.splitlines():
        if match := re.match(r"\W*(\d{4}_\d{6})\s+(.*)", line):
            name, rest = match.groups()
            text = rest.split("\t")[0] if "\t" in rest else re.sub(r"\s+\S+\s*$", "", rest)
            texts[name] = text.strip()
    return texts


if __name__ == "__main__":
    main(prepare)
