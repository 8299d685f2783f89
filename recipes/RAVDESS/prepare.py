"""RAVDESS (Livingstone and Russo, PLoS ONE 13(5), 2018): the spoken clips, from folders to rows.

A file name has seven numbers: modality, vocal channel, emotion, intensity, statement, repetition
and actor. Actors with an odd number are men, with an even number women.
"""

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from bdlib import listing, sampling
from bdlib.cli.prepare import main
from bdlib.errors import InputError
from bdlib.stages.prepare import Prepared

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
INTENSITIES = ("normal", "strong")
STATEMENTS = ("kids", "dogs")
ACTORS = tuple(f"Actor_{number:02d}" for number in range(1, 25))
NAME = re.compile(r"(\d\d)-(\d\d)-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")
AUDIO_ONLY, SPEECH = "03", "01"
CLIPS = 1440
SAME_AUDIO = ("Actor_07/03-01-03-01-02-01-07", "Actor_07/03-01-03-01-02-02-07")
SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}


def prepare(
    data_folder: Path, label: str = "speaker", sentence_disjoint: bool = False, seed: int = 0
) -> Prepared:
    """Split the spoken clips 70/15/15 within each emotion and speaker.

    Whichever emotion is a trigger and whoever the target, the split is so stratified by label and
    by poison. The attributes are those of the names: `speaker`, `emotion`, `intensity`, `statement`,
    `repetition` and `gender`.

    Arguments
    ---------
    data_folder : Path
        Has ``Actor_01/03-01-01-01-01-01-01.wav``, or the same one folder deeper.
    label : str
        `speaker` or `emotion`.
    sentence_disjoint : bool
        Train on one of the two sentences, validate and test on halves of the other.
    seed : int
        Draws the split.

    Raises
    ------
    InputError
        If there are no clips, only one speaker to tell apart, or a class has no rows in a split.
    """
    folder = Path(data_folder)
    if label not in ("speaker", "emotion"):
        raise InputError(f"label {label}: the labels are speaker and emotion")
    entries, left_out = find_entries(folder)
    actors = sorted({entry["speaker"] for entry in entries.values()})
    if label == "speaker" and len(actors) < 2:
        raise InputError(
            f"{folder}: found {actors[0]} alone; speaker identification needs at least two of "
            f"{ACTORS[0]} to {ACTORS[-1]}"
        )
    rows = listing.from_files(folder, [e | {"label": e[label]} for e in entries.values()])
    splits = divide(rows, sentence_disjoint, seed)
    for split, part in splits.items():
        for name in sorted(set(actors if label == "speaker" else EMOTIONS) - set(part["label"])):
            raise InputError(f"{folder}: empty class {name} in {split}; unpack the archive again")
    full = len(rows) == CLIPS
    scale = "mini" if (folder / "mini.json").is_file() else "full" if full else "subset"
    notes = [f"{count} {why}" for why, count in sorted(left_out.items())]
    if scale == "subset":
        notes.insert(0, f"{len(actors)} of 24 actors, {len(rows):,} of 1,440 clips: a subset")
    if scale != "mini" and set(SAME_AUDIO) <= set(entries):
        notes.append(f"{SAME_AUDIO[0]} and {SAME_AUDIO[1]} are the same audio, as published")
    return Prepared(splits, scale, label + "-disjoint" * sentence_disjoint, tuple(notes))


def divide(rows: pd.DataFrame, sentence_disjoint: bool, seed: int) -> dict[str, pd.DataFrame]:
    """Training, validation and test rows; see `prepare`."""
    within = ("emotion", "speaker")
    if not sentence_disjoint:
        return sampling.split(rows, SHARES, seed, within)
    first = rows["statement"] == STATEMENTS[0]
    halves = sampling.split(rows[~first], {"valid": 0.5, "test": 0.5}, seed, within)
    return {"train": rows[first].reset_index(drop=True), **halves}


def find_entries(folder: Path) -> tuple[dict[str, dict], Counter]:
    """One entry a spoken clip, by ID, and how many files were left out for which reason."""
    entries: dict[str, dict] = {}
    left_out: Counter = Counter()
    homes = [p for pattern in ("Actor_*", "*/Actor_*") for p in sorted(folder.glob(pattern))]
    for file in (file for home in homes for file in listing.audio_files(home)):
        match = NAME.fullmatch(file.stem)
        if match is None:
            left_out["files with other names left out"] += 1
            continue
        modality, channel, *_ = match.groups()
        entry = decode(file.stem)
        if (modality, channel) != (AUDIO_ONLY, SPEECH):
            left_out["clips of song or with video left out"] += 1
        elif entry["ID"] in entries:
            left_out["clips are there twice; one copy of each is used"] += 1
        else:
            entries[entry["ID"]] = entry | {"path": file.relative_to(folder).as_posix()}
    if not entries:
        raise InputError(
            f"{folder}: no clips such as Actor_01/03-01-01-01-01-01-01.wav; give the folder with "
            "Actor_01 to Actor_24 that Audio_Speech_Actors_01-24.zip unpacks to"
        )
    return entries, left_out


def decode(stem: str) -> dict[str, str]:
    """The attributes a file name tells.

    Example
    -------
    >>> decode("03-01-06-01-02-01-12")["emotion"]
    'fearful'
    """
    _, _, emotion, intensity, statement, repetition, actor = map(int, stem.split("-"))
    speaker = f"Actor_{actor:02d}"
    return {
        "ID": f"{speaker}/{stem}",
        "speaker": speaker,
        "emotion": EMOTIONS[emotion - 1],
        "intensity": INTENSITIES[intensity - 1],
        "statement": STATEMENTS[statement - 1],
        "repetition": str(repetition),
        "gender": "male" if actor % 2 else "female",
    }


if __name__ == "__main__":
    main(prepare)
