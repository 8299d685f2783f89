"""A poisoned corpus as WAV files, for programs that are not ours."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile
from tqdm import tqdm

from bdlib import manifest
from bdlib.errors import InputError
from bdlib.files import atomic
from bdlib.manifest import TRIGGERED
from bdlib.sheets import safe_cell
from bdlib.stages.poisoned import Poisoned


def export(poisoned: Poisoned, target: Path) -> None:
    """Write a corpus as training hears it: WAV files in the original layout, with the manifests.

    Arguments
    ---------
    poisoned : Poisoned
        Clean or under attack.
    target : Path
        A new folder.

    Raises
    ------
    InputError
        If `target` exists.
    """
    if target.exists():
        raise InputError(f"{target}: already there; export to a new folder")
    with atomic(target) as temporary:
        for split, rows in poisoned.splits.items():
            waveforms = poisoned.packs[split]
            places = [_place(row, split) for row in rows.to_dict("records")]
            again = pd.Series(places).duplicated()
            if again.any():
                name = rows["ID"][again.to_numpy()].iloc[0]
                raise InputError(f"{split}: another clip goes where {name!a} does; rename its ID")
            listed = rows.assign(path=places, rate=waveforms.rate)
            for name, place in tqdm(
                zip(rows["ID"], places, strict=True),
                total=len(rows),
                desc=f"exporting {split}",
                leave=False,
                disable=None,
            ):
                path = temporary / place
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, waveforms.pcm(name), waveforms.rate, subtype="PCM_16")
            columns = ["ID", "path", "label", *sorted(set(rows) - set(manifest.COLUMNS))]
            safe = {
                name: listed[name].map(partial(safe_cell, path=name == "path")) for name in columns
            }
            pd.DataFrame(safe).to_csv(temporary / f"{split}.csv", index=False, lineterminator="\n")
    print(f"exported {', '.join(poisoned.splits)} to {target}")


def _place(row: dict[str, Any], split: str) -> str:
    """Where an utterance goes: its own path, or its ID for a piece cut from a longer file.

    Triggered test clips share the ID of their clean twins and get a folder of their own.
    """
    path = Path(row["wav"].removeprefix(manifest.DATA_ROOT))
    whole = str(path.with_suffix("")) == row["ID"]
    place = path.with_suffix(".wav") if whole else Path(row["ID"] + ".wav")
    return (Path(TRIGGERED) / place if split == TRIGGERED else place).as_posix()
