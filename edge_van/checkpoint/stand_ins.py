"""What stands in for the classes and functions that a training framework pickled beside the weights.

In: the names in a pickle (``Pickled``). Out: for each that torch does not read by itself an inert class of ours under
that name. The tensors are all that is needed: numpy's scalars, paths, history buffers are passed over, never built.
"""

from __future__ import annotations

import _compat_pickle
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from edge_van.checkpoint.pickle_guard import Pickled

if TYPE_CHECKING:
    from typing_extensions import Self

_RUN_CODE = frozenset(
    {"code", "ctypes", "importlib", "multiprocessing", "nt", "os", "pickle", "posix", "pty", "runpy", "shutil"}
    | {"socket", "subprocess", "sys", "webbrowser"}
)
"""Modules that no checkpoint has a reason to name. Standing in for them would be as safe, but such a file is an attack
or was made by one, and its user should hear so."""
_PLAIN_BUILTINS = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set"}
    | {"slice", "str", "tuple"}
)


class Skipped:
    """Takes whatever an unpickler does to an object and keeps nothing of it. ``full_name``: what was pickled."""

    full_name = "an object"

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def runs_code(name: str) -> bool:
    """Whether ``module.name`` is one of those that run code, rather than a class of a framework."""
    module, _, last = _python_3(name).rpartition(".")
    return module.split(".")[0] in _RUN_CODE or (module == "builtins" and last not in _PLAIN_BUILTINS)


def stand_ins(pickled: Pickled, read: Collection[str]) -> list[tuple[Callable[..., Any], str]]:
    """(what stands in, full name) of every name but those that run code and those that are ``read`` as they are.

    torch takes its own for the names that it knows itself. What is filled like a list or a dict becomes a plain one:
    an unpickler that restricts itself fills no others.
    """
    made: list[tuple[Callable[..., Any], str]] = []
    for name, kind in pickled.kinds.items():
        full_name = _python_3(name)
        if full_name in read or runs_code(name):
            continue
        stand_in: type[Any] = type("Skipped", (Skipped,), {"full_name": full_name})
        made.append(({"list": _EmptyList, "dict": _EmptyDict}.get(kind, stand_in), full_name))
    return made


class _EmptyList:
    """However it is called, an empty list."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return []


class _EmptyDict:
    """However it is called, an empty dict, of the kind that attributes may be set on."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def _python_3(name: str) -> str:
    """Pickles of protocol 2, torch's, call modules as Python 2 did."""
    module, _, last = name.rpartition(".")
    module, last = _compat_pickle.NAME_MAPPING.get((module, last), (module, last))
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{last}"
