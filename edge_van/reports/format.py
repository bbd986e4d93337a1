"""Figures as text, the same on the page, in Markdown and on the terminal.

In: numbers. Out: short strings; a minus is the typographic one, so that columns of signed figures line up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from edge_van.bundle.records import Interval
from edge_van.text import one_line

MINUS = "\N{MINUS SIGN}"
ABSENT = "\N{EN DASH}"


def number(value: float | None, digits: int = 2) -> str:
    """``value`` with thousands set apart; a dash for None."""
    return ABSENT if value is None else f"{value:,.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """With its sign; what rounds to zero has none."""
    if value is None:
        return ABSENT
    text = f"{value:+,.{digits}f}"
    return text[1:] if float(text.replace(",", "")) == 0.0 else text.replace("-", MINUS)


def signed_interval(interval: Interval | None, digits: int = 2) -> str:
    return ABSENT if interval is None else f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"


def interval(value: Interval | None, digits: int = 2) -> str:
    return ABSENT if value is None else f"{number(value.low, digits)} to {number(value.high, digits)}"


def points(value: float) -> str:
    return f"{value:g} point{'' if value == 1 else 's'}"


def ms(value: float | None) -> str:
    """Milliseconds with three significant digits: 0.412, 3.36, 20.9, 1,204."""
    return _three_digits(value)


def images_per_s(value: float | None) -> str:
    """As ``ms``: a slow board does 4.63 images a second, and its models differ behind the point."""
    return _three_digits(value)


def _three_digits(value: float | None) -> str:
    if value is None:
        return ABSENT
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return number(value, digits)


def size(value: int | None) -> str:
    """Bytes as MB (10^6)."""
    return ABSENT if value is None else f"{value / 1e6:,.1f} MB"


def short(text: str, most: int = 40) -> str:
    """One printable line of at most ``most`` characters, cut in the middle: ends tell long names apart."""
    line = one_line(text)
    if len(line) <= most:
        return line
    tail = (most - 1) // 3
    return f"{line[: most - 1 - tail]}…{line[len(line) - tail :]}"


def distinct(texts: Sequence[str], most: int) -> tuple[str, ...]:
    """A label of at most ``most`` characters for each of ``texts``, no two alike.

    Where one of them is longer, the words that all begin with and all end with give way to an ellipsis. What is still
    too long is cut in the middle; labels that are then alike are numbered, in their order.
    """
    lines = [one_line(text) for text in texts]
    if len(lines) > 1 and max(map(len, lines)) > most:
        lines = _without_common_words(lines)
    labels: dict[str, None] = {}
    for line in lines:
        label, count = short(line, most), 1
        while label in labels:
            count += 1
            tail = f" ({count})"
            label = short(line, most - len(tail)) + tail
        labels[label] = None
    return tuple(labels)


def _without_common_words(lines: Sequence[str]) -> list[str]:
    """Words count with what stands behind them; of each line one stays."""
    words = [re.findall(r"[^\W_]+[\W_]*|[\W_]+", line) for line in lines]
    most = max(min(map(len, words)) - 1, 0)
    first = min(_common(words), most)
    last = min(_common([parts[::-1] for parts in words]), most - first)
    return [
        f"{'…' if first else ''}{''.join(parts[first : len(parts) - last])}{'…' if last else ''}" for parts in words
    ]


def _common(words: Sequence[Sequence[str]]) -> int:
    """How many of the first words are the same everywhere."""
    columns = zip(*words, strict=False)  # as long as the shortest
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def percent(share: float | None) -> str:
    """A probability, 0 to 1, in whole percent; nothing where there is none."""
    return "" if share is None else f"{100 * share:.0f} %"
