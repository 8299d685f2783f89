"""An encoder of the corpus's own: for languages that the pretrained ones never heard, and without them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import nn

from bdlib.corpus import Batch
from bdlib.defenses.filters.contrastive_filter import PROJECTION, encoder
from bdlib.encoders import MADE, Encoder, cropped
from bdlib.files import digest, seed_of
from bdlib.scanning.heard import clips
from bdlib.scanning.sources import Source

LEARNED = 2000  # clips that it learns from, drawn from all
BATCH = 128
STEPS = 400
ADAM = 0.002  # its rate at the start


class Own(Encoder):
    """What tells clips of this corpus apart: a small residual net, contrasted by no label.

    The encoder of `ContrastiveFilter`. It hears the poison while it learns, as the pretrained ones
    do not: where a trigger is the loudest thing in a clip, triggered clips lie beside each other.

    Arguments
    ---------
    source : Source
        The corpus.
    seed : int
        Draws clips, views and first weights.
    quiet : bool
        No progress bar.
    """

    name, size, file = "none", PROJECTION, None

    def __init__(self, source: Source, seed: int = 0, quiet: bool = False) -> None:
        self.source, self.seed, self.quiet = source, seed, quiet

    @cached_property
    def learned(self) -> dict[str, np.ndarray]:
        """By content, the middles of the clips that it learns from, (T,) float16."""
        rows = self.source.rows
        rows = rows.sample(min(len(rows), LEARNED), random_state=self.seed)
        return {
            key: cropped(samples).astype(np.float16)
            for _, key, samples, _, _ in clips(replace(self.source, rows=rows), ())
            if samples is not None
        }

    @cached_property
    def digest(self) -> str:
        """Of the clips that it learns from, so that a trained one's embeddings are found again."""
        return digest([MADE, LEARNED, BATCH, STEPS, ADAM, self.seed, *self.learned])

    @cached_property
    def net(self) -> nn.Module:
        """Trained where first asked for."""
        waves = list(self.learned.values())
        epochs = -(-STEPS // -(-len(waves) // BATCH))
        seed = seed_of("own", self.seed)
        return encoder(lambda epoch: self.batches(waves, epoch), epochs, ADAM, seed, self.quiet)

    def batches(self, waves: list[np.ndarray], epoch: int) -> Iterator[Batch]:
        """All clips in this epoch's order, with zeros after shorter ones; labels are all 0."""
        longest = max(map(len, waves))
        generator = np.random.Generator(np.random.PCG64(seed_of(self.seed, epoch)))
        for chosen in np.array_split(generator.permutation(len(waves)), -(-len(waves) // BATCH)):
            wavs = torch.zeros(len(chosen), longest)
            for row, clip in zip(wavs, chosen, strict=True):
                row[: len(waves[clip])] = torch.from_numpy(waves[clip])
            nobody = torch.zeros(len(chosen), dtype=torch.int64)
            yield Batch([""] * len(chosen), wavs, torch.ones(len(chosen)), nobody)

    def encode(self, wavs: np.ndarray) -> np.ndarray:
        """See `Encoder`."""
        net, lens = self.net, torch.ones(len(wavs))
        with torch.inference_mode():
            return net(torch.from_numpy(wavs), lens).numpy()
