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
from bdlib.defenses.filters.vae_pls.brain import (
    AutoencoderBrain,
    EvidenceBound,
    flat,
    write_examples,
)
from bdlib.errors import InputError
from bdlib.features import ScaledFbank
from bdlib.files import alone, digest, read_json, seed_of
from bdlib.pack import Pack
from bdlib.sampling import share
from bdlib.seals import unsealed, write_sealed
from bdlib.training.autoencoder import AutoencoderSettings
from bdlib.training.checkpoints import kept_files
from bdlib.training.classifier_brain import Training, fit, load
from bdlib.training.options import USUAL
from bdlib.training.schedule import Constant

WATCHED = 0.1  # share of every class whose loss tells which epoch was best
AT_ONCE = 256  # clips encoded in one batch
ERROR = "rebuilding_error"


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
        watched = corpus.batches(share(rows, WATCHED, corpus.seed), AT_ONCE)
        drawn = corpus.batches(rows, settings.batch_size, train=True)
        how = training(settings, len(drawn))
        print(f"training {place.name} on {len(rows)} clips for {how.number_of_epochs} epochs")
        # The bound sums over 32 frames and three colours of 64 by 64 points: too many for bfloat16.
        # What else a classifier's training may be told is no setting of an autoencoder.
        options = corpus.seed, corpus.run_opts | USUAL, AutoencoderBrain
        network = fit(network, how, drawn, watched, place, *options)
        write_examples(network, next(iter(watched)), place, seed_of("examples", corpus.seed))
        done = {"clips": len(rows), ERROR: rebuilding_error(network, corpus)}
        about = dataclasses.asdict(settings) | done
        write_sealed(place / "done.json", about, kept_files(place))
    return network


@torch.no_grad()
def rebuilding_error(network: SequentialAutoencoder, corpus: Corpus) -> float:
    """Squared error of the rebuilt spectrograms of a corpus, as a share of their variance.

    By the means of the latents. 1 is what the mean of all points would leave: an autoencoder above
    it has not learned what a clip is.
    """
    network.eval()
    sums = torch.zeros(4, dtype=torch.float64)
    for batch in corpus.batches(corpus.rows, AT_ONCE):
        bins = network.features(batch.wavs, batch.lens)
        error = (flat(network(bins).rebuilt) - bins).double()
        parts = error.square().sum(), bins.double().sum(), bins.double().square().sum()
        sums += torch.stack([*parts, parts[0].new_tensor(bins.numel())]).cpu()
    error, mean, square, _ = (sums / sums[3]).tolist()
    return error / (square - mean**2)


def error_of(settings: AutoencoderSettings, corpus: Corpus, folder: Path) -> float:
    """The `rebuilding_error` of an autoencoder that was trained."""
    path = home(settings, corpus, folder) / "done.json"
    return unsealed(path, read_json(path, (ERROR,)))[ERROR]


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
        *(settings.fitted_output, settings.f_pooling),
    )


def training(settings: AutoencoderSettings, batches: int) -> Training:
    """How it is trained: Adam at one rate, gradients as they are.

    For whole epochs of so many batches, as many as the steps need.
    """
    epochs = -(-settings.steps // batches)
    return Training(
        epochs,
        settings.batch_size,
        partial(torch.optim.Adam, lr=settings.lr),
        patience=epochs,
        warmup_epochs=0,
        max_grad_norm=float("inf"),
        schedule=Constant(settings.lr),
        loss=EvidenceBound(settings.beta_f, settings.beta_z, settings.repetition),
    )
