"""The README's numbers are the recorded ones, and its links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
README = (TOP / "README.md").read_text(encoding="utf-8")


def test_no_number_is_typed_by_hand() -> None:
    script = TOP / "benchmarks" / "readme_numbers.py"
    if not script.is_file():
        pytest.skip("no checkout: benchmarks/ is not here")
    made = runpy.run_path(str(script))
    between = README.split(made["BEGIN"])[1].split(made["END"])[0]
    assert between.strip() == made["block"](), "run python benchmarks/readme_numbers.py"


def test_links_into_the_checkout_are_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if not link.startswith(("http", "#"))]
    assert len(links) > 5
    assert [link for link in links if not (TOP / link).exists()] == []
