"""An autoencoder of clips, from its settings to the latents of a corpus; trained once, then kept."""

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
from bdlib.errors import InputError
from bdlib.features import ScaledFbank
from bdlib.files import alone, digest, seed_of, write_json
from bdlib.models.dsa import SequentialAutoencoder
from bdlib.pack import Pack
from bdlib.sampling import share
from bdlib.training.classifier_brain import Training, fit, load
from bdlib.training.dsa_brain import AutoencoderBrain, EvidenceBound, write_examples
from bdlib.training.schedule import Constant

WATCHED = 0.1  # share of every class whose loss tells which epoch was best
AT_ONCE = 256  # clips encoded in one batch


@dataclass(frozen=True)
class AutoencoderSettings:
    """The autoencoder of VAE-PLS and its training; see `SequentialAutoencoder`, `EvidenceBound`.

    Table 1 of the paper gives f 64, z 24, convolutions 256 (taken as `conv_dim`), hidden 128, 30
    epochs, and the rate. The spectrogram, the batch and the channels are not in the paper; the
    public code has 256 channels and batches of 64.
    """

    n_mels: int = 64
    window: int = 1024
    hop: int = 512
    range_db: float = 80.0
    f_dim: int = 64
    z_dim: int = 24
    conv_dim: int = 256
    hidden: int = 128
    channels: int = 256
    video: bool = False
    factorised: bool = True
    rectified_f: bool = True
    free_prior: bool = True
    fitted_output: bool = False
    beta_f: float = 1.0
    beta_z: float = 1.0
    repetition: bool = True
    number_of_epochs: int = 30
    batch_size: int = 64
    lr: float = 0.001

    def __post_init__(self) -> None:
        whole = ("n_mels", "window", "hop", "f_dim", "z_dim", "conv_dim", "hidden", "channels")
        for name in (*whole, "number_of_epochs", "batch_size", "lr", "range_db"):
            if not getattr(self, name) > 0:
                raise InputError(f"autoencoder: {name}={getattr(self, name)}; give more than 0")

    def network(self, sample_rate: int) -> SequentialAutoencoder:
        """An untrained autoencoder."""
        front_end = ScaledFbank(self.n_mels, sample_rate, self.window, self.hop, self.range_db)
        return SequentialAutoencoder(
            front_end,
            *(self.f_dim, self.z_dim, self.conv_dim, self.hidden, self.channels),
            *(self.video, self.factorised, self.rectified_f, self.free_prior),
            self.fitted_output,
        )

    def training(self) -> Training:
        """How it is trained: Adam at one rate, for all epochs, gradients as they are."""
        return Training(
            self.number_of_epochs,
            self.batch_size,
            partial(torch.optim.Adam, lr=self.lr),
            patience=self.number_of_epochs,
            warmup_epochs=0,
            max_grad_norm=float("inf"),
            schedule=Constant(self.lr),
            loss=EvidenceBound(self.beta_f, self.beta_z, self.repetition),
        )


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
    network = settings.network(corpus.pack.rate)
    with alone(place):
        if (place / "done.json").exists():
            print(f"stands: {place}")
            return load(network, place).to(corpus.run_opts["device"])
        rows = corpus.rows
        print(f"training {place.name} on {len(rows)} clips")
        watched = corpus.batches(share(rows, WATCHED, corpus.seed), AT_ONCE)
        data = corpus.batches(rows, settings.batch_size, train=True), watched
        options = corpus.seed, corpus.run_opts, AutoencoderBrain
        network = fit(network, settings.training(), *data, place, *options)
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
    found = [network.latent(batch.wavs, batch.lens, spectrum) for batch in batches]
    return torch.cat(found).cpu().numpy()
