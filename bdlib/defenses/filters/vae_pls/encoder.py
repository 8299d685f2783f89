"""From settings to the latents of a corpus: an autoencoder, trained once and then kept."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import speechbrain as sb
import torch

from bdlib.corpus import Batches
from bdlib.defenses.filters.vae_pls.autoencoder import SequentialAutoencoder
from bdlib.defenses.filters.vae_pls.brain import AutoencoderBrain, EvidenceBound, write_examples
from bdlib.errors import InputError
from bdlib.features import ScaledFbank
from bdlib.files import alone, digest, seed_of, write_json
from bdlib.pack import Pack
from bdlib.sampling import share
from bdlib.training.autoencoder import AutoencoderSettings
from bdlib.training.classifier_brain import Training, fit, load
from bdlib.training.schedule import Constant

WATCHED = 0.1  # share of every class whose loss tells which epoch was best
AT_ONCE = 256  # clips encoded in one batch


@dataclass(frozen=True)
class Corpus:
    """Clips that an autoencoder is trained on, whole; the longest sets the length of all.

    Arguments
    ---------
    pack : Pack
        Waveforms.
    rows : pd.DataFrame
        Columns `ID` and `label`; the labels only spread the watched clips over the classes.
    seed : int
        Of the training.
    run_opts : dict[str, Any]
        SpeechBrain's run options.
    """

    pack: Pack
    rows: pd.DataFrame
    seed: int
    run_opts: dict[str, Any]

    def batches(self, rows: pd.DataFrame, size: int, train: bool = False) -> Batches:
        """Batches of rows, drawn for training or in order."""
        seconds = float(np.diff(self.pack.offsets).max()) / self.pack.rate
        return Batches(
            *(self.pack, rows, sorted(set(rows["label"])), size, seconds),
            *(self.seed if train else None, str(self.run_opts["device"])),
        )


def trained(settings: AutoencoderSettings, corpus: Corpus, folder: Path) -> SequentialAutoencoder:
    """Train an autoencoder, go on with an interrupted training, or load what stands.

    A tenth of the clips is watched, not held out: their loss chooses the epoch.

    Arguments
    ---------
    settings : AutoencoderSettings
        What.
    corpus : Corpus
        On what.
    folder : Path
        Gets a folder of its own in it, named after all that determines the training.

    Raises
    ------
    InputError
        If the training diverges, or there is less than one batch.
    """
    if corpus.run_opts.get("distributed_launch"):
        raise InputError("the autoencoder is trained by one process; start without torchrun")
    place = home(settings, corpus, folder)
    sb.utils.seed.seed_everything(corpus.seed)
    network = untrained(settings, corpus.pack.rate)
    with alone(place):
        if (place / "done.json").exists():
            print(f"stands: {place}")
            return load(network, place).to(corpus.run_opts["device"])
        rows = corpus.rows
        print(f"training {place.name} on {len(rows)} clips")
        watched = corpus.batches(share(rows, WATCHED, corpus.seed), AT_ONCE)
        data = corpus.batches(rows, settings.batch_size, train=True), watched
        options = corpus.seed, corpus.run_opts, AutoencoderBrain
        network = fit(network, training(settings), *data, place, *options)
        write_examples(network, next(iter(watched)), place, seed_of("examples", corpus.seed))
        write_json(place / "done.json", dataclasses.asdict(settings) | {"clips": len(rows)})
    return network


def home(settings: AutoencoderSettings, corpus: Corpus, folder: Path) -> Path:
    """The folder of a training: its name is a digest of settings, clips, waveforms and seed."""
    about = [dataclasses.asdict(settings), corpus.rows[["ID", "label"]].to_dict("list")]
    return Path(folder) / f"autoencoder-{digest([*about, corpus.pack.digest, corpus.seed], 8)}"


@torch.no_grad()
def encode(network: SequentialAutoencoder, corpus: Corpus, spectrum: bool = False) -> np.ndarray:
    """Latents (n, D) of the rows of a corpus, in their order; a batch at a time.

    See `SequentialAutoencoder.latent` for `spectrum`.
    """
    network.eval()
    batches = corpus.batches(corpus.rows, AT_ONCE)
    latents = [network.latent(batch.wavs, batch.lens, spectrum) for batch in batches]
    return torch.cat(latents).cpu().numpy()


def untrained(settings: AutoencoderSettings, sample_rate: int) -> SequentialAutoencoder:
    """The autoencoder of some settings, with weights just drawn."""
    front_end = ScaledFbank(
        settings.n_mels, sample_rate, settings.window, settings.hop, settings.range_db
    )
    return SequentialAutoencoder(
        front_end,
        *(settings.f_dim, settings.z_dim, settings.conv_dim, settings.hidden, settings.channels),
        *(settings.video, settings.factorised, settings.rectified_f, settings.free_prior),
        settings.fitted_output,
    )


def training(settings: AutoencoderSettings) -> Training:
    """How it is trained: Adam at one rate, for all epochs, gradients as they are."""
    return Training(
        settings.number_of_epochs,
        settings.batch_size,
        partial(torch.optim.Adam, lr=settings.lr),
        patience=settings.number_of_epochs,
        warmup_epochs=0,
        max_grad_norm=float("inf"),
        schedule=Constant(settings.lr),
        loss=EvidenceBound(settings.beta_f, settings.beta_z, settings.repetition),
    )
