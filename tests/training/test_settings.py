"""``edge_van.training.settings``: what is refused, and how rate and size go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_van.errors import UsageError
from edge_van.training.settings import TrainSettings, load_train_settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 0}, "epochs is a whole number from 1"),
        ({"batch": 7}, "batch is even"),
        ({"size": 8}, "size is a whole number from 16"),
        ({"first_size": 80}, "first_size is a whole number from 16 to size, 64; got 80"),
        ({"learning_rate": float("nan")}, "learning_rate is a number from 0 to 10; got nan"),
        ({"crop": 0.0}, "crop is over 0, .*; got 0"),
        ({"drop_path": 1.0}, "drop_path is under 1, .*; got 1"),
        ({"ema": 1}, "ema is under 1, .*; got 1"),
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


def test_a_recipe_and_what_is_given_before_it(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text("epochs = 3\nfirst_size = 32\nmixup = 0\nflip = false\n", encoding="utf-8")
    assert load_train_settings(str(path)) == TrainSettings(3, first_size=32, mixup=0, flip=False)
    assert load_train_settings(path, epochs=5, mixup=0.3) == TrainSettings(5, first_size=32, mixup=0.3, flip=False)
    assert load_train_settings(None, epochs=1) == TrainSettings(1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "recipe .* does not exist; check the path, or leave it out and give --epochs"),
        ("epochs =", "is no TOML"),
        ("epochs = 3\nsteps = 4", "has unknown keys: 'steps'; known: epochs, batch"),
        ("batch = 8", "needs --epochs N, or --recipe FILE with epochs = N in it"),
        ("epochs = 1.5", "train.toml: epochs is a whole number from 1 to 100000; got 1.5"),
        (
            "epochs = 1\nsize = 32\nfirst_size = '16'",
            "train.toml: first_size is a whole number from 16 to size, 32; got '16'",
        ),
        (f"epochs = 0x{'f' * 5000}", "train.toml: a number is far too large"),
        ("epochs = 1\nmixup = true", "train.toml: mixup is a number from 0 to 10; got True"),
        ("epochs = 1\nflip = 3", "train.toml: flip is true or false; got 3"),
    ],
)
def test_a_recipe_that_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "train.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        load_train_settings(path)


def test_what_is_given_is_not_blamed_on_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text("epochs = 3\nbatch = 8", encoding="utf-8")
    with pytest.raises(UsageError, match=r"^batch is even"):
        load_train_settings(path, batch=7)


def test_without_anything_it_says_what_is_needed() -> None:
    with pytest.raises(UsageError, match="needs --epochs N"):
        load_train_settings(None)
