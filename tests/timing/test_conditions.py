"""``edge_van.timing.conditions``: what went on over all rounds, and what nobody could watch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_van.bundle.bundle import Bundle
from edge_van.timing import conditions
from edge_van.timing.conditions import conditions_of
from edge_van.timing.interference import Interference
from edge_van.timing.interleave import Rounds
from edge_van.timing.models import TimedModel, timed_models


@pytest.fixture
def models(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> list[TimedModel]:
    monkeypatch.setattr(conditions, "not_watched", lambda: ("throttling by heat",))
    return timed_models([timed_bundle], ["onnxruntime"])[0]


def rounds(count: int, interference: Interference) -> Rounds:
    return Rounds(np.ones((count, 2)), np.arange(count), 3, 0, interference)


def test_scenarios_are_taken_together_by_their_time(models: list[TimedModel]) -> None:
    found = [rounds(10, Interference(3.0, 2, 0.0, 0.02, None)), rounds(5, Interference(1.0, 2, 0.4, 0.02, 2))]
    c = conditions_of(found, models, "rapl")
    assert (c.rounds, c.rounds_discarded, c.throttle_events, c.energy_source) == (15, 6, 2, "rapl")
    assert (c.other_cpu_percent, c.stolen_cpu_percent) == (5.0, 1.0)


def test_what_is_not_known_is_no_zero(models: list[TimedModel]) -> None:
    c = conditions_of([rounds(10, Interference(3.0, 2, None, None, None))], models, None)
    assert (c.other_cpu_percent, c.stolen_cpu_percent, c.throttle_events) == (None, None, None)


def test_what_nobody_watched_is_named(models: list[TimedModel]) -> None:
    found = [rounds(10, Interference(3.0, 2, 0.0, 0.0, 0))]
    assert conditions_of(found, models, None).not_watched == ("throttling by heat",)
    engine = replace(models[0], runtime="tensorrt")
    assert conditions_of(found, [*models, engine], None).not_watched == (
        "throttling by heat",
        "other work on the GPU and its throttling",
    )
