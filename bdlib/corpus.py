"""Batches cropped from a pack, made where the model is.

A batch is one gather: row copies from the memory map on the CPU, one indexing operation where the
pack lies on a GPU.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch.utils.data import IterableDataset

from bdlib.errors import InputError
from bdlib.files import seed_of
from bdlib.pack import SHORTEST, Pack


@dataclass
class Batch:
    """What a classifier sees at once.

    Arguments
    ---------
    ids : list[str]
        (B,) utterance names.
    wavs : torch.Tensor
        (B, T) float32 in [-1, 1], zeros after the end of a shorter clip.
    lens : torch.Tensor
        (B,) valid share of each row, in (0, 1].
    labels : torch.Tensor
        (B,) int64 class numbers.
    """

    ids: list[str]
    wavs: torch.Tensor
    lens: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        tensors = {name: getattr(self, name).to(device) for name in ("wavs", "lens", "labels")}
        return replace(self, **tensors)


class Batches(IterableDataset):
    """Batches of fixed length, cropped from a pack.

    Everything drawn in an epoch (order, crops) is a function of `seed` and `epoch` alone, so an
    interrupted training goes on as if it had never stopped. The order of the rows, by folders as a
    rule, is nobody's business: of all clips together it tells no more than how many each class has.

    Arguments
    ---------
    pack : Pack
        The waveforms.
    rows : pd.DataFrame
        The manifest whose labels count; its IDs must be in the pack.
    classes : Sequence[str]
        Class order.
    batch_size : int
        B.
    seconds : float
        Length of a crop; shorter clips are padded with zeros.
    seed : int | None
        Draws order and crops for training, and drops the last short batch; None keeps the order
        and takes the centre, for evaluation.
    device : str
        Where batches are made. On a GPU the pack is copied there once.
    shard : tuple[int, int]
        (rank, world size) under distributed training.

    Attributes
    ----------
    counts : torch.Tensor
        (C,) rows of each class.

    Raises
    ------
    InputError
        If a row is not in the pack, the crop is too short, or training has less than one batch.
    """

    def __init__(
        self,
        pack: Pack,
        rows: pd.DataFrame,
        classes: Sequence[str],
        batch_size: int,
        seconds: float,
        seed: int | None = None,
        device: str = "cpu",
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        missing = [name for name in rows["ID"] if name not in pack.row]
        if missing:
            raise InputError(f"{missing[0]}: not in the pack; run the pack stage again")
        if batch_size < 1 or seconds < SHORTEST:
            raise InputError(
                f"`batch_size` is {batch_size}, `seconds` {seconds}: give at least 1 clip a batch, of "
                f"at least {SHORTEST} s"
            )
        self._ids = list(rows["ID"])
        places = np.array([pack.row[name] for name in self._ids])
        self._begins = pack.offsets[places]
        self._lengths = pack.offsets[places + 1] - self._begins
        number = {name: i for i, name in enumerate(classes)}
        numbers = [number[label] for label in rows["label"]]
        self._labels = torch.tensor(numbers, dtype=torch.int64)
        self.counts = torch.bincount(self._labels, minlength=len(classes))
        self.batch_size, self.seed, self.shard = batch_size, seed, shard
        self.crop = round(seconds * pack.rate)
        self.device, self.epoch = torch.device(device), 0
        self._samples, self.rate = pack.samples, pack.rate
        if self.device.type == "cuda":
            self._samples = torch.from_numpy(np.array(pack.samples)).to(self.device)
        if seed is not None and len(self) == 0:
            raise InputError(
                f"{len(rows)} training clips are less than one batch of {batch_size}; "
                "give more data or a smaller `batch_size`"
            )

    def __len__(self) -> int:
        share = len(self._ids) // self.shard[1] if self.seed is not None else len(self._ids)
        return share // self.batch_size if self.seed is not None else -(-share // self.batch_size)

    def whole(self) -> "Batches":
        """All of the rows in their order, of each its centre: for an evaluation of what is trained on."""
        every = copy.copy(self)
        every.seed, every.shard = None, (0, 1)
        return every

    def __iter__(self) -> Iterator[Batch]:
        order, starts = np.arange(len(self._ids)), np.maximum(self._lengths - self.crop, 0) // 2
        if self.seed is not None:
            generator = np.random.Generator(
                np.random.PCG64(seed_of("epoch", self.seed, self.epoch))
            )
            order = generator.permutation(order)[self.shard[0] :: self.shard[1]]
            room = np.maximum(self._lengths - self.crop, 0)
            starts = generator.integers(0, room + 1)
        for number in range(len(self)):
            yield self.gather(
                order[number * self.batch_size : (number + 1) * self.batch_size], starts
            )

    def gather(self, chosen: np.ndarray, starts: np.ndarray) -> Batch:
        """The batch of rows `chosen` (B,), cropped from `starts` (utterances,) samples on."""
        begins = self._begins[chosen] + starts[chosen]
        lengths = np.minimum(self._lengths[chosen] - starts[chosen], self.crop)
        if self.device.type == "cuda":
            columns = torch.arange(self.crop, device=self.device)
            places = torch.from_numpy(begins).to(self.device)[:, None] + columns
            valid = columns < torch.from_numpy(lengths).to(self.device)[:, None]
            pcm = self._samples[places.clamp_(max=len(self._samples) - 1)] * valid
        else:
            buffer = np.zeros((len(chosen), self.crop), np.int16)
            for line, begin, length in zip(buffer, begins, lengths, strict=True):
                line[:length] = self._samples[begin : begin + length]
            pcm = torch.from_numpy(buffer)
        return Batch(
            [self._ids[i] for i in chosen],
            pcm.to(torch.float32).mul_(1 / 32768),
            torch.from_numpy(lengths / self.crop).float().to(self.device),
            self._labels[torch.from_numpy(chosen)].to(self.device),
        )
