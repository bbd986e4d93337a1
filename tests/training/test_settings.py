"""``edge_van.training.settings``: what is refused, and how rate and size go."""

from __future__ import annotations

from typing import Any

import pytest

from edge_van.errors import UsageError
from edge_van.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 0}, "epochs is a whole number from 1"),
        ({"batch": 7}, "batch is even"),
        ({"size": 8}, "size is a whole number from 16"),
        ({"first_size": 80}, "first_size is from 16 to size, 64; got 80"),
        ({"learning_rate": float("nan")}, "learning_rate is a number from 0 to 10; got nan"),
        ({"crop": 0.0}, "crop is over 0"),
        ({"drop_path": 1.0}, "drop_path and ema are under 1"),
        ({"label_smoothing": -0.1}, "label_smoothing is a number from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TrainSettings(**({"epochs": 1} | given))


def test_the_rate_rises_and_falls_to_nearly_nothing() -> None:
    settings = TrainSettings(epochs=1, learning_rate=1.0, warm_up=0.1)
    rates = [settings.rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_the_size_grows_in_steps_of_16_and_stays() -> None:
    settings = TrainSettings(epochs=1, size=96, first_size=32, growing=0.5)
    sizes = [settings.size_at(step, 100) for step in range(100)]
    assert sizes[0] == 32
    assert set(sizes) == {32, 48, 64, 80, 96}
    assert sizes == sorted(sizes)
    assert set(sizes[50:]) == {96}
    assert {TrainSettings(epochs=1).size_at(step, 100) for step in range(100)} == {64}


def test_every_image_is_seen_once_an_epoch() -> None:
    assert TrainSettings(epochs=3, batch=64).steps(100) == 5
    assert TrainSettings(epochs=1, batch=64).steps(1) == 1
