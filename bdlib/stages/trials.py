"""The corpora that `pls.py` judges: attacks on a clean corpus and draws from it, as latents."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bdlib.attacks.labels import OneToOne
from bdlib.attacks.poisoner import Poisoner
from bdlib.attacks.trigger import Trigger
from bdlib.defenses.filters.vae_pls.autoencoder import SequentialAutoencoder
from bdlib.defenses.filters.vae_pls.encoder import AT_ONCE, Corpus, encode, error_of, home, trained
from bdlib.defenses.filters.vae_pls.filter import VaePls, no_verdict
from bdlib.defenses.filters.vae_pls.judge import LEAST_CLIPS
from bdlib.errors import InputError
from bdlib.files import digest
from bdlib.pack import Pack, quantised
from bdlib.sampling import share
from bdlib.stages.blind import Blinded
from bdlib.stages.compute import run_options
from bdlib.stages.defend import stamped
from bdlib.stages.document import common
from bdlib.stages.poisoned import Poisoned
from bdlib.stages.recipe import Recipe
from bdlib.stages.record import named

DRAWN = 0.9  # share of every class in a clean draw
WAVEFORMS = ("sample_rate", "seconds", "pad_seconds")  # options that change them


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


@dataclass(frozen=True)
class Bench:
    """A corpus encoded by one autoencoder, and what may happen to it.

    Arguments
    ---------
    recipe : Recipe
        Names the attack and the defense.
    poisoned : Poisoned
        What the autoencoder was trained on, as `defend.py` does.
    defense : VaePls
        What judges.
    network : SequentialAutoencoder
        Trained.
    rows : pd.DataFrame
        The clean training set, without the classes that are not judged.
    pack : Pack
        Its waveforms.
    latents : np.ndarray
        (n, D) of the rows.
    error : float
        Of the network's rebuilding; see `encoder.rebuilding_error`.
    options : dict[str, Any]
        All of SpeechBrain's run options.
    encoded : dict[tuple[str, int, str], np.ndarray]
        Latents of altered clips by attack, its seed and ID, filled as attacks are asked for.
    """

    recipe: Recipe
    poisoned: Poisoned
    defense: VaePls
    network: SequentialAutoencoder
    rows: pd.DataFrame
    pack: Pack
    latents: np.ndarray
    error: float
    options: dict[str, Any]
    encoded: dict[tuple[str, int, str], np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, poisoned: Poisoned) -> "Bench":
        """Train the autoencoder on a poisoned corpus, or load it, and encode the clean one.

        Raises
        ------
        InputError
            If the defense of the recipe does not judge by an autoencoder, or it gives no verdict.
        """
        defense, corpus = recipe.defense.part("defense", object), poisoned.corpus
        if not isinstance(defense, VaePls):
            raise InputError(f"{recipe.defense.path.stem}: give vae_pls or vae_pls_search")
        options, blinded = run_options(recipe.run_options), Blinded.of(poisoned)
        heard = Corpus(blinded.pack, blinded.rows, recipe.seed, options)
        folder = poisoned.output / "filters"
        with stamped(folder):
            network = trained(defense.autoencoder, heard, folder)
        defense.trained_in = home(defense.autoencoder, heard, folder)
        error = error_of(defense.autoencoder, heard, folder)
        if error > defense.most_error:
            raise InputError(no_verdict(error))
        clean = Poisoned.load(corpus.folder, corpus, poisoned.output)
        rows, pack = clean.splits["train"], clean.packs["train"]
        rows = rows[~rows["label"].isin(defense.left_out)].reset_index(drop=True)
        latents = encode(network, Corpus(pack, rows, recipe.seed, options), defense.spectrum)
        return cls(recipe, poisoned, defense, network, rows, pack, latents, error, options)

    @cached_property
    def place(self) -> dict[str, int]:
        """Row number by ID."""
        return {name: number for number, name in enumerate(self.rows["ID"])}

    def identity(self, trial: Trial) -> str:
        """The id of a trial's record: a digest of the corpus judged, and of what judges.

        What the command line says of the waveforms, or holds out, is in it where it says something.
        """
        digest_of_clean = self.poisoned.corpus.about["digest"]
        trained_on = [named(self.poisoned.attack), digest_of_clean, self.recipe.seed]
        given = self.recipe.document.overrides.get("corpus", {})
        other = {name: given[name] for name in WAVEFORMS if name in given}
        if held_out := self.recipe.settings["train"].get("held_out"):
            other["held_out"] = held_out
        trained_on += [other] if other else []
        return digest([named(trial.attack), trial.seed, self.recipe.defense.plain(), trained_on])

    @property
    def classes(self) -> list[str]:
        """Those that can be judged."""
        counts = self.rows["label"].value_counts()
        return sorted(counts.index[counts >= LEAST_CLIPS])

    def attack(
        self, name: str, source_class: str, target: str, rate: float, seed: int | None = None
    ) -> Trial:
        """An attack on the clean corpus; clips altered before are not encoded again.

        The seed draws the clips; by default that of the recipe. Of one seed all targets get the same
        clips of a source class.
        """
        own, document = self.recipe.settings["poison"], self.recipe.attack
        seed = own["poison_seed"] if seed is None else seed
        same = document is not None and name == own["attack"]  # with what the command line changed
        trigger = (document if same else common("attacks", name)).part("trigger", Trigger)
        poisoner = Poisoner(trigger, OneToOne(source_class, target), rate, "source", seed)
        rows, truth = poisoner.poison(self.rows)
        chosen = list(truth.index)
        new = [clip for clip in chosen if (name, seed, clip) not in self.encoded]
        if new:
            latents = self._altered(poisoner, new)
            rows_of = zip(new, latents, strict=True)
            self.encoded.update({(name, seed, clip): row for clip, row in rows_of})
        about = {"name": Path(name).stem, **poisoner.to_dict(), "poisoned": len(chosen)}
        about |= {"source": source_class, "target": target}
        if named(about) != about:  # a sound file, which may change in place
            about["heard"] = poisoner.heard(self.pack.rate)
        return Trial(
            about,
            seed,
            np.arange(len(rows)),
            rows["label"].to_numpy(),
            np.array([self.place[clip] for clip in chosen]),
            np.array([self.encoded[name, seed, clip] for clip in chosen]),
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
        alter = poisoner.alter(clips, self.pack.rate, "train")
        wavs, lens = torch.zeros(len(clips), length), torch.zeros(len(clips))
        for row, name in enumerate(clips):
            pcm = quantised(alter(name, self.pack.waveform(name)))
            wavs[row, : len(pcm)] = torch.from_numpy(pcm.astype(np.float32)) / 32768
            lens[row] = len(pcm) / length
        device = self.options["device"]
        some = zip(wavs.split(AT_ONCE), lens.split(AT_ONCE), strict=True)
        latents = [
            self.network.latent(few.to(device), own.to(device), self.defense.spectrum).cpu()
            for few, own in some
        ]
        return torch.cat(latents).numpy()
