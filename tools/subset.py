#!/usr/bin/env python3
"""Build a subset like the one that the records are of from a copy of Speech Commands v0.02.

    subset.py SPEECH_COMMANDS OUTPUT [--seed 0]

As many clips of each word as in docs/data.md, drawn by lot, and lists of its own in which no speaker
is in two splits. The clips are other ones than those of the records: what is measured on them is
near, not equal. It needs no GPU, no network and 220 MB.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdlib.cli.command import guarded
from bdlib.errors import InputError
from bdlib.files import atomic
from bdlib.sampling import rank

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLIPS = dict.fromkeys(COMMANDS, 400) | {
    "bed": 640, "cat": 640, "happy": 640, "nine": 87, "zero": 86, "eight": 47, "six": 41, "three": 39,
    "one": 38, "five": 36, "two": 33, "four": 31, "seven": 30, "sheila": 26, "wow": 24, "marvin": 21,
    "bird": 20, "house": 20, "tree": 20, "dog": 17, "forward": 13, "learn": 10, "backward": 9,
    "follow": 9, "visual": 6,
}  # fmt: skip
"""Clips of each word: 6,583."""
TEST, VALID = 1356 / 6583, 527 / 6583  # shares of the clips
NOISE = "_background_noise_"


def drawn(folder: Path, seed: int) -> list[str]:
    """Paths below the folder of the clips that are taken, by word.

    Raises
    ------
    InputError
        If a word is missing, or has too few clips.
    """
    taken: list[str] = []
    for word, count in CLIPS.items():
        names = [f"{word}/{path.name}" for path in (folder / word).glob("*.wav")]
        if len(names) < count:
            raise InputError(
                f"{folder / word}: {len(names)} wav files, {count} are needed; give the unpacked archive "
                "of Speech Commands v0.02, which has a folder a word"
            )
        taken += rank(names, seed, "subset")[:count]
    return taken


def split(clips: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Validation and test clips: whole speakers by lot, until each split has its share."""
    by_speaker: dict[str, list[str]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.partition("/")[2].partition("_nohash_")[0], []).append(clip)
    valid: list[str] = []
    test: list[str] = []
    for speaker in rank(by_speaker, seed, "split"):
        if len(test) < TEST * len(clips):
            test += by_speaker[speaker]
        elif len(valid) < VALID * len(clips):
            valid += by_speaker[speaker]
    return sorted(valid), sorted(test)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("speech_commands", type=Path, help="the unpacked archive")
    parser.add_argument("output", type=Path, help="a folder that is not there yet")
    parser.add_argument("--seed", type=int, default=0, help="draws clips and splits (default: 0)")
    given = parser.parse_args()
    if given.output.exists():
        raise InputError(f"{given.output} is there already; name a new folder")
    if not list((given.speech_commands / NOISE).glob("*.wav")):
        raise InputError(f"{given.speech_commands / NOISE}: no wav files, of which silence is cut")
    clips = drawn(given.speech_commands, given.seed)
    valid, test = split(clips, given.seed)
    with atomic(given.output) as temporary:
        shutil.copytree(given.speech_commands / NOISE, temporary / NOISE)
        for clip in clips:
            (temporary / clip).parent.mkdir(exist_ok=True)
            shutil.copyfile(given.speech_commands / clip, temporary / clip)
        for name, chosen in (("validation_list.txt", valid), ("testing_list.txt", test)):
            (temporary / name).write_text("".join(f"{clip}\n" for clip in chosen))
    print(f"{given.output}: {len(clips)} clips, {len(valid)} to validate, {len(test)} to test")


if __name__ == "__main__":
    with guarded():
        main()
