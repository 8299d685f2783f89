"""Settings of the autoencoder of VAE-PLS, whose house is `bdlib.defenses.filters.vae_pls`.

They stand here because the yaml of that defense names them by this path, and what a yaml says is part
of the names of the runs that were made by it.
"""

from dataclasses import dataclass

from bdlib.errors import InputError


@dataclass(frozen=True)
class AutoencoderSettings:
    """The autoencoder of VAE-PLS and its training; see its modules `autoencoder` and `brain`.

    Table 1 of the paper gives f 64, z 24, convolutions 256 (taken as `conv_dim`), hidden 128, the
    rate, and 30 epochs, which are `steps` of some 33,000 clips. The spectrogram, the batch and the
    channels are not in the paper; the public code has batches of 64, and 256 channels, for a GPU.
    """

    n_mels: int = 64
    window: int = 1024
    hop: int = 512
    range_db: float = 80.0
    f_dim: int = 64
    z_dim: int = 24
    conv_dim: int = 256
    hidden: int = 128
    channels: int = 32
    video: bool = False
    factorised: bool = True
    rectified_f: bool = True
    free_prior: bool = True
    fitted_output: bool = False
    f_pooling: str = "ends"
    beta_f: float = 1.0
    beta_z: float = 1.0
    repetition: bool = True
    steps: int = 15500
    batch_size: int = 64
    lr: float = 0.001

    def __post_init__(self) -> None:
        whole = ("n_mels", "window", "hop", "f_dim", "z_dim", "conv_dim", "hidden", "channels")
        for name in (*whole, "steps", "batch_size", "lr", "range_db"):
            if not getattr(self, name) > 0:
                raise InputError(f"`{name}` is {getattr(self, name)}: give more than 0")
