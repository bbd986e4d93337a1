"""``edge_van.timing.sessions`` in a real run: what takes minutes is told, and what it writes goes with the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_samples import SETTINGS

from edge_van.bundle.bundle import Bundle
from edge_van.progress import Advance, Silent
from edge_van.timing.run import BenchmarkOptions, run_benchmark
from edge_van.timing.startup import CACHE_VARIABLE

pytestmark = pytest.mark.alone


class Watching(Silent):
    """Keeps the stages' names and totals, what was done of each, and where torch.compile would write meanwhile."""

    def __init__(self) -> None:
        self.totals: dict[str, int | None] = {}
        self.done: dict[str, int] = {}
        self.folders: dict[str, str] = {}

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        self.totals[name], self.done[name] = total, 0
        self.folders[name] = os.environ.get(CACHE_VARIABLE, "")

        def advance(amount: int) -> None:
            self.done[name] += amount

        yield advance


@pytest.fixture(scope="module")
def watched(timed_bundle: Bundle) -> Watching:
    reporter = Watching()
    settings = replace(
        SETTINGS,
        scenarios=("single_stream", "multi_stream", "offline"),
        batches=(4,),
        multi_stream_samples=4,
        samples=10,
        max_duration_s=1.0,
        offline_slices=1,
    )
    options = BenchmarkOptions(settings, ("onnxruntime",), startup=False, layers=False)
    run_benchmark([timed_bundle], options, reporter)
    return reporter


@pytest.mark.parametrize("scenario", ["MultiStream", "Offline"])
def test_loading_for_several_images_is_told(watched: Watching, scenario: str) -> None:
    """There torch.compile compiles a second time; for one image the models are loaded already."""
    name = f"{scenario}: loading the models for 4 images"
    assert watched.totals[name] == watched.done[name] == 2
    assert not any("loading" in stage and stage.startswith("SingleStream") for stage in watched.totals)


def test_what_is_compiled_in_a_run_goes_with_its_folder(watched: Watching) -> None:
    during = {name: folder for name, folder in watched.folders.items() if name != "Checking the files"}
    assert len(set(during.values())) == 1
    [folder] = set(during.values())
    assert Path(folder).parent.name.startswith("edge-van-compiled-")
    assert not Path(folder).parent.exists()
    assert os.environ.get(CACHE_VARIABLE) != folder
