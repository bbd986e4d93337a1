"""The rungs that were tried, in a file: a ladder that was stopped goes on behind them.

In: rungs and a key of all that they depend on. Out: the same, from a file that appears whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from edge_van.bundle.budget_record import Rung
from edge_van.bundle.manifest import check_rungs
from edge_van.bundle.recipe import ACTIVATION_PLACES
from edge_van.checkpoint.training_state import SUFFIX, take_over
from edge_van.errors import CheckpointError, UsageError
from edge_van.model.layer_names import part_of
from edge_van.storage.files import replace_file


@dataclass(frozen=True)
class _Kept:
    """``smallest_high``: where the interval of FP32 against itself ends; ``ranking``: layers, the one first that gains
    most for its time; ``places``, where another activation pays, likewise. ``is_finished``: no rung is missing, and
    none keeps the budget that was given."""

    key: str
    rungs: dict[str, Rung] = field(default_factory=dict)
    states: tuple[str, ...] = ()  # names of the trainings' files that its rungs wrote
    smallest_high: float | None = None
    ranking: tuple[str, ...] = ()
    places: tuple[str, ...] | None = None
    is_finished: bool = False


class Memory:
    """What is kept in ``path``, written anew with each thing that is learned."""

    def __init__(self, path: Path, key: str) -> None:
        """``CheckpointError`` for a file that cannot be read, ``UsageError`` for that of another ladder, if that was
        stopped: what took hours is not thrown away for a flag that was changed by mistake."""
        self._path = path
        self._kept = _Kept(key)
        self._before = self._written()
        if path.exists():
            try:
                self._kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
                check_rungs(tuple(self._kept.rungs.values()))
                _check_ranking(self._kept.ranking)
                _check_places(self._kept.places or ())
            except (OSError, ValueError, RecursionError, UsageError) as error:
                raise CheckpointError(
                    f"{path} cannot be read as the rungs of a ladder: delete it to start anew"
                ) from error
            if self._kept.key == key:
                for name in (path.name, *self._kept.states):  # of its rungs, which may not be made again
                    if Path(name).name == name and (path.parent / name).is_file():
                        take_over(path.parent / name)
            elif self._kept.is_finished or not (self._kept.rungs or self._kept.ranking):
                self._kept = _Kept(key)
            else:
                raise UsageError(
                    f"{path} holds rungs that were tried with other weights, images, settings or versions: give the "
                    f"same again to go on, delete it to start anew, or give another --output"
                )

    def rung(self, key: str) -> Rung | None:
        return self._kept.rungs.get(key)

    @property
    def smallest_high(self) -> float | None:
        return self._kept.smallest_high

    @property
    def ranking(self) -> tuple[str, ...]:
        return self._kept.ranking

    @property
    def places(self) -> tuple[str, ...] | None:
        return self._kept.places

    def keep_rung(self, key: str, rung: Rung) -> None:
        own = {name for name, written in self._written().items() if self._before.get(name) != written}
        states = tuple(sorted(own.union(self._kept.states)))
        self._keep(replace(self._kept, rungs=self._kept.rungs | {key: rung}, states=states))

    def keep_smallest_high(self, points: float) -> None:
        self._keep(replace(self._kept, smallest_high=points))

    def keep_ranking(self, layers: tuple[str, ...]) -> None:
        self._keep(replace(self._kept, ranking=layers))

    def keep_places(self, places: tuple[str, ...]) -> None:
        self._keep(replace(self._kept, places=places))

    def finish(self) -> None:
        """The ladder ends: what is kept may be another's."""
        self._keep(replace(self._kept, is_finished=True))

    def _written(self) -> dict[str, int]:
        return {state.name: state.stat().st_mtime_ns for state in self._path.parent.glob(f"*{SUFFIX}")}

    def _keep(self, kept: _Kept) -> None:
        self._kept = kept
        replace_file(self._path, msgspec.json.encode(kept))


def _check_places(places: tuple[str, ...]) -> None:
    if len(set(places)) < len(places) or not set(places) <= set(ACTIVATION_PLACES):
        raise ValueError("a place twice, or one that no VAN has")


def _check_ranking(layers: tuple[str, ...]) -> None:
    if len(set(layers)) < len(layers) or any(part_of(name) is None for name in layers):
        raise ValueError("a layer twice, or one that no VAN has")
