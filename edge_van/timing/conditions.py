"""What the machine did during a run, and what of it nobody could watch, as a record.

In: the rounds of all scenarios, the models. Out: ``Conditions``.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_van.machine import load_average
from edge_van.timing.interference import not_watched, total
from edge_van.timing.interleave import Rounds
from edge_van.timing.models import TimedModel
from edge_van.timing.record import Conditions


def conditions_of(sampled: Sequence[Rounds], models: Sequence[TimedModel], energy_source: str | None) -> Conditions:
    """Over everything that was kept; without rounds nothing is told of other work."""
    meanwhile = total(rounds.interference for rounds in sampled)
    unseen = not_watched()
    if not all(model.on_cpu for model in models):
        unseen += ("other work on the GPU and its throttling",)
    return Conditions(
        rounds=sum(len(rounds.values) for rounds in sampled),
        rounds_discarded=sum(rounds.discarded for rounds in sampled),
        other_cpu_percent=_percent(meanwhile.other_share),
        stolen_cpu_percent=_percent(meanwhile.stolen_share),
        throttle_events=meanwhile.throttles,
        load_average_1min=load_average(),
        energy_source=energy_source,
        not_watched=unseen,
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)
