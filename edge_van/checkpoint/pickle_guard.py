"""Refuses pickles that are small on disk and endless to read: keys whose hash doubles with every level.

In: the pickles of a torch.save file. Out: nothing, or a ``ValueError``. Restricted unpicklers allow tuples of tuples;
t = (t, t) sixty times over takes 600 bytes, and to hash it once takes 2**60 steps in a call that nothing can stop.
"""

from __future__ import annotations

import pickletools
from typing import IO, Any

MAX_VALUES = 100_000
"""Values in one tuple, counted as often as it holds them. A tensor's own has about 20."""
_HASHABLE = frozenset(
    {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"}
)
_MARK = -1


def check_pickle(stream: IO[bytes]) -> None:
    """Follow one pickle up to its end without building anything; ``ValueError`` for a tuple over ``MAX_VALUES``.

    What is no pickle at all is a ``ValueError`` too; ``stream`` stands behind the pickle afterwards.
    """
    stack: list[int] = []  # how many values each entry holds, all repetitions counted
    memo: dict[int, int] = {}
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            _follow(opcode, argument, stack, memo)
    except IndexError:
        raise ValueError("it takes more from its stack than there is") from None


def _follow(opcode: pickletools.OpcodeInfo, argument: Any, stack: list[int], memo: dict[int, int]) -> None:
    name = opcode.name
    if name == "MARK":
        stack.append(_MARK)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[int(argument)] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo.get(int(argument), 1))
    elif name == "DUP":
        stack.append(stack[-1])
    else:
        taken = _take(opcode, stack)
        size = 1 + sum(taken) if name in _HASHABLE else 1
        if size > MAX_VALUES:
            raise ValueError(f"one of its tuples holds over {MAX_VALUES} values")
        stack += [size] * len(opcode.stack_after)


def _take(opcode: pickletools.OpcodeInfo, stack: list[int]) -> list[int]:
    """Pop what the opcode consumes."""
    before, taken = opcode.stack_before, []
    fixed = len(before)
    if pickletools.markobject in before:
        while (size := stack.pop()) != _MARK:
            taken.append(size)
        fixed = before.index(pickletools.markobject)
    taken += [stack.pop() for _ in range(fixed)]
    return taken
