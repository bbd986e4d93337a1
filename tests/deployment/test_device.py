"""The agent's first words on a device."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_van.deployment.device import Device
from edge_van.deployment.transport import Local


def test_nothing_of_the_folder_it_runs_in_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's ``-c`` puts that first: a downloaded file called hashlib.py would run."""
    for name in ("hashlib", "json", "runpy", "argparse"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    with Device(Local(), root=str(tmp_path / "root"), python=(sys.executable,), paths={}) as device:
        assert device.ask("list")["active"] is None
    assert not (tmp_path / "ran").exists()
