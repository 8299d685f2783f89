"""Checkpoints that are whole or not there."""

import pickle
import shutil
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer, register_checkpoint_hooks
from speechbrain.utils.distributed import ddp_barrier, if_main_process
from speechbrain.utils.epoch_loop import EpochCounterWithStopper

from bdlib.errors import InputError, fits
from bdlib.files import check_regular, read_json
from bdlib.seals import unsealed

UNFINISHED = ".unfinished"
BROKEN = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, pickle.UnpicklingError),
    *(yaml.YAMLError, TypeError, AttributeError, MemoryError, zipfile.BadZipFile),
)
"""What reading a file raises that is cut short or was never a checkpoint."""

# SpeechBrain registers the hooks of the plain counter alone; checkpoints would forget the patience.
register_checkpoint_hooks(EpochCounterWithStopper)


class WholeCheckpointer(Checkpointer):
    """SpeechBrain's `Checkpointer`, but a checkpoint gets its name when it is whole.

    The file by which SpeechBrain recognises a checkpoint is written before the parameters: of a
    run killed between the two, half a checkpoint would be loaded. And each is newer than the one
    before, whatever the clock says: SpeechBrain goes on from the newest.
    """

    def _new_checkpoint_dirpath(self) -> Path:
        return self.checkpoints_dir / UNFINISHED

    def save_checkpoint(
        self, meta: Mapping[str, Any] = MappingProxyType({}), **kwargs: Any
    ) -> Checkpoint | None:
        """See `Checkpointer.save_checkpoint`.

        Raises
        ------
        InputError
            If the disk is full or the folder cannot be written.
        """
        unfinished = self.checkpoints_dir / UNFINISHED
        try:
            if if_main_process():
                shutil.rmtree(unfinished, ignore_errors=True)
            times = [c.meta.get("unixtime") for c in self.list_checkpoints()]
            last = max((then for then in times if fits(then, float)), default=0.0)
            newer = {"unixtime": max(time.time(), last + 1)}
            saved = super().save_checkpoint(meta=newer | dict(meta), **kwargs)
            ddp_barrier()
            if saved is not None:
                whole = unfinished.rename(super()._new_checkpoint_dirpath())
            ddp_barrier()  # the others look for it by its name
            if saved is None:
                return None
        except BaseException as error:  # a Ctrl-C, too, leaves nothing
            shutil.rmtree(unfinished, ignore_errors=True)
            if not isinstance(error, OSError | RuntimeError):
                raise  # torch tells of a full disk by a RuntimeError
            raise InputError(
                f"{self.checkpoints_dir}: the checkpoint cannot be written "
                f"({str(error).splitlines()[0]}); free disk space, and the same command goes on"
            ) from error
        files = {name: whole / path.name for name, path in saved.paramfiles.items()}
        return saved._replace(path=whole, paramfiles=files)

    def recover_if_possible(self, *args: Any, **kwargs: Any) -> Checkpoint | None:
        """See `Checkpointer.recover_if_possible`.

        Raises
        ------
        InputError
            If the checkpoint is broken.
        """
        try:
            return super().recover_if_possible(*args, **kwargs)
        except BROKEN as error:
            what = str(error).partition("\n")[0] or "cut short"
            raise InputError(
                f"{self.checkpoints_dir}: the checkpoint cannot be read ({what}); delete "
                f"{self.checkpoints_dir.parent} and train again"
            ) from error


def kept_files(folder: Path) -> list[Path]:
    """Of a training that ended, the weights of its checkpoints and what tells the best of them."""
    return [
        file
        for checkpoint in sorted(folder.glob("save/CKPT*"))
        for file in (checkpoint / "classifier.ckpt", checkpoint / "CKPT.yaml")
        if file.exists()
    ]


def check_kept(folder: Path) -> None:
    """Compare the checkpoints of a training with the seal in its `done.json`, if it ended.

    Raises
    ------
    InputError
        If one is not as it was written.
    """
    done = folder / "done.json"
    if done.exists():
        unsealed(done, read_json(done, {"clips": int}), kept_files(folder), whole=True)


def read_weights(path: Path, most: int) -> dict[str, torch.Tensor]:
    """Weights by name, as `torch.save` writes them; nothing else in the file is made.

    Arguments
    ---------
    path : Path
        The file.
    most : int
        How many numbers it may hold: a view may claim more than lies there.

    Raises
    ------
    InputError
        If it is anything else.
    """
    check_regular(path)
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not whole")
        state = torch.load(path, weights_only=True, map_location="cpu")
        if not fits(state, dict[str, torch.Tensor]):
            raise ValueError("no weights by name")
        if sum(value.numel() for value in state.values()) > most:
            raise ValueError(f"more than {most} numbers")
        return state
    except BROKEN as error:
        raise unread(path, error) from error


def unread(path: Path, error: Exception) -> InputError:
    """The error of a file of weights that cannot be used."""
    what = "".join(filter(str.isprintable, str(error).partition("\n")[0])) or "cut short"
    return InputError(f"{path}: cannot be read ({what}); delete it, and the same command makes it")
