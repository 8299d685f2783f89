"""What the first stage leaves: a clean corpus, on the disk and at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bdlib import listing, manifest
from bdlib.files import atomic, digest, file_digest, read_json
from bdlib.manifest import SPLITS
from bdlib.names import plain_name
from bdlib.seals import unsealed, write_sealed
from bdlib.stages.pack import Audio

ABOUT = {
    **{"name": str, "variant": str | None, "scale": str, "digest": str, "classes": list[str]},
    **{"counts": dict[str, int], "classes_of": dict[str, dict[str, int]], "notes": list[str]},
    "fingerprint": str,
}
"""Keys of `manifest.json`, with their types."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """A clean corpus (stage 1).

    Arguments
    ---------
    key : str
        Digest of what its rows were chosen by; with its name, the folder of its manifests.
    about : dict[str, Any]
        `name`, `variant`, `scale`, `classes`, `counts` and the like; once saved also `digest`.
    splits : Mapping[str, pd.DataFrame]
        Validated rows of `train`, `valid` and `test`.
    audio : Audio
        Where its clips are, and how they become waveforms.
    folder : Path | None
        Holds `train.csv`, `valid.csv`, `test.csv` and `manifest.json`; None before `save`.
    """

    key: str
    about: dict[str, Any]
    splits: Mapping[str, pd.DataFrame]
    audio: Audio
    folder: Path | None = None

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(rows)} {split}" for split, rows in self.splits.items())
        return f"{self.about['name']}: {len(self.classes)} classes, clips: {counts}"

    @classmethod
    def of(
        cls,
        name: str,
        key: str,
        splits: Mapping[str, pd.DataFrame],
        audio: Audio,
        scale: str = "subset",
        variant: str = "all",
        notes: Sequence[str] = (),
    ) -> "Corpus":
        """A corpus from rows.

        Raises
        ------
        InputError
            If rows are not valid, or a split has a class that training has not.
        """
        classes = sorted(set(splits["train"]["label"]))
        for split, rows in splits.items():
            manifest.validate(rows, f"{name} {split}", classes)
        about = {
            "name": name,
            "variant": variant,
            "scale": scale,
            "classes": classes,
            "counts": {split: len(rows) for split, rows in splits.items()},
            "classes_of": {
                split: rows["label"].value_counts().to_dict() for split, rows in splits.items()
            },
            "notes": list(notes),
            "fingerprint": audio.fingerprint,
        }
        return cls(key, about, splits, audio)

    @classmethod
    def load(cls, folder: Path, key: str, audio: Audio) -> "Corpus":
        """The corpus whose manifests `save` wrote; they are read and validated here, once."""
        path, files = folder / "manifest.json", {s: folder / f"{s}.csv" for s in SPLITS}
        about = read_json(path, ABOUT)
        plain_name(about["name"], f"{path}: name")
        splits = {split: manifest.read(file, about["classes"]) for split, file in files.items()}
        return cls(key, unsealed(path, about, files.values()), splits, audio, folder)

    def save(self, output: str | Path) -> "Corpus":
        """The same corpus with its manifests below ``output/manifest``, where they stay."""
        folder = manifest_folder(Path(output), self.about["name"], self.key)
        if not (folder / "manifest.json").exists():
            with atomic(folder) as temporary:
                temporary.mkdir()
                files = [temporary / f"{split}.csv" for split in SPLITS]
                for split, file in zip(SPLITS, files, strict=True):
                    manifest.write(self.splits[split], file)
                about = self.about | {"digest": file_digest(*files)}
                about = {key: about[key] for key in ABOUT}
                write_sealed(temporary / "manifest.json", about, files)
        return self.load(folder, self.key, self.audio)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class order, by name."""
        return tuple(self.about["classes"])

    def audio_digest(self) -> str:
        """Digest of the audio files of all splits, byte for byte; read once, and kept beside them.

        Raises
        ------
        InputError
            If one cannot be read.
        """
        path = self.folder / "audio.json"
        if not path.exists():
            names = {name for rows in self.splits.values() for name in rows["wav"]}
            write_sealed(path, {"digest": listing.audio_digest(names, self.audio.root)})
        return unsealed(path, read_json(path, {"digest": str}))["digest"]


def corpus_key(name: str, settings: Mapping[str, Any], audio: Audio) -> str:
    """Digest by which the manifests of a corpus are recognised."""
    return digest([name, dict(settings), audio.fingerprint], 8)


def manifest_folder(output: Path, name: str, key: str) -> Path:
    """Where the manifests of a corpus go."""
    return output / "manifest" / f"{plain_name(name, 'the name of the corpus')}-{key}"
