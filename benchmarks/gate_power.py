"""How often the regression gate fails an unchanged model, and how often it finds one that is slower: simulated runs.

In: nothing. Out: a table, and a JSON with a row for each case: the share of run pairs in which any figure was shown to
be slower by over the limit, by the gate's own statistic and by the one it was weighed against.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from common import RESULTS, results_folder, write_result
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, norm

from edge_van.bundle.records import Interval
from edge_van.statistics import dependence, paired_ratio, wilson_interval
from edge_van.timing.gate import FALSE_ALARMS, Figure, Measured, Slowdown

Floats = NDArray[np.float64]
ONE = Figure("single_stream", "a model", 1)


@dataclass(frozen=True)
class Case:
    """Pairs of runs of ``figures`` models, one of them slower by ``slower`` in the second run.

    Ratios vary by ``variation`` from round to round. With ``apart`` over 1 the machine has two speeds, whose ratios are
    that far apart; it stays at one for ``dwell`` rounds on average.
    """

    name: str
    rounds: int
    figures: int
    variation: float
    limit: float
    slower: float = 1.0
    apart: float = 1.0
    dwell: int = 1


SLICES = [
    Case(f"ten slices, {variation:.0%}", 10, figures, variation, limit, slower)
    for figures in (7, 21)
    for variation in (0.06, 0.10, 0.15)
    for limit, slower in ((1.0, 1.0), (1.10, 1.0), (1.10, 1.2), (1.10, 1.3))
]
QUERIES = [
    Case(f"662 queries, two speeds {apart:g} apart", 662, 7, 0.05, limit, slower, apart, dwell)
    for apart, dwell in ((1.06, 30), (1.2, 30), (1.2, 150))
    for limit, slower in ((1.0, 1.0), (1.10, 1.0), (1.10, 1.2), (1.10, 1.3))
]
CASES = SLICES + QUERIES


def ratios(case: Case, slower: float, generator: np.random.Generator) -> Floats:
    """(rounds,) of one run."""
    noise = case.variation * generator.standard_normal(case.rounds)
    if case.apart > 1.0:
        switched = generator.random(case.rounds) < 1.0 / case.dwell
        switched[0] = generator.random() < 0.5
        noise += math.log(case.apart) * (np.cumsum(switched) % 2)
    return np.exp(noise) / slower


def by_intervals(then: Floats, now: Floats, confidence: float) -> bool:
    """The gate's: the intervals that both pages show, of medians by order statistics, combined."""
    measured = []
    for run in (then, now):
        ratio, *ends = paired_ratio(run, np.ones(len(run)))
        measured.append(Measured(ratio, Interval(*ends), len(run), 1.0, 1.0))
    return Slowdown(ONE, *measured, confidence).is_shown


def by_ranks(then: Floats, now: Floats, confidence: float) -> bool:
    """Mann and Whitney's test of all rounds of both runs; many rounds widened by the runs' ``dependence``."""
    p = float(mannwhitneyu(then, now, alternative="greater").pvalue)
    factor = max(dependence(run > np.median(run)) for run in (then, now))
    return float(norm.sf(norm.isf(p) / factor)) < (1 - confidence) / 2


STATISTICS: dict[str, Callable[[Floats, Floats, float], bool]] = {
    "gate": by_intervals,
    "mann_whitney": by_ranks,
}


def fails(case: Case, generator: np.random.Generator) -> dict[str, bool]:
    """Whether one pair of runs fails, by each statistic; a failure takes a factor of medians over the limit too."""
    confidence = 1.0 - FALSE_ALARMS / case.figures
    found = dict.fromkeys(STATISTICS, False)
    for figure in range(case.figures):
        then = ratios(case, 1.0, generator)
        now = ratios(case, case.slower if figure == 0 else 1.0, generator)
        if float(np.median(then) / np.median(now)) > case.limit:
            for name, is_shown in STATISTICS.items():
                found[name] |= is_shown(then, now, confidence)
    return found


def main() -> None:
    """Simulate every case, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--pairs", type=int, default=1000, help="of runs, a case")
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    args = parser.parse_args()
    rows = []
    print(f"{'case':38} figures limit slower  {'  '.join(f'{name:>12}' for name in STATISTICS)}")
    for case in CASES:
        generator = np.random.default_rng(0)
        outcomes = [fails(case, generator) for _ in range(args.pairs)]
        shares = {name: sum(o[name] for o in outcomes) / args.pairs for name in STATISTICS}
        cells = "  ".join(f"{100 * share:10.1f} %" for share in shares.values())
        print(f"{case.name:38} {case.figures:7} {case.limit:5.2f} {case.slower:6.2f}  {cells}", flush=True)
        intervals = {name: wilson_interval(share, args.pairs) for name, share in shares.items()}
        rows.append({**asdict(case), "failed": shares, "failed_interval": intervals})
    write_result(args, {"pairs": args.pairs, "rows": rows})


if __name__ == "__main__":
    main()
