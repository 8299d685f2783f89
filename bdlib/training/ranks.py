"""Several processes of one training: what they share, and what each has of its own.

The rank of a process is its number; alone it is 0 of 1. Gradients are averaged by torch's
`DistributedDataParallel`, started by ``torchrun``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from bdlib.errors import InputError
from bdlib.features import summed


def rank() -> int:
    """The number of this process."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def averaged(value: Tensor, device: torch.device | str) -> Tensor:
    """The mean of a number over all processes, on the CPU; `device` is that of the training."""
    return summed(value.to(device)).cpu() / size() if size() > 1 else value


def bare(module: nn.Module) -> nn.Module:
    """A module without what averages its gradients, for passes that have none for parameters."""
    return module.module if isinstance(module, DistributedDataParallel) else module


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradient for the parameters of a module: a compiled one would compute them all."""
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def save_own(module: nn.Module, path: Path) -> None:
    """Write the state of this process's module into the one checkpoint of all."""
    torch.save(module.state_dict(), _own(path))


def load_own(module: nn.Module, path: Path, end_of_epoch: bool) -> None:
    """Read what `save_own` wrote.

    Raises
    ------
    InputError
        If the checkpoint is of fewer processes.
    """
    if not _own(path).exists():
        raise InputError(
            f"{path.parent}: is of {len(list(path.parent.glob(f'{path.stem}.*')))} processes, not "
            f"{size()}; go on with as many, or delete {path.parents[2]} and train again"
        )
    module.load_state_dict(torch.load(_own(path), map_location="cpu", weights_only=True))


def _own(path: Path) -> Path:
    return path.with_suffix(f".rank{rank()}") if rank() else path


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the statistics of all processes, on a CPU.

    `nn.SyncBatchNorm` does it on GPUs alone. Every process has a batch of the same shape.
    """

    @classmethod
    def convert(cls, module: nn.Module) -> nn.Module:
        """A module with this in place of each batch normalisation; names stay."""
        for name, part in module.named_children():
            setattr(module, name, cls.convert(part))
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            return module
        made = cls(module.num_features, module.eps, module.momentum, module.affine)
        made._parameters, made._buffers = module._parameters, module._buffers
        return made

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to the same shape."""
        shape = [1, -1, *[1] * (x.dim() - 2)]
        mean, variance = self.running_mean, self.running_var
        if self.training:
            count = size() * x.numel() // x.shape[1]
            mean = _everywhere(x) / count
            variance = _everywhere((x - mean.view(shape)).square()) / count
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * count / (count - 1), self.momentum)
                self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (x - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)


def _everywhere(x: Tensor) -> Tensor:
    """Sum of (B, C, ...) over all but C, and over the processes, with its gradient: (C,)."""
    return all_reduce(x.transpose(0, 1).flatten(1).sum(1))
