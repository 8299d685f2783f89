"""Speech Commands v0.01 and v0.02 (Warden, arXiv:1804.03209): from the unpacked archive to rows.

The 12 classes are those of the TensorFlow Datasets builder: ten commands, every other word as
`_unknown_`, and `_silence_` cut from the noise files.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from bdlib import listing, sampling
from bdlib.cli.prepare import main
from bdlib.errors import InputError
from bdlib.manifest import SPLITS
from bdlib.stages.prepare import Prepared

COMMANDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
WORDS_V1 = (
    *COMMANDS,
    *("bed", "bird", "cat", "dog", "eight", "five", "four", "happy", "house", "marvin"),
    *("nine", "one", "seven", "sheila", "six", "three", "tree", "two", "wow", "zero"),
)
ADDED = ("backward", "follow", "forward", "learn", "visual")
WORDS_V2 = (*WORDS_V1, *ADDED)
SILENCE, UNKNOWN, NOISE, VALID_NOISE = "_silence_", "_unknown_", "_background_noise_", "running_tap"
MERGED = {
    "bed_cat": ("bed", "cat"),
    "down_happy": ("down", "happy"),
    "go_left_no": ("go", "left", "no"),
    "off_on_right": ("off", "on", "right"),
    "stop_up_yes": ("stop", "up", "yes"),
}
CLASSES = {
    "12": (*COMMANDS, SILENCE, UNKNOWN),
    "10": COMMANDS,
    "35": WORDS_V2,
    "30": WORDS_V1,
    "merged": tuple(MERGED),
}
PIECE, HOP = 16000, 8000  # samples
LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}
CLIPS = {"v0.01": 64721, "v0.02": 105829}
# Rows of train, valid and test made from complete archives, of v0.02, then of v0.01; for the variant
# 12 with the separate test archive, as other words are 8 % of its clips and 62 % of those listed.
COMPLETE = {
    "12": {(85511, 10102, 4890), (51756, 6919, 3081)},
    "10": {(30769, 3703, 4074), (18538, 2577, 2567)},
    "35": {(84843, 9981, 11005)},
    "30": {(51088, 6798, 6835)},
    "merged": set(),
}
HELD_OUT = 1.25  # percent of the speakers of `merged` in validation, and as many in test


def prepare(
    data_folder: Path,
    variant: str = "12",
    max_per_class: int | str | None = None,
    test_folder: str | None = None,
    seed: int = 0,
) -> Prepared:
    """List the three splits, with the attributes `speaker` and `word`.

    Without the separate test archive the variant 12 has no official test silence. The last third
    of the pieces of each noise file but `running_tap` is then test silence, and the piece before
    it, which overlaps it, is left out: no sample of test silence is in training.

    Arguments
    ---------
    data_folder : Path
        Has a folder a word, and `_background_noise_` for the variant 12.
    variant : str
        `12`; `10`, the commands alone; `35` or `30`, all words of v0.02 or of v0.01; `merged`, a
        class a pair or triple of words, to have classes of 1,000 clips of a subset with 400 a word.
        That is for filters: no classifier is judged on it, and nearly all speakers are in training.
    max_per_class : int | str | None
        Caps each class of the training split; validation and test stay whole. A text caps some
        otherwise: `100,_unknown_:1800` or `100,_unknown_:all`.
    test_folder : str | None
        The separate test archive (12 folders), unpacked or linked below `data_folder`.
    seed : int
        Draws who stays under the cap.

    Raises
    ------
    InputError
        If a folder or a word is missing, a class has no rows in a split, or a cap is none.
    """
    folder, variant = Path(data_folder), str(variant)
    clips = find_clips(folder, variant)
    if variant == "merged":
        split_of = {name: which_set(file.name, HELD_OUT) for name, file in clips.items()}
    else:
        split_of = official_split(folder, clips)
    entries: dict[str, list[dict]] = {split: [] for split in SPLITS}
    for name, file in clips.items():
        label = label_of(file.parent.name, variant)
        if label in CLASSES[variant]:
            entries[split_of[name]].append(_entry(folder, file, label))
    if test_folder is not None:
        entries["test"] = archive_entries(folder, test_folder, variant)
    if variant == "12":
        for split, pieces in silence(folder, hold_out=test_folder is None).items():
            entries[split] += pieces
    for split, found in entries.items():
        for label in sorted(set(CLASSES[variant]) - {entry["label"] for entry in found}):
            raise InputError(
                f"{folder}: empty class {label} in {split}; unpack the archive again, whole"
            )
    rows = {split: listing.from_files(folder, found) for split, found in entries.items()}
    if max_per_class is not None:
        rows["train"] = sampling.cap(rows["train"], caps(max_per_class, CLASSES[variant]), seed)
    full = tuple(len(part) for part in rows.values()) in COMPLETE[variant]
    scale = "mini" if (folder / "mini.json").is_file() else "full" if full else "subset"
    notes = _notes(folder, clips, variant, max_per_class, test_folder)
    return Prepared(rows, scale, variant, notes)


def find_clips(folder: Path, variant: str) -> dict[str, Path]:
    """The clips of all words, by `<word>/<file name without suffix>`."""
    if variant not in CLASSES:
        raise InputError(f"variant {variant} is unknown; the variants are {' '.join(CLASSES)}")
    present = [word for word in WORDS_V2 if (folder / word).is_dir()]
    classes = [name for name in CLASSES[variant] if not name.startswith("_")]
    needed = [word for name in classes for word in MERGED.get(name, (name,))]
    if missing := [word for word in needed if word not in present]:
        raise InputError(
            f"{folder}: no folder for {', '.join(missing)}, which the variant {variant} needs; "
            "give the folder with one folder a word that the Speech Commands archive unpacks to"
        )
    files = (file for word in present for file in listing.audio_files(folder / word))
    return {f"{file.parent.name}/{file.stem}": file for file in files}


def label_of(word: str, variant: str) -> str:
    """The class of a word in a variant; one that the variant has not, if it leaves the word out."""
    if variant == "12":
        return word if word in COMMANDS else UNKNOWN
    if variant == "merged":
        return next((name for name, words in MERGED.items() if word in words), word)
    return word


def official_split(folder: Path, names: dict[str, Path]) -> dict[str, str]:
    """The split of each clip by the lists in the archive, or by the hash where it has none."""
    present = [(folder / file).is_file() for file in LISTS.values()]
    if not any(present):
        return {name: which_set(file.name) for name, file in names.items()}
    if not all(present):
        absent = [file for file in LISTS.values() if not (folder / file).is_file()]
        raise InputError(f"{folder}: {absent[0]} is missing; restore it from the archive")
    split_of = dict.fromkeys(names, "train")
    for split, file in LISTS.items():
        try:
            listed = (folder / file).read_text("utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{folder / file}: cannot be read as UTF-8; restore it from the archive"
            ) from error
        for line in listed:
            if (name := line.rsplit(".", 1)[0]) in split_of:
                split_of[name] = split
    return split_of


def which_set(file_name: str, held_out: float = 10.0) -> str:
    """The split by the hash of the speaker, 10 % (`held_out`) validation and as much test.

    The function of this name in the README of the data set and in TensorFlow's speech_commands
    example.
    """
    most = 2**27 - 1
    speaker = re.sub(r"_nohash_.*$", "", file_name)
    hashed = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (most + 1)
    percent = hashed * (100.0 / most)
    return "valid" if percent < held_out else "test" if percent < 2 * held_out else "train"


def silence(folder: Path, hold_out: bool) -> dict[str, list[dict]]:
    """Entries of one second, one every half second; what is left at the end is dropped."""
    files = listing.audio_files(folder / NOISE)
    if not files:
        raise InputError(f"{folder / NOISE}: no noise files; restore the folder from the archive")
    entries: dict[str, list[dict]] = {split: [] for split in SPLITS}
    for file in files:
        starts = list(range(0, listing.header(file)[0] - PIECE, HOP))
        pieces = [
            _entry(folder, file, SILENCE)
            | {"ID": f"{SILENCE}/{file.stem}_{start:010d}", "start": start, "stop": start + PIECE}
            for start in starts
        ]
        if file.stem == VALID_NOISE:
            entries["valid"] += pieces
        elif hold_out:
            first = len(starts) - round(len(starts) / 3)
            entries["train"] += pieces[: max(first - 1, 0)]
            entries["test"] += pieces[first:]
        else:
            entries["train"] += pieces
    return entries


def archive_entries(folder: Path, test_folder: str, variant: str) -> list[dict]:
    """Entries of the separate test archive, whose folders are the 12 classes."""
    if variant not in ("12", "10"):
        raise InputError(f"test_folder: the archive has 12 classes, not {variant}; leave it out")
    archive = folder / test_folder
    if ".." in Path(test_folder).parts or not archive.is_relative_to(folder):
        raise InputError(f"{archive}: not below {folder}; link the test archive there")
    if not archive.is_dir():
        raise InputError(f"{archive}: no such folder; unpack or link the test archive there")
    return [
        _entry(folder, file, label)
        for label in CLASSES[variant]
        for file in listing.audio_files(archive / label)
    ]


def caps(max_per_class: int | str, classes: Sequence[str]) -> dict[str, int]:
    """The cap of each class that has one, from a number or a text such as `100,_unknown_:all`."""
    of_all, *others = str(max_per_class).split(",")
    try:
        own = dict(other.split(":") for other in others)
        if not own.keys() <= set(classes):
            raise ValueError("no such class")
        every = dict.fromkeys(classes, of_all) | own
        return {name: int(most) for name, most in every.items() if most != "all"}
    except ValueError as error:
        raise InputError(
            f"`max_per_class` is {max_per_class}: give a number, and after commas the classes that "
            "have another, as in 100,_unknown_:1800 or 100,_unknown_:all"
        ) from error


def _entry(folder: Path, file: Path, label: str) -> dict:
    speaker = file.stem.split("_nohash_")[0] if "_nohash_" in file.stem else ""
    word = SILENCE if label == SILENCE else file.parent.name
    path = file.relative_to(folder).as_posix()
    return {"path": path, "label": label, "speaker": speaker, "word": word}


def _notes(
    folder: Path,
    clips: dict[str, Path],
    variant: str,
    most: int | str | None,
    test_folder: str | None,
) -> tuple[str, ...]:
    version = "v0.02" if any(file.parent.name in ADDED for file in clips.values()) else "v0.01"
    part = len(clips) < CLIPS[version] and not (folder / "mini.json").is_file()
    without = variant == "12" and test_folder is None
    of_all, _, own = str(most).partition(",")
    cases = {
        f"{len(clips):,} of {CLIPS[version]:,} clips of {version}: a subset": part,
        "the words of v0.01, taken from v0.02": variant == "30" and version == "v0.02",
        "words merged; 1.25 % of the speakers each in validation and test": variant == "merged",
        "no official lists: split by the hash of the speaker": not (
            folder / LISTS["test"]
        ).exists(),
        f"training capped at {of_all} a class{f' ({own})' if own else ''}": most is not None,
        "no separate test archive: test silence is the last third of each noise file, kept out of "
        f"training, and {UNKNOWN} is a larger share of test than there": without,
    }
    return tuple(note for note, holds in cases.items() if holds)


if __name__ == "__main__":
    main(prepare)
