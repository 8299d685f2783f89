"""The corpora that `pls.py` judges: attacks on a clean corpus and draws from it, as latents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bdlib.attacks.labels import OneToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.cli import poison
from bdlib.cli.defend import blinded
from bdlib.cli.experiment import Experiment
from bdlib.cli.settings import common
from bdlib.defenses.filters.vae_pls.encoder import Corpus, encode, trained
from bdlib.defenses.filters.vae_pls.filter import VaePls
from bdlib.defenses.filters.vae_pls.judge import LEAST_CLIPS
from bdlib.sampling import share

DRAWN = 0.9  # share of every class in a clean draw


@dataclass(frozen=True)
class Trial:
    """A corpus to judge: an attack on the clean one, or a clean draw.

    Arguments
    ---------
    attack : dict[str, Any] | None
        As a record tells it; None for a clean draw.
    seed : int
        Of the poison, or number of the draw.
    kept : np.ndarray
        (n,) rows of the clean corpus it holds.
    labels : np.ndarray
        (n,) as given.
    altered : np.ndarray
        (k,) which of the n are poisoned.
    latents : np.ndarray
        (k, D) of these.
    """

    attack: dict[str, Any] | None
    seed: int
    kept: np.ndarray
    labels: np.ndarray
    altered: np.ndarray
    latents: np.ndarray

    @property
    def poisoned(self) -> np.ndarray:
        """(n,) bool."""
        mask = np.zeros(len(self.labels), bool)
        mask[self.altered] = True
        return mask

    def of(self, clean: np.ndarray) -> np.ndarray:
        """Latents (n, D) of the trial, from those of the clean corpus."""
        latents = clean[self.kept]
        latents[self.altered] = self.latents
        return latents


class Bench:
    """A corpus encoded by one autoencoder, and what may happen to it.

    Arguments
    ---------
    experiment : Experiment
        The autoencoder is trained on its training set, as `defend.py` does.
    defense : VaePls
        What judges.
    """

    def __init__(self, experiment: Experiment, defense: VaePls) -> None:
        self.experiment, self.defense = experiment, defense
        rows, pack, _ = blinded(experiment)
        corpus = Corpus(pack, rows, experiment.seed, experiment.run_opts)
        self.network = trained(defense.autoencoder, corpus, experiment.output / "filters")
        clean = poison.Poisoned(experiment.clean.folder, experiment.clean, None)
        self.pack = poison.packed(clean, "train", experiment.corpus, experiment.output)
        everyone = clean.rows("train")
        kept = ~everyone["label"].isin(defense.left_out)
        self.rows = everyone[kept].reset_index(drop=True)
        self.place = {name: number for number, name in enumerate(self.rows["ID"])}
        whole = Corpus(self.pack, self.rows, experiment.seed, experiment.run_opts)
        self.latents = encode(self.network, whole, defense.spectrum)
        self.encoded: dict[tuple[str, str], np.ndarray] = {}
        trained_on = [experiment.poisoned.attack, experiment.clean.about["digest"], experiment.seed]
        self.judged_by = [experiment.asked.defense.plain(), trained_on]  # what records are told by

    @property
    def classes(self) -> list[str]:
        """Those that can be judged."""
        counts = self.rows["label"].value_counts()
        return sorted(counts.index[counts >= LEAST_CLIPS])

    def attack(self, name: str, source_class: str, target: str, rate: float) -> Trial:
        """An attack on the clean corpus; clips altered before are not encoded again."""
        own, asked = self.experiment.settings["poison"], self.experiment.asked.attack
        seed = own["poison_seed"]
        same = asked is not None and name == own["attack"]  # with what the command line changed
        trigger = (asked if same else common("attacks", name)).build()["trigger"]
        poisoner = Poisoner(trigger, OneToOne(source_class, target), rate, "source", seed)
        rows, truth = poisoner.poison(self.rows)
        chosen = list(truth["ID"])
        new = [clip for clip in chosen if (name, clip) not in self.encoded]
        if new:
            found = self._altered(poisoner, new)
            self.encoded |= {(name, clip): row for clip, row in zip(new, found, strict=True)}
        about = {"name": Path(name).stem, **poisoner.to_dict(), "poisoned": len(chosen)}
        about |= {"source": source_class, "target": target}
        return Trial(
            about,
            seed,
            np.arange(len(rows)),
            rows["label"].to_numpy(),
            np.array([self.place[clip] for clip in chosen]),
            np.array([self.encoded[name, clip] for clip in chosen]),
        )

    def draw(self, number: int) -> Trial:
        """Nine tenths of every class of the clean corpus."""
        chosen = share(self.rows, DRAWN, number)
        kept = np.array([self.place[name] for name in chosen["ID"]])
        empty = np.zeros(0, int), np.zeros((0, self.latents.shape[1]), self.latents.dtype)
        return Trial(None, number, kept, chosen["label"].to_numpy(), *empty)

    @torch.no_grad()
    def _altered(self, poisoner: Poisoner, clips: list[str]) -> np.ndarray:
        """Latents of clips with the trigger, quantised as in a pack."""
        length = int(np.diff(self.pack.offsets).max())
        wavs, lens = torch.zeros(len(clips), length), torch.zeros(len(clips))
        for row, name in enumerate(clips):
            wav = poisoner.apply(self.pack.waveform(name), self.pack.rate, "train", name)
            pcm = np.clip(np.rint(wav * 32768), -32768, 32767).astype(np.float32)
            wavs[row, : len(wav)] = torch.from_numpy(pcm) / 32768
            lens[row] = len(wav) / length
        device = self.experiment.device
        found = self.network.latent(wavs.to(device), lens.to(device), self.defense.spectrum)
        return found.cpu().numpy()
