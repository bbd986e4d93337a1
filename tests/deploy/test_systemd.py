"""``deploy/systemd``: the units as systemd itself reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).resolve().parents[2] / "deploy" / "systemd").iterdir())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here: install systemd")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    program = tmp_path / "edge-van" / "bin" / "edge-van"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS:  # %h is the home of whoever asks
        (tmp_path / unit.name).write_text(unit.read_text().replace("%h", str(tmp_path)))
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "edge-van" in line]
    assert (done.returncode, said) == (0, [])
    (tmp_path / "edge-van-pull.timer").write_text("[Timer]\nOnCalendar=sometimes\n")
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "sometimes" in wrong.stderr
