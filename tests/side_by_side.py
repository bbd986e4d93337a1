"""The whole suite runs in several processes, a selection in one; a test marked ``alone`` has the machine to itself.

pyproject.toml asks pytest-xdist for ``--numprocesses=auto``; how many that are and who runs what is said here. A worker
that dies ends the run at the tests it was given: another in its place may wait for ever for one that is alone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MOST_WORKERS = 4
"""Each takes a gigabyte of memory, and what is alone takes its time however many there are."""

TOGETHER = ("reports",)
"""Rooms whose files share what takes seconds to make, so that one worker runs them all."""

DEAREST_FIRST = (
    "reports",
    "test_pipeline.py",
    "quantization/test_qat.py",
    "export/test_onnx_graph.py",
    "export/test_tensorrt_proof.py",
    "model/test_fold.py",
    "training/test_loop.py",
    "quantization/test_ptq.py",
    "prediction/test_predict.py",
    "cli/test_main.py",
    "engines/test_tensorrt.py",
    "prediction/test_gradcam.py",
    "export/test_onnx_export.py",
    "export/test_openvino_export.py",
    "evaluation/test_accuracy.py",
)
"""What takes longest, so that no worker begins with it when the others are done."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Stand-ins for the options in pyproject.toml, where pytest-xdist was switched off or is not installed."""
    if not pluginmanager.hasplugin("xdist"):
        for option in ("--numprocesses", "--max-worker-restart"):
            parser.addoption(option, help="without effect: pytest-xdist is not in use")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """None for a selection: one process starts in half the time, and shows what tests print."""
    option = config.option
    paths = {(config.invocation_params.dir / arg.partition("::")[0]).resolve() for arg in config.args}
    whole = bool(paths & {HERE, *HERE.parents})
    if not whole or option.keyword or option.trace or option.capture == "no" or config.getoption("lf", False):
        return 0
    cores = len(os.sched_getaffinity(0))
    return min(cores, MOST_WORKERS) if cores > 1 else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files, or rooms, one after the other to whichever worker is free; another way where --dist asks for it."""
    from xdist.scheduler import LoadScopeScheduling

    class InOrder(LoadScopeScheduling):
        def schedule(self) -> None:
            if self.collection is None:  # a file's tests that are alone come later than its others
                ids = next(iter(self.registered_collections.values()))
                self.parts = {id_: f"{n} {name}" for n, (name, part) in enumerate(groupby(ids, unit)) for id_ in part}
            super().schedule()

        def _split_scope(self, nodeid: str) -> str:
            return self.parts[nodeid]

    if config.option.dist != "load":
        return None
    config.option.loadscopereorder = False
    return InOrder(config, log)


def unit(nodeid: str) -> str:
    """What goes to one worker: the test's file, or its room."""
    file = nodeid.partition("::")[0].removeprefix(f"{HERE.name}/")
    room = file.partition("/")[0]
    return room if room in TOGETHER else file


def is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Worker(config), "side_by_side_worker")


class Worker:
    """One process. Tests share a room; one that is ``alone`` waits at its door until nobody is in, and locks it."""

    def __init__(self, config: pytest.Config) -> None:
        shared = Path(config.option.basetemp).parent  # of all workers of this run
        # opened once: by the time of some test this process may have become an ordinary user
        self._door, self._room = ((shared / name).open("w") for name in ("door.lock", "room.lock"))
        self._inside = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """What is alone comes last, when the other workers have little left to wait with."""
        assert all((HERE / name).exists() for name in DEAREST_FIRST), "renamed? then name it here as it is called now"
        ranks = {name: rank for rank, name in enumerate(DEAREST_FIRST)}
        items.sort(key=lambda item: (is_alone(item), ranks.get(unit(item.nodeid), len(ranks))))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        """Around a test and its fixtures, and outside its timeout and its duration, which waiting is no part of."""
        alone = is_alone(item)
        if not self._inside:
            fcntl.flock(self._door, fcntl.LOCK_EX)  # behind one that is alone and waits for the room to empty
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            return (yield)
        finally:
            self._inside = alone and is_alone(nextitem)
            if not self._inside:
                fcntl.flock(self._room, fcntl.LOCK_UN)
