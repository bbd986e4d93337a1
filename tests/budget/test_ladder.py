"""``budget.ladder``: which rungs are tried in which order, what is taken, and that nothing is tried twice.

Figures of rungs are given here, by what was changed; ``test_climbed`` climbs with the engines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from bundle_samples import ACCURACY
from watching import Watching

from edge_van.budget.ladder import Found, Ladder
from edge_van.budget.memory import Memory
from edge_van.bundle.budget_record import Budget, Rung
from edge_van.bundle.interval import Interval
from edge_van.bundle.recipe import Recipe
from edge_van.errors import AccuracyGateError, CheckpointError, LatencyGateError, UsageError, VerificationError
from edge_van.evaluation.gates import budget_gate
from edge_van.progress import Work
from edge_van.quantization.recipe import load_recipe

LAYERS = tuple(f"block3.{i}.mlp.fc1" for i in range(40))
RECIPE = load_recipe()
Drop = Callable[[Recipe], float]


@dataclass
class Given:
    """Stands for ``Trials``: the drop is given, its interval is 0.2 to either side; each layer in float costs 1 %."""

    drop: Drop
    high_of_fp32: float = 0.02
    ms: float = 2.0
    fp32_ms: float = 4.0
    stop_after: int = 1000
    made: list[Recipe] = field(default_factory=list)
    is_ready: bool = False
    ranked: int = 0
    places: tuple[str, ...] = ("block1.mlp", "block2.mlp", "block1.attn")
    weighed: int = 0

    def fp32(self, recipe: Recipe) -> Any:
        self.is_ready = True
        return replace(ACCURACY, drop_points=0.0, drop_interval=Interval(-self.high_of_fp32, self.high_of_fp32))

    def rung(self, name: str, recipe: Recipe) -> Rung:
        if len(self.made) == self.stop_after:
            raise KeyboardInterrupt
        self.made.append(recipe)
        drop, ms = self.drop(recipe), self.ms * (1.0 + 0.01 * len(recipe.float_layers))
        around = Interval(drop - 0.2, drop + 0.2)
        speed = self.fp32_ms / ms
        how = (recipe.method, recipe.ranges, recipe.samples, recipe.float_layers)
        figures = ("top-1", 50.0, drop, around, drop, 97.0, 25.0, ms, speed, Interval(speed, speed), 9.0)
        return Rung(name, *how, *figures, recipe.activation, recipe.activation_places)

    def activation_bargains(self, recipe: Recipe) -> tuple[str, ...]:
        assert (recipe.method, recipe.activation, recipe.float_layers) == ("ptq", "gelu", ())
        self.weighed += 1
        return self.places

    def bargains(self, recipe: Recipe) -> tuple[str, ...]:
        assert recipe.method == "ptq"
        assert not recipe.float_layers
        self.ranked += 1
        return LAYERS


def climb(
    given: Given, folder: Path, budget: Budget, recipe: Recipe = RECIPE, watcher: Watching | None = None
) -> Found:
    work = Work(watcher or Watching())
    return Ladder(given, budget, Memory(folder / "rungs.json", "key"), work).climb(recipe)  # type: ignore[arg-type]


def in_float(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'} in float"


def names(found: Found) -> list[str]:
    return [rung.name for rung in found.record.rungs]


def test_the_recipe_itself_may_do(tmp_path: Path) -> None:
    found = climb(Given(lambda recipe: 0.1), tmp_path, Budget(0.5))
    assert names(found) == ["as asked"]
    assert found.recipe == RECIPE
    assert (found.record.missed, found.record.chosen, found.record.by_interval) == ("", 0, True)
    budget_gate(found.record)


def test_the_order_of_the_rungs(tmp_path: Path) -> None:
    """Layers stop at 10 % more latency, which costs nothing of QAT, and go on behind it while INT8 is the faster."""
    hard = replace(RECIPE, ranges="minmax", samples=8)
    found = climb(Given(lambda recipe: 1.0, fp32_ms=2.3), tmp_path, Budget(0.5), hard)
    assert names(found) == [
        "as asked",
        "ranges",
        "reconstruction",
        "2 layers in float",
        "4 layers in float",
        "8 layers in float",
        "16 layers in float",
        "QAT",
        "QAT, 2 layers in float",
        "QAT, 4 layers in float",
        "QAT, 8 layers in float",
        "QAT, 16 layers in float",
    ]
    assert [(r.ranges, r.samples) for r in found.record.rungs[:2]] == [("minmax", 8), ("squared_error", 300)]
    assert found.record.missed == "accuracy"
    with pytest.raises(AccuracyGateError, match=r"none of 12 rungs keeps the budget.*\+1\.00 points \(\+0\.80"):
        budget_gate(found.record)


@pytest.mark.parametrize(("needed", "tried", "taken"), [(2, [2, 1], 2), (5, [2, 4, 8, 6, 5], 5), (7, [2, 4, 8, 6], 8)])
def test_as_few_layers_as_do(needed: int, tried: list[int], taken: int, tmp_path: Path) -> None:
    found = climb(Given(lambda r: 0.0 if len(r.float_layers) >= needed else 1.0), tmp_path, Budget(0.5))
    assert names(found)[2:] == [in_float(count) for count in tried]
    assert found.recipe.float_layers == LAYERS[:taken]
    assert found.record.rungs[found.record.chosen].float_layers == LAYERS[:taken]


def test_layers_that_a_recipe_leaves_already_are_kept(tmp_path: Path) -> None:
    recipe = replace(RECIPE, float_layers=("head", LAYERS[1]))
    found = climb(Given(lambda r: 0.0 if len(r.float_layers) > 2 else 1.0), tmp_path, Budget(0.5), recipe)
    assert found.recipe.float_layers[:2] == recipe.float_layers
    assert set(found.recipe.float_layers[2:]) <= {LAYERS[0], LAYERS[2]}


def test_the_upper_end_decides(tmp_path: Path) -> None:
    given = Given(lambda recipe: {"ptq": 0.35, "reconstruction": 0.3}.get(recipe.method, 0.0))
    found = climb(given, tmp_path, Budget(0.5))
    assert names(found) == ["as asked", "reconstruction"]


def test_too_few_images_for_any_interval(tmp_path: Path) -> None:
    watcher = Watching()
    found = climb(Given(lambda recipe: 0.4, high_of_fp32=0.9), tmp_path, Budget(0.5), watcher=watcher)
    assert names(found) == ["as asked"]
    assert not found.record.by_interval
    assert "FP32 against itself reaches +0.90" in watcher.notes[0]


def test_latency_alone_ends_at_once(tmp_path: Path) -> None:
    found = climb(Given(lambda recipe: 0.0, ms=3.0), tmp_path, Budget(0.5, max_latency_ms=2.5))
    assert names(found) == ["as asked"]
    with pytest.raises(LatencyGateError, match=r"takes 3\.00 ms, 2\.5 are allowed.*--activation hardswish"):
        budget_gate(found.record)


def test_both_limits(tmp_path: Path) -> None:
    """Six layers would do for the drop, and take longer than is allowed: QAT does."""
    given = Given(lambda r: 0.0 if r.method == "qat" or len(r.float_layers) >= 6 else 1.0)
    found = climb(given, tmp_path, Budget(0.5, max_latency_ms=2.05))
    assert names(found)[-1] == "QAT"
    assert found.record.missed == ""
    given = Given(lambda r: 0.3 if r.method == "qat" else 0.5)
    (second := tmp_path / "second").mkdir()
    record = climb(given, second, Budget(0.4, max_latency_ms=2.05)).record
    assert record.missed == "accuracy"
    assert record.rungs[record.chosen].median_ms <= 2.05
    assert record.rungs[record.chosen].method == "qat"


@pytest.mark.parametrize("after", range(7))
def test_it_goes_on_where_it_was_stopped(after: int, tmp_path: Path) -> None:
    def drop(recipe: Recipe) -> float:
        return 0.0 if recipe.method == "qat" else 1.0

    whole = climb(Given(drop), tmp_path, Budget(0.5)).record
    (tmp_path / "rungs.json").unlink()
    stopped = Given(drop, stop_after=after)
    with pytest.raises(KeyboardInterrupt):
        climb(stopped, tmp_path, Budget(0.5))
    again = Given(drop)
    assert climb(again, tmp_path, Budget(0.5)).record == whole
    assert len(stopped.made) == after
    assert len(again.made) == len(whole.rungs) - after
    nothing = Given(drop)
    assert climb(nothing, tmp_path, Budget(0.5)).record == whole
    assert nothing.made == []


def test_what_is_no_memory_of_this_ladder(tmp_path: Path) -> None:
    path = tmp_path / "rungs.json"
    climb(Given(lambda recipe: 0.0), tmp_path, Budget(0.5))
    with pytest.raises(UsageError, match="tried with other weights, images, settings or versions"):
        Memory(path, "another key")
    content = json.loads(path.read_bytes())
    [rung] = content["rungs"].values()
    for raw in (
        b"{",
        b'{"key":"key","z":' + b"[" * 200_000,
        json.dumps(content | {"rungs": {"as asked": rung | {"median_ms": -1.0}}}).encode(),
        json.dumps(content | {"rungs": {"as asked": rung | {"method": "magic"}}}).encode(),
        json.dumps(content | {"ranking": ["head", "head"]}).encode(),
        json.dumps(content | {"ranking": ["nope"]}).encode(),
    ):
        path.write_bytes(raw)
        with pytest.raises(CheckpointError, match="delete it to start anew"):
            Memory(path, "key")
    path.write_text(json.dumps(content | {"rungs": {}}))  # FP32 alone is soon measured again
    assert Memory(path, "another key").smallest_high is None


def test_only_the_states_that_its_rungs_wrote_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    [rung] = climb(Given(lambda recipe: 0.0), tmp_path / "other", Budget(0.5)).record.rungs
    (tmp_path / "qat.pt").write_bytes(b"of another training")
    memory = Memory(tmp_path / "rungs.json", "key")
    (tmp_path / "reconstruction.pt").write_bytes(b"its own")
    memory.keep_rung("a", rung)
    for state in tmp_path.glob("*.pt"):
        os.utime(state, (1, 1))
    Memory(tmp_path / "rungs.json", "key")
    assert {state.name for state in tmp_path.glob("*.pt") if state.stat().st_mtime > 1} == {"reconstruction.pt"}


@pytest.mark.parametrize("values", [(-1.0,), (101.0,), (float("nan"),), (1.0, 0.0), (1.0, -2.0), (1.0, float("nan"))])
def test_a_budget_that_is_none(values: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="a budget's"):
        Budget(*values)


def test_a_rung_that_cannot_be_made_is_left_out(tmp_path: Path) -> None:
    """Layers are then taken from the network as it was calibrated."""
    given = Given(lambda r: 0.0 if len(r.float_layers) >= 2 else 1.0)
    made = given.rung

    def rung(name: str, recipe: Recipe) -> Rung:
        if recipe.method == "reconstruction":
            raise VerificationError("the loss grew")
        return made(name, recipe)

    given.rung = rung  # type: ignore[method-assign]
    found = climb(given, tmp_path, Budget(0.5))
    assert names(found)[:2] == ["as asked", "2 layers in float"]
    assert found.recipe.method == "ptq"
    assert found.record.failed == ("reconstruction could not be made: the loss grew",)


def test_a_first_rung_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    given = Given(lambda r: 0.0)
    given.rung = lambda name, recipe: (_ for _ in ()).throw(VerificationError("no"))  # type: ignore[method-assign]
    with pytest.raises(VerificationError):
        climb(given, tmp_path, Budget(0.5))


def test_layers_that_make_int8_slower_than_fp32_are_not_taken(tmp_path: Path) -> None:
    """Sixteen would do, and FP32 is faster by then."""
    given = Given(lambda r: 0.0 if len(r.float_layers) >= 16 else 1.0, fp32_ms=2.2)
    record = climb(given, tmp_path, Budget(0.5)).record
    assert record.missed == "accuracy"
    assert any(len(rung.float_layers) >= 16 and rung.drop_points == 0.0 for rung in record.rungs)
    assert record.rungs[record.chosen].speedup > 1.0


def test_what_was_tried_in_vain_serves_a_wider_limit_and_hinders_nothing_else(tmp_path: Path) -> None:
    def drop(recipe: Recipe) -> float:
        return 1.0

    tried = climb(Given(drop), tmp_path, Budget(0.5)).record
    again = Given(drop)
    found = climb(again, tmp_path, Budget(1.3))
    assert again.made == []
    assert names(found) == ["as asked"]
    assert len(tried.rungs) > 1
    assert Memory(tmp_path / "rungs.json", "of other images").rung("any") is None


def test_the_drop_itself_is_that_of_the_metric_that_fell_most() -> None:
    around, speed = Interval(-0.9, 0.9), Interval(1.0, 1.0)
    figures = ("mAP", 50.0, -0.2, around, 0.9, 97.0, 25.0, 1.0, 1.0, speed, 1.0)
    rung = Rung("as asked", "ptq", "minmax", 8, (), *figures)
    assert not rung.loses_at_most(0.5, by_interval=False)
    assert rung.loses_at_most(0.9, by_interval=True)


def test_a_bundle_that_came_out_otherwise_fails_the_gate(tmp_path: Path) -> None:
    record = climb(Given(lambda r: 0.1), tmp_path, Budget(0.5)).record
    kept = replace(ACCURACY, drop_points=0.1, drop_interval=Interval(-0.1, 0.3))
    budget_gate(record, kept)
    with pytest.raises(AccuracyGateError, match=r"reaches \+0\.60"):
        budget_gate(record, replace(kept, drop_interval=Interval(-0.1, 0.6)))


AUTO = replace(RECIPE, activation="auto")


def test_hard_swish_everywhere_it_pays_is_tried_first(tmp_path: Path) -> None:
    given = Given(lambda recipe: 0.1)
    found = climb(given, tmp_path, Budget(0.5), AUTO)
    assert names(found) == ["hard-swish in block1.mlp block2.mlp block1.attn"]
    assert (found.recipe.activation, found.recipe.activation_places) == ("hardswish", given.places)
    assert found.record.rungs[0].activation_places == given.places


def test_fewer_places_each_trained_too_and_then_the_network_as_it_is(tmp_path: Path) -> None:
    def drop(recipe: Recipe) -> float:
        return 0.1 if recipe.activation == "gelu" else 0.5 + 0.1 * len(recipe.activation_places)

    given = Given(drop)
    found = climb(given, tmp_path, Budget(0.5), AUTO)
    assert names(found) == [
        "hard-swish in block1.mlp block2.mlp block1.attn",
        "hard-swish in block1.mlp block2.mlp block1.attn, reconstruction",
        "hard-swish in block1.mlp block2.mlp",
        "hard-swish in block1.mlp block2.mlp, reconstruction",
        "hard-swish in block1.mlp",
        "hard-swish in block1.mlp, reconstruction",
        "as asked",
    ]
    assert found.recipe == RECIPE
    assert climb(replace(given, stop_after=len(given.made)), tmp_path, Budget(0.5), AUTO).recipe == RECIPE
    assert given.weighed == 1  # remembered


def test_training_may_be_what_makes_it_fit(tmp_path: Path) -> None:
    def drop(recipe: Recipe) -> float:
        return 0.1 if recipe.method == "reconstruction" and len(recipe.activation_places) == 2 else 1.0

    found = climb(Given(drop), tmp_path, Budget(0.5), AUTO)
    assert found.record.rungs[found.record.chosen].name == "hard-swish in block1.mlp block2.mlp, reconstruction"
    assert found.recipe.method == "reconstruction"
    assert found.recipe.activation_places == ("block1.mlp", "block2.mlp")


def test_where_it_pays_nowhere_nothing_is_changed(tmp_path: Path) -> None:
    found = climb(Given(lambda recipe: 0.1, places=()), tmp_path, Budget(0.5), AUTO)
    assert names(found) == ["as asked"]


def test_where_the_fastest_is_too_slow_no_place_is_tried_alone(tmp_path: Path) -> None:
    found = climb(Given(lambda recipe: 0.1), tmp_path, Budget(0.5, max_latency_ms=1.0), AUTO)
    assert names(found) == ["hard-swish in block1.mlp block2.mlp block1.attn", "as asked"]
    assert found.record.missed == "latency"
    assert "--activation" not in found.record.reason


def test_a_method_that_was_asked_for_comes_behind(tmp_path: Path) -> None:
    given = Given(lambda recipe: 0.1 if recipe.method == "qat" else 1.0, places=("block1.mlp",))
    found = climb(given, tmp_path, Budget(0.5), replace(AUTO, method="qat"))
    assert [rung.method for rung in found.record.rungs] == ["ptq", "reconstruction", "qat"]
    assert found.recipe == replace(RECIPE, method="qat")


def test_places_that_cannot_be_weighed_are_named_and_left_as_they_are(tmp_path: Path) -> None:
    class Failing(Given):
        def activation_bargains(self, recipe: Recipe) -> tuple[str, ...]:
            raise VerificationError("the IR differs")

    watcher = Watching()
    found = climb(Failing(lambda recipe: 0.1), tmp_path, Budget(0.5), AUTO, watcher)
    assert names(found) == ["as asked"]
    assert found.record.failed == ("hard-swish could not be weighed: the IR differs",)
