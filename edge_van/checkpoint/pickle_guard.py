"""Follows a pickle without building anything: refuses one that is endless, and lists what it would build.

In: the pickles of a torch.save file. Out: the names of the classes and functions in it and what is done with each, or a
``ValueError``. Endless: restricted unpicklers allow tuples of tuples; t = (t, t) sixty times over takes 600 bytes, and
to hash it once takes 2**60 steps in a call that nothing can stop. Nor may the few functions that are let through be
given what they would fill the memory with.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import IO, Any, cast

MAX_VALUES = 100_000
"""Values in one tuple, counted as often as it holds them. A tensor's own has about 20."""
MAX_HELD = 10_000_000
"""The same of a list or a dict, which cannot be hashed, but shown in a message."""
MAX_INSTRUCTIONS = 2_000_000
"""Some eight seconds of reading. b6 with its average and an optimizer's two moments has 150,000."""
MAX_LOOKUPS = 20_000_000
"""Names times objects: torch makes a list of all the names it was allowed at every object."""
_HASHABLE = frozenset(
    {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"}
)
_BUILT = frozenset({"REDUCE", "NEWOBJ", "NEWOBJ_EX"})
_FILLED = {"APPEND": "list", "APPENDS": "list", "SETITEM": "dict", "SETITEMS": "dict", "ADDITEMS": "set"}
_FEW = 8
_BYTES = frozenset({"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "SHORT_BINSTRING", "BINSTRING", "STRING"})


class PickleLimitError(ValueError):
    """A pickle that is sound, perhaps, and more than is read."""


@dataclass(frozen=True)
class Pickled:
    """What a pickle names: ``module.name`` of each class or function, and what its objects are filled as.

    ``"object"`` for one that is only made; ``"list"``, ``"dict"`` and ``"set"`` where values are put into it
    afterwards. ``built`` counts the objects and the times that a class is named.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    built: int = 0

    def merged(self, other: Pickled) -> Pickled:
        """Both; a filled kind stands over an object."""
        kinds = dict(self.kinds)
        for name, kind in other.kinds.items():
            if kinds.get(name, "object") == "object":
                kinds[name] = kind
        return Pickled(kinds, self.built + other.built)


@dataclass(slots=True)
class _Value:
    """One entry of the stack, the same one wherever the memo puts it: how many values it holds, all repetitions
    counted, and by which name it was made."""

    size: int = 1
    name: str | None = None  # of a class or function itself, or of an object made by it
    is_class: bool = False
    text: str | None = None  # of a string
    is_bytes: bool = False
    items: tuple[_Value, ...] | None = None  # of a short tuple


_MARK = _Value(-1)
_PLAIN = frozenset(
    opcode.name
    for opcode in pickletools.opcodes
    if not opcode.stack_before
    and len(opcode.stack_after) == 1
    and opcode.stack_after[0] not in (pickletools.pyunicode, pickletools.markobject, pickletools.anyobject)
)
"""Opcodes that only push a value of their own: numbers, bytes, empty containers."""


def check_pickle(stream: IO[bytes]) -> Pickled:
    """Follow one pickle up to its end; ``PickleLimitError`` for one that is endless or too long to be read.

    What is no pickle at all, or names more bytes than there are, is a ``ValueError``; ``stream`` stands behind the
    pickle afterwards.
    """
    walk = _Walk()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], _Bounded(stream))), 1):
            if count > MAX_INSTRUCTIONS:
                raise PickleLimitError(f"it holds over {MAX_INSTRUCTIONS:,} pickle instructions")
            walk.follow(opcode, argument)
    except IndexError:
        raise ValueError("it takes more from its stack than there is") from None
    if len(walk.kinds) * walk.built > MAX_LOOKUPS:
        raise PickleLimitError(f"it builds {walk.built:,} objects of {len(walk.kinds):,} classes")
    return Pickled(walk.kinds, walk.built)


class _Bounded:
    """A seekable stream that is never asked for more than it has: a length of 2**40 would be reserved first."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        at = stream.tell()
        self._end = stream.seek(0, 2)
        stream.seek(at)

    def read(self, size: int) -> bytes:
        if size > 64 and size > (left := self._end - self._stream.tell()):
            raise ValueError(f"a value claims {size} bytes where {left} are left")
        return self._stream.read(size)

    def readline(self) -> bytes:
        return self._stream.readline()


class _Walk:
    def __init__(self) -> None:
        self.stack: list[_Value] = []
        self.memo: dict[int, _Value] = {}
        self.kinds: dict[str, str] = {}
        self.built = 0

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        name, stack = opcode.name, self.stack
        if name in _PLAIN:
            stack.append(_Value(is_bytes=name in _BYTES, items=() if name == "EMPTY_TUPLE" else None))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo.get(int(argument)) or _Value())
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "GLOBAL":
            stack.append(self._named(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            last, module = stack.pop(), stack.pop()
            stack.append(self._named(f"{module.text}.{last.text}"))
        elif isinstance(argument, str) and opcode.stack_after == [pickletools.pyunicode]:
            stack.append(_Value(text=argument))
        else:
            self._compute(opcode, name)

    def _named(self, name: str) -> _Value:
        self.kinds.setdefault(name, "object")
        self.built += 1
        return _Value(name=name, is_class=True)

    def _compute(self, opcode: pickletools.OpcodeInfo, name: str) -> None:
        """Pop what the opcode consumes, push what it leaves: an object keeps the name of what made or filled it."""
        taken = _take(opcode, self.stack)
        if name in _FILLED or name == "BUILD":
            filled = taken[-1]
            filled.size += sum(value.size for value in taken[:-1])
            if filled.size > MAX_HELD:
                raise PickleLimitError(f"one of its values holds over {MAX_HELD:,} others")
            if filled.name is not None and name in _FILLED:
                self.kinds[filled.name] = _FILLED[name]
            self.stack.append(filled)
            return
        made = _Value()
        if name in _HASHABLE:
            made.size += sum(value.size for value in taken)
            if made.size > MAX_VALUES and not (name in _BUILT and made.size <= MAX_HELD):
                raise PickleLimitError(f"one of its tuples holds over {MAX_VALUES} values")
            if name.startswith("TUPLE") and len(taken) <= _FEW:
                made.items = tuple(reversed(taken))
        if name in _BUILT:
            self.built += 1
            made.name = taken[-1].name
            _check_call(taken[-1], taken[-2].items)
        self.stack += [made] * len(opcode.stack_after)


def _check_call(function: _Value, arguments: tuple[_Value, ...] | None) -> None:
    """What is called is a class or function by its name, and none of those that make much of little."""
    if not function.is_class or function.name is None:
        raise ValueError("it calls what is no class or function")
    name, given = function.name, arguments or ()
    if name.endswith("builtin__.bytearray") or name == "builtins.bytearray":  # of a number: as many zeros
        sound = all(value.text is not None or value.is_bytes for value in given)
    elif name == "_codecs.encode":  # "hex" doubles what it is given
        sound = len(given) == 2 and given[0].text is not None and given[1].text == "latin1"
    elif name.startswith("torch.") and name.endswith(("Tensor", "Storage")):  # of numbers: of those sides
        sound = not given
    else:
        return
    if not sound or arguments is None:
        raise ValueError(f"it calls {name} with what no checkpoint gives it")


def _take(opcode: pickletools.OpcodeInfo, stack: list[_Value]) -> list[_Value]:
    """Pop what the opcode consumes, the top first."""
    before, taken = opcode.stack_before, []
    fixed = len(before)
    if pickletools.markobject in before:
        while (value := stack.pop()) is not _MARK:
            taken.append(value)
        fixed = before.index(pickletools.markobject)
    taken += [stack.pop() for _ in range(fixed)]
    return taken
