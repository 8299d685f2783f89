"""What a module, a loss or any function computes with, told alike in every process.

By it a training is known again. Of code that a person wrote all is looked at: what it closes over, its
default arguments, attributes of its classes, and the functions and values that it refers to by name.
What is installed is looked at as far as it is handed over.
"""

import dis
import functools
import hashlib
import re
import sys
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bdlib.files import digest, file_digest

PLAIN = bool, int, float, complex, str, bytes, type(None), type(...)
VERSIONED = "torch", "numpy"
"""Packages whose code is that of a version, which nobody edits between two trainings."""
OURS = "bdlib"
INSTALLED = {"site-packages", "dist-packages"}
INNER = {*vars(nn.Module()), "training"}
"""Attributes of every module: tensors, parts and hooks, which are told by themselves, and its mode, which is not."""
WRAPPING = staticmethod, classmethod
GLOBAL = "LOAD_GLOBAL", "LOAD_NAME"
Seen = dict[int, tuple[int, Any]]
UNTOLD = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__firstlineno__",
          "__static_attributes__", "__dataclass_fields__", "__dataclass_params__", "_abc_impl"}  # fmt: skip


def made_of(what: Any) -> str:
    """Digest of what a module, a function or a value computes with.

    Two that compute differently have different ones, as far as Python code and its values tell it apart:
    what a compiled object hides within is not seen.
    """
    return digest(_told(what, {}))


def named(loss: Any) -> str:
    """A loss by its name and `made_of`, the same in every process."""
    inner = loss
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{getattr(inner, '__module__', '')}.{name} {made_of(loss)[:6]}"


def _told(what: Any, seen: Seen) -> Any:
    """As plain data; `seen` holds what was told before and as which, so that circles end."""
    if isinstance(what, PLAIN):
        return repr(what)
    if not isinstance(what, tuple | frozenset):  # of which nobody can tell whether two are one
        if id(what) in seen:
            return f"as {seen[id(what)][0]}"
        seen[id(what)] = len(seen), what
    for kind, tell in TELLERS.items():
        if isinstance(what, kind):
            return [tell.__name__, tell(what, seen)]
    return _object(what, seen)


def _tensor(what: Tensor, seen: Seen) -> Any:
    dense = what.detach() if what.layout == torch.strided else what.detach().to_dense()
    flat = dense.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy().tobytes()
    kind = str(what.dtype), list(what.shape), what.requires_grad
    return [*kind, hashlib.sha256(raw).hexdigest()]


def _array(what: np.ndarray, seen: Seen) -> Any:
    if what.dtype.hasobject:
        return _told(what.tolist(), seen)
    return [str(what.dtype), list(what.shape), hashlib.sha256(what.tobytes()).hexdigest()]


def _items(what: Any, seen: Seen) -> Any:
    return [[_told(value, seen) for value in what], _subclass(what, seen)]


def _in_any_order(what: Any, seen: Seen) -> Any:
    """Nothing of one is told as another's: in each process they have another order."""
    return [sorted(str(_told(value, dict(seen))) for value in what), _subclass(what, seen)]


def _pairs(what: dict[Any, Any], seen: Seen) -> Any:
    told = [[_told(key, seen), _told(value, seen)] for key, value in what.items()]
    return [told, _subclass(what, seen)]


def _subclass(what: Any, seen: Seen) -> Any:
    """What a list, tuple, set or dict of another class has besides its items."""
    if type(what) in (list, tuple, set, frozenset, dict):
        return ""
    return [_told(type(what), seen), _told(getattr(what, "__dict__", None), seen)]


def _draws(what: Any, seen: Seen) -> Any:
    """Where a source of random numbers stands."""
    return _told(
        what.get_state() if isinstance(what, torch.Generator) else what.bit_generator.state, seen
    )


def _partial(what: functools.partial, seen: Seen) -> Any:
    return [_told(part, seen) for part in (what.func, what.args, what.keywords)]


def _method(what: MethodType, seen: Seen) -> Any:
    return [_told(what.__func__, seen), _told(what.__self__, seen)]


def _property(what: property, seen: Seen) -> Any:
    return [_told(part, seen) for part in (what.fget, what.fset)]


def _wrapping(what: Any, seen: Seen) -> Any:
    return _told(what.__func__, seen)


def _python_module(what: ModuleType, seen: Seen) -> Any:
    own = _owner(what.__name__) == "own" and getattr(what, "__file__", None)
    return [what.__name__, file_digest(what.__file__) if own else ""]


def _function(what: FunctionType, seen: Seen) -> Any:
    """Code, what it closes over, defaults, attributes (what it wraps is one), and what it names."""
    owner = _owner(what.__globals__.get("__name__"))
    if owner == "versioned":
        inner = _told(getattr(what, "__wrapped__", None), seen)
        return [what.__module__, what.__qualname__, what.__code__.co_name, inner]
    held = [cell.cell_contents for cell in what.__closure__ or () if _filled(cell)]
    given = [what.__defaults__, what.__kwdefaults__, held, vars(what)]
    used = _reached(what.__globals__, what.__code__, seen) if owner == "own" else ""
    return [_code(what.__code__), _told(given, seen), used]


