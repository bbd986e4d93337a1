"""``edge_van.timing.conditions``: what went on over all rounds, and what nobody could watch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edge_van.bundle.bundle import Bundle
from edge_van.timing import conditions
from edge_van.timing.conditions import conditions_of
from edge_van.timing.core_link import NOT_WATCHED
from edge_van.timing.interference import Interference
from edge_van.timing.interleave import Rounds
from edge_van.timing.models import TimedModel, timed_models


@pytest.fixture
def models(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> list[TimedModel]:
    monkeypatch.setattr(conditions, "not_watched", lambda: ("throttling by heat",))
    monkeypatch.setattr(conditions, "is_virtual", lambda: False)
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


def test_the_farthest_core_counts_where_it_was_nearest(
    models: list[TimedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = rounds(10, Interference(1.0, 2, 0.0, 0.0, 0))
    near, far = (replace(told, core_round_trips_us=us) for us in ((0.2, 0.5), (0.6, 0.3)))
    assert conditions_of([near, far], models, None).core_round_trip_us == 0.3
    monkeypatch.setattr(conditions, "is_virtual", lambda: True)
    assert NOT_WATCHED not in conditions_of([near], models, None).not_watched
    for each in (told, replace(told, core_round_trips_us=(math.inf,))):
        found = conditions_of([each], models, None)
        assert (found.core_round_trip_us, found.not_watched[-1]) == (None, NOT_WATCHED)
