"""A CUDA device that is not there: shapes, types and devices are followed, values are not.

Tensors on `cuda:0` are PyTorch's fake ones, which raise where devices mix; those on the CPU are real.
"""

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = "cuda:0"
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
RECURSION = torch.ops.torchaudio._lfilter_core_loop.default  # of a filter, a kernel on a GPU


class NoDevice(TorchDispatchMode):
    """Routes what touches `cuda:0` to fake tensors, and counts where the CPU waits for a value."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake, self.waits = fake, []
        self.generator = torch.Generator().manual_seed(0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """See the class."""
        kwargs = kwargs or {}
        flat = tree_flatten((args, kwargs))[0]
        tensors = [x for x in flat if isinstance(x, torch.Tensor)]
        fakes = [x for x in tensors if isinstance(x, FakeTensor)]
        asked = kwargs.get("device")
        if not fakes and (asked is None or torch.device(asked).type != "cuda"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            return self._read(func, 0.5 if args[0].is_floating_point() else 0)
        if func is aten.equal.default:
            return self._read(func, False)
        if func is RECURSION:
            return args[2]
        if func is aten.index.Tensor:  # a mask is taken as if all of it were true
            args = (args[0], [self._places(func, x) for x in args[1]])
        if func not in COPIES and any(x.dim() for x in tensors if not isinstance(x, FakeTensor)):
            raise RuntimeError(f"{func}: a tensor of the CPU among those of {DEVICE}")
        return tree_map_only(
            FakeTensor, lambda x: self._landed(func, x), self._run(func, args, kwargs)
        )

    def _run(self, func, args, kwargs):
        if func is aten.copy_.default and not isinstance(args[0], FakeTensor):  # to the CPU
            self._read(func, None)
            return args[0]
        with self.fake:
            args, kwargs = tree_map_only(torch.Tensor, self._faked, (args, kwargs))
            return func(*args, **kwargs)

    def _places(self, func, chosen):
        """A mask (n,) among indices as the numbers of its places, which the CPU must count."""
        if chosen is None or chosen.dtype is not torch.bool:
            return chosen
        return self._read(func, torch.arange(len(chosen), device=DEVICE))

    def _faked(self, x):
        """A tensor of the CPU as the fake mode takes it; numbers are known to be such as they are."""
        if isinstance(x, FakeTensor) or not x.dim():
            return x
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)

    def _landed(self, func, made):
        """What came to the CPU is real: noise, or zeros of whole numbers."""
        if made.device.type == "cuda":
            return made
        self._read(func, None)
        with unset_fake_temporarily():
            drawn = torch.randn(made.shape, generator=self.generator)
            return (drawn if made.is_floating_point() else torch.zeros(made.shape)).to(made.dtype)

    def _read(self, func, value):
        self.waits.append(str(func))
        return value


def leaves(node, seen):
    """Tensors at which the graph of a node ends."""
    stack = [node]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        stack += [following for following, _ in node.next_functions]


def backward(self, *args, **kwargs):
    """`Tensor.backward` that asks no driver: gradients of the shapes of what they are of."""
    for leaf in leaves(self.grad_fn, set()):
        leaf.grad = torch.empty_like(leaf)


def grad(outputs, inputs, *args, **kwargs):
    """`torch.autograd.grad`, likewise; zeros of the graph where it is to be differentiated again."""
    inputs = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
    if not outputs.requires_grad:
        raise RuntimeError("no graph leads to the output")
    return tuple(
        outputs.sum() * torch.empty_like(x) if kwargs.get("create_graph") else torch.empty_like(x)
        for x in inputs
    )


def to(module, *args, **kwargs):
    """`Module.to`, without exchanging parameters that are there already, which fake ones refuse."""
    device = torch._C._nn._parse_to(*args, **kwargs)[0]
    there = {x.device for x in (*module.parameters(), *module.buffers())}
    return (
        module if device is None or there <= {torch.device(device)} else TO(module, *args, **kwargs)
    )


TO = torch.nn.Module.to


@pytest.fixture
def cuda(monkeypatch) -> Iterator[NoDevice]:
    """The device; `waits` lists the operations by which the CPU read from it."""
    for place, name, value in (
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (torch.cuda, "is_available", lambda: False),  # a recording asks for a driver
        (torch.cuda, "is_bf16_supported", lambda *a, **k: True),
        (torch.cuda, "set_device", lambda device: None),
        (torch.cuda, "get_rng_state", lambda device="cuda": torch.zeros(16, dtype=torch.uint8)),
        (torch.cuda, "set_rng_state", lambda state, device="cuda": None),
        (torch.Tensor, "backward", backward),
        (torch.autograd, "grad", grad),
        (torch.nn.Module, "to", to),
    ):
        monkeypatch.setattr(place, name, value)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.backends.cudnn.flags(enabled=False), fake, NoDevice(fake) as mode:
        yield mode
