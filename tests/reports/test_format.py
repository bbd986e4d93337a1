"""``edge_van.reports.format``: figures a reader can compare at a glance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_van.bundle.records import Interval
from edge_van.reports.format import (
    ABSENT,
    distinct,
    images_per_s,
    interval,
    ms,
    number,
    points,
    short,
    signed,
    signed_interval,
    size,
)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (signed(0.05), "+0.05"),
        (signed(-0.054), "−0.05"),
        (signed(-0.001), "0.00"),
        (signed(0.001), "0.00"),
        (signed(None), ABSENT),
        (number(1234.5, 1), "1,234.5"),
        (number(-2.0), "−2.00"),
        (number(None), ABSENT),
        (ms(0.4123), "0.412"),
        (ms(3.364), "3.36"),
        (ms(20.85), "20.9"),
        (ms(1204.4), "1,204"),
        (images_per_s(4.634), "4.63"),
        (images_per_s(812.4), "812"),
        (size(15_404_797), "15.4 MB"),
        (interval(Interval(1.7, 1.74)), "1.70 to 1.74"),
        (signed_interval(Interval(-0.2, 0.001)), "−0.20 to 0.00"),
        (points(1.0), "1 point"),
        (points(0.5), "0.5 points"),
    ],
)
def test_shown(shown: str, expected: str) -> None:
    assert shown == expected


@given(st.text(max_size=200), st.integers(8, 60))
def test_a_short_name_is_one_printable_line(text: str, most: int) -> None:
    line = short(text, most)
    assert len(line) <= most
    assert line.isprintable()


def test_the_end_of_a_long_name_stays() -> None:
    assert short("second of the two: OpenVINO INT8", 20) == "second of the…O INT8"


@given(st.lists(st.text(max_size=60), max_size=12), st.integers(12, 60))
def test_labels_are_short_printable_and_no_two_alike(texts: list[str], most: int) -> None:
    labels = distinct(texts, most)
    assert len(set(labels)) == len(labels) == len(texts)
    assert all(len(label) <= most and label.isprintable() for label in labels)


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["van_b0_int8_symmetric", "van_b0_int8_asymmetric"], ["…symmetric", "…asymmetric"]),
        (["new van of the demo", "old van of the demo"], ["new …", "old …"]),
        (["short", "names"], ["short", "names"]),
        (["a" * 20 + "1" + "b" * 20, "a" * 20 + "2" + "b" * 20], ["aaaaaaaaa…bbbb", "aaaaaa…bbb (2)"]),
        (["the same words", "the same words"], ["the same words", "the sa…rds (2)"]),
        (["one longer than most"], ["one longe…most"]),
        (["", "one longer than most"], ["", "one longe…most"]),
        ([], []),
    ],
)
def test_labels_keep_what_differs(texts: list[str], labels: list[str]) -> None:
    assert list(distinct(texts, 14)) == labels
