"""Walks up a ladder of candidates, each costlier to make or to run than the one before, until one keeps the budget.

In: a recipe, a ``Budget``, what makes and measures candidates. Out: ``Found``: the recipe that is to be used, and the
record of all that was tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from edge_van.budget.activations import KIND
from edge_van.budget.memory import Memory
from edge_van.budget.trial import Trials
from edge_van.bundle.budget_record import Budget, BudgetRecord, Missed, Rung
from edge_van.bundle.recipe import Recipe
from edge_van.errors import VerificationError
from edge_van.progress import Work

SAMPLES = 300
"""Calibration images that better ranges are set by, where the recipe has fewer."""
FIRST_LAYERS = 2
COST_BEFORE_QAT = 1.1
"""Layers in float may make INT8 so many times slower before QAT, which costs no latency, is tried."""


@dataclass(frozen=True)
class Found:
    recipe: Recipe
    record: BudgetRecord


@dataclass
class Ladder:
    """Rungs that ``memory`` knows are not made again."""

    trials: Trials
    budget: Budget
    memory: Memory
    work: Work
    tried: list[tuple[Recipe, Rung]] = field(default_factory=list)
    by_interval: bool = True
    failed: list[str] = field(default_factory=list)
    is_free: bool = False  # the activation may be another
    asked: Recipe = field(init=False)

    def climb(self, recipe: Recipe) -> Found:
        """Raises as the stages of each candidate."""
        self.is_free, recipe = recipe.activation == "auto", recipe.unchanged
        self.asked = recipe
        self.by_interval = self._smallest_high(recipe) <= self.budget.max_drop_points
        if not self.by_interval:
            self.work.warn([self._too_few()])
        faster = self._with_hardswish(recipe) if self.is_free else iter(())
        for candidate in chain(faster, self._candidates(recipe)):
            rung = self._rung(candidate)
            if rung is not None and self._is_inside(rung):
                self._refine(len(self.tried) - 1)
                break
        return self._found()

    def _candidates(self, recipe: Recipe) -> Iterator[Recipe]:
        """Each in its order, while the caller goes on. What could not be made is not built upon."""
        yield recipe
        if self._is_slow():
            return
        best = recipe
        better = replace(recipe, ranges="squared_error", samples=max(recipe.samples, SAMPLES))
        if better != recipe:
            yield better
            best = better if self._is_tried(better) else best
        if best.method == "ptq":
            yield (reconstructed := replace(best, method="reconstruction"))
            best = reconstructed if self._is_tried(reconstructed) else best
        if best.method != "qat":
            yield from self._with_float_layers(best, COST_BEFORE_QAT)
            yield (trained := replace(best, method="qat"))
            if not self._is_tried(trained):
                return
            best = trained
        yield from self._with_float_layers(best, None)

    def _with_hardswish(self, recipe: Recipe) -> Iterator[Recipe]:
        """The fastest first: in all places where it pays, then without the one that makes most noise for its time."""
        places = self._places(recipe)
        for count in range(len(places), 0, -1):
            candidate = replace(recipe, method="ptq", activation=KIND, activation_places=places[:count])
            yield candidate
            if self._is_tried(candidate):
                if self._is_slow():  # and so is whatever comes behind it
                    return
                yield replace(candidate, method="reconstruction")

    def _places(self, recipe: Recipe) -> tuple[str, ...]:
        if self.memory.places is None:
            if not self.trials.is_ready:
                self.trials.fp32(recipe)
            plain = replace(recipe, method="ptq", float_layers=())
            try:
                self.memory.keep_places(self.trials.activation_bargains(plain))
            except VerificationError as error:
                self.failed.append(f"hard-swish could not be weighed: {error}")
                self.work.warn(self.failed[-1:])
        return self.memory.places or ()

    def _with_float_layers(self, recipe: Recipe, most_cost: float | None) -> Iterator[Recipe]:
        """Twice as many each time, until that costs too much or INT8 is no faster than FP32."""
        whole = next(rung for tried, rung in self.tried if tried == recipe)
        ranking = [name for name in self._ranking(recipe) if name not in recipe.float_layers]
        count = FIRST_LAYERS
        while count < len(ranking):
            yield (candidate := replace(recipe, float_layers=(*recipe.float_layers, *ranking[:count])))
            if not self._is_tried(candidate):
                return
            rung = self.tried[-1][1]
            too_dear = most_cost is not None and whole.speedup > most_cost * rung.speedup
            if too_dear or rung.speedup <= 1.0 or self._is_slow():
                return
            count *= 2

    def _name(self, recipe: Recipe) -> str:
        """By what was changed."""
        if recipe == self.asked:
            return "as asked"
        if recipe.activation != self.asked.activation:
            trained = ", reconstruction" if recipe.method == "reconstruction" else ""
            return f"hard-swish in {' '.join(recipe.activation_places)}{trained}"
        count = len(recipe.float_layers)
        if count > len(self.asked.float_layers):
            how = "QAT, " if recipe.method == "qat" and self.asked.method != "qat" else ""
            return f"{how}{count} layer{'' if count == 1 else 's'} in float"
        if recipe.method == self.asked.method:
            return "ranges"
        return "QAT" if recipe.method == "qat" else recipe.method

    def _is_tried(self, recipe: Recipe) -> bool:
        return any(tried == recipe for tried, _ in self.tried)

    def _refine(self, inside: int) -> None:
        """Between the last count of layers that was too few and the first that was enough: fewer are faster."""
        recipe, _ = self.tried[inside]
        smaller = [
            len(r.float_layers)
            for r, _ in self.tried[:inside]
            if r.method == recipe.method and len(r.float_layers) < len(recipe.float_layers)
        ]
        if not recipe.float_layers or not smaller:
            return
        too_few, enough = max(smaller), len(recipe.float_layers)
        while enough - too_few > max(1, enough // 4):
            middle = (too_few + enough) // 2
            candidate = replace(recipe, float_layers=recipe.float_layers[:middle])
            rung = self._rung(candidate)
            if rung is not None and self._is_inside(rung):
                enough = middle
            else:
                too_few = middle

    def _rung(self, recipe: Recipe) -> Rung | None:
        """None where a training or a check failed: other rungs may do. The first must not fail."""
        key, name = _key(recipe), self._name(recipe)
        rung = self.memory.rung(key)
        if rung is None:
            if not self.trials.is_ready:
                self.trials.fp32(recipe)
            try:
                rung = self.trials.rung(name, recipe)
            except VerificationError as error:
                if recipe == self.asked:
                    raise
                self.failed.append(f"{name} could not be made: {error}")
                self.work.warn(self.failed[-1:])
                return None
            self.memory.keep_rung(key, rung)
        self.tried.append((recipe, rung))
        self.work.reporter.note(in_words(rung))
        return rung

    def _ranking(self, recipe: Recipe) -> tuple[str, ...]:
        """Of the calibrated network, whose float weights are at hand: its layers are those of a trained one."""
        if not self.memory.ranking:
            plain = replace(recipe, method="ptq", float_layers=())
            if not self.trials.is_ready:
                self.trials.fp32(plain)
            self.memory.keep_ranking(self.trials.bargains(plain))
        return self.memory.ranking

    def _smallest_high(self, recipe: Recipe) -> float:
        if self.memory.smallest_high is None:
            itself = self.trials.fp32(recipe)
            self.memory.keep_smallest_high(max(metric.drop_interval.high for metric in itself.gated))
        return float(self.memory.smallest_high or 0.0)

    def _is_inside(self, rung: Rung) -> bool:
        return self._is_worth_it(rung) and rung.within(self.budget, by_interval=self.by_interval)

    def _is_worth_it(self, rung: Rung) -> bool:
        return rung.is_worth_it(self.asked.float_layers)

    def _is_slow(self) -> bool:
        limit = self.budget.max_latency_ms
        return limit is not None and self.tried[-1][1].median_ms > limit

    def _found(self) -> Found:
        inside = [i for i, tried in enumerate(self.tried) if self._is_inside(tried[1])]
        limit = self.budget.max_latency_ms
        if inside:
            # of layers in float the fewest; of the others there is one
            chosen = min(inside, key=lambda i: len(self.tried[i][0].float_layers))
            missed: Missed = ""
        else:
            worth = [i for i, tried in enumerate(self.tried) if self._is_worth_it(tried[1])]
            fast = [i for i in worth if limit is None or self.tried[i][1].median_ms <= limit]
            missed = "accuracy" if fast else "latency"
            chosen = min(fast or worth, key=lambda i: self._loss(self.tried[i][1]))
            self.memory.finish()
        rungs = tuple(rung for _, rung in self.tried)
        reason = self._reason(rungs[chosen], missed)
        record = BudgetRecord(self.budget, self.by_interval, missed, reason, chosen, rungs, tuple(self.failed))
        return Found(self.tried[chosen][0], record)

    def _loss(self, rung: Rung) -> float:
        return rung.drop_interval.high if self.by_interval else rung.largest_drop_points

    def _reason(self, rung: Rung, missed: Missed) -> str:
        allowed = f"{self.budget.max_drop_points:g} are allowed"
        if missed == "latency":
            faster = "" if self.is_free or self.asked.activation != "gelu" else "--activation hardswish, "
            return (
                f"{rung.name!r} takes {rung.median_ms:.2f} ms, {self.budget.max_latency_ms:g} are allowed, and what "
                f"comes after it is no faster: try {faster}a smaller --input-size or variant"
            )
        if missed:
            return (
                f"none of {len(self.tried)} rungs keeps the budget, the best, {rung.name!r}, loses {_points(rung)} of "
                f"{rung.metric}, {allowed}{self._too_slow()}: give more images to measure on, or more qat.steps"
            )
        return f"{rung.name!r} loses {_points(rung)} of {rung.metric}, {allowed}"

    def _too_slow(self) -> str:
        """What keeps the drop and not the latency."""
        points = self.budget.max_drop_points
        slow = [r for _, r in self.tried if r.loses_at_most(points, by_interval=self.by_interval)]
        return "" if not slow else f" ({slow[0].name!r} would do, and takes {slow[0].median_ms:.2f} ms)"

    def _too_few(self) -> str:
        return (
            f"the images are too few to show that any model loses at most {self.budget.max_drop_points:g} points: FP32 "
            f"against itself reaches {self.memory.smallest_high:+.2f}; the drop itself decides, not its interval"
        )


def _key(recipe: Recipe) -> str:
    """What two recipes that make the same OpenVINO model share."""
    how = (recipe.method, recipe.training, recipe.ranges, recipe.samples, recipe.float_layers)
    parts = (*how, recipe.activation, recipe.activation_places)
    return " ".join(map(str, parts))


def _points(rung: Rung) -> str:
    return f"{rung.drop_points:+.2f} points ({rung.drop_interval.low:+.2f} to {rung.drop_interval.high:+.2f})"


def in_words(rung: Rung) -> str:
    """One line of a rung, as it is told while a ladder is climbed."""
    return (
        f"{rung.name}: {_points(rung)}, {rung.logit_sqnr_db:.1f} dB, {rung.median_ms:.2f} ms, "
        f"{rung.speedup:.2f} times FP32, made and measured in {rung.seconds:.0f} s"
    )
