"""How a net was made, as settings from which it can be made again."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

NEW = "!new:"


class Remembering:
    """Knows the arguments that it was made with.

    `made_with` is ``{"()": "!new:" and its class, argument: value}``, as recipes tell it, with others of
    this kind among the values. It is None of classes outside of this library, and where an argument is
    neither plain nor of this kind.
    """

    made_with: dict[str, Any] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _remembering(cls.__init__)


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def wrapped(self: Remembering, *args: Any, **kwargs: Any) -> None:
        if "made_with" not in vars(self):  # else a base class is being called
            vars(self)["made_with"] = _settings(type(self), init, args, kwargs)
        init(self, *args, **kwargs)

    return wrapped


def _settings(
    cls: type, init: Callable[..., None], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    if not cls.__module__.startswith("bdlib."):
        return None
    try:
        given = inspect.signature(init).bind(None, *args, **kwargs).arguments
        values = {name: _plain(value) for name, value in list(given.items())[1:]}
    except TypeError:  # of arguments that do not fit, `init` tells
        return None
    return {"()": f"{NEW}{cls.__module__}.{cls.__qualname__}", **values}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Remembering) and value.made_with:
        return value.made_with
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError
