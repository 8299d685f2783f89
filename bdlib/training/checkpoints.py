"""Checkpoints that are whole or not there."""

import pickle
import shutil
from pathlib import Path
from typing import Any

from speechbrain.utils.checkpoints import Checkpoint, Checkpointer, register_checkpoint_hooks
from speechbrain.utils.distributed import ddp_barrier, if_main_process
from speechbrain.utils.epoch_loop import EpochCounterWithStopper

from bdlib.errors import InputError

UNFINISHED = ".unfinished"
BROKEN = (OSError, EOFError, RuntimeError, ValueError, LookupError, pickle.UnpicklingError)

# SpeechBrain registers the hooks of the plain counter alone; checkpoints would forget the patience.
register_checkpoint_hooks(EpochCounterWithStopper)


class WholeCheckpointer(Checkpointer):
    """SpeechBrain's `Checkpointer`, but a checkpoint gets its name when it is whole.

    The file by which SpeechBrain recognises a checkpoint is written before the parameters: of a
    run killed between the two, half a checkpoint would be loaded.
    """

    def _new_checkpoint_dirpath(self) -> Path:
        return self.checkpoints_dir / UNFINISHED

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> Checkpoint | None:
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
            saved = super().save_checkpoint(*args, **kwargs)
            ddp_barrier()
            if saved is None:
                return None
            whole = unfinished.rename(super()._new_checkpoint_dirpath())
        except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
            shutil.rmtree(unfinished, ignore_errors=True)
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