def _reached(place: dict[str, Any], code: CodeType, seen: Seen) -> Any:
    """The globals that a code names, and of a person's own modules among them what it names of these."""
    attributes = {name for part in _codes(code) for name in part.co_names}
    entered: set[str] = set()  # modules may name each other

    def told(value: Any) -> Any:
        if not isinstance(value, ModuleType) or _owner(value.__name__) != "own":
            return _told(value, seen)
        if value.__name__ in entered:
            return value.__name__
        entered.add(value.__name__)
        inner = sorted(attributes & {*vars(value)})
        return [value.__name__, [[name, told(vars(value)[name])] for name in inner]]

    looked_up = (i for part in _codes(code) for i in dis.get_instructions(part))
    names = {i.argval for i in looked_up if i.opname in GLOBAL}
    return [[name, told(place[name])] for name in sorted(names) if name in place]


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # of a function that is not made yet
        return False


def _codes(code: CodeType) -> list[CodeType]:
    """A code and those within it."""
    inner = [_codes(value) for value in code.co_consts if isinstance(value, CodeType)]
    return [code, *(part for parts in inner for part in parts)]


def _code(code: CodeType) -> Any:
    """A code and those within it; without its lines and files."""
    constants = [
        _code(value) if isinstance(value, CodeType)
        else sorted(map(repr, value)) if isinstance(value, frozenset)  # in any order in a process
        else repr(value)
        for value in code.co_consts
    ]  # fmt: skip
    return [code.co_code.hex(), code.co_names, constants]


def _class(what: type, seen: Seen) -> Any:
    """Its code, and if it is a person's own the values of its attributes."""
    owner, name = _owner(what.__module__), f"{what.__module__}.{what.__qualname__}"
    if owner == "versioned":
        return name
    told = {key: value for key, value in vars(what).items() if key not in UNTOLD}
    if owner == "installed":
        told = {k: v for k, v in told.items() if isinstance(v, (FunctionType, property, *WRAPPING))}
    return [name, _told(list(what.__bases__), seen), _told(told, seen)]


def _module(what: nn.Module, seen: Seen) -> Any:
    every = {"remove_duplicate": False}  # what is in two places is told as there already
    tensors = dict([*what.named_parameters(**every), *what.named_buffers(**every)])
    parts = []
    for name, part in what.named_modules(**every):
        if isinstance(part, torch.jit.ScriptModule):  # tells its code itself
            parts.append([name, getattr(part, "code", "")])
            continue
        own = _owner(type(part).__module__) == "own"
        held = {k: v for k, v in vars(part).items() if k not in INNER and (own or k[0] != "_")}
        hooks = [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]
        parts.append([name, type(part), held, hooks])
    return [_placeless(str(what)), _told(tensors, seen), _told(parts, seen)]


def _object(what: Any, seen: Seen) -> Any:
    """Its class and attributes; of Python's and torch's its text, and what it wraps."""
    kind = type(what)
    if _owner(kind.__module__) == "versioned":
        inner = getattr(what, "__wrapped__", getattr(what, "func", None))
        return [
            f"{kind.__module__}.{kind.__qualname__}",
            _placeless(repr(what)),
            _told(inner, seen),
        ]
    slots = [vars(base).get("__slots__", ()) for base in kind.__mro__]
    names = [name for some in slots for name in ([some] if isinstance(some, str) else some)]
    held = {name: getattr(what, name) for name in names if hasattr(what, name)}
    return [_told(kind, seen), _told(held | getattr(what, "__dict__", {}), seen)]


def _owner(module: str | None) -> str:
    """Whose code a module is: `versioned` (Python's and torch's), `installed`, or a person's `own`."""
    top = (module or "").partition(".")[0]
    if top in VERSIONED or top in sys.stdlib_module_names:
        return "versioned"
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    return "installed" if top == OURS or INSTALLED & {*Path(file).parts} else "own"


def _placeless(text: str) -> str:
    """Without addresses in memory and the files that it comes from."""
    return re.sub(r" at 0x[0-9a-fA-F]+(, file [^>]*)?", "", text)


TELLERS = {
    Tensor: _tensor,
    np.ndarray: _array,
    (torch.Generator, np.random.Generator): _draws,
    nn.Module: _module,
    dict: _pairs,
    (list, tuple): _items,
    (set, frozenset): _in_any_order,
    functools.partial: _partial,
    MethodType: _method,
    FunctionType: _function,
    property: _property,
    WRAPPING: _wrapping,
    type: _class,
    ModuleType: _python_module,
}
