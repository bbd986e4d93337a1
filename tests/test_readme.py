"""The README's numbers are the recorded ones, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmark_scripts import script

TOP = Path(__file__).parent.parent
README = (TOP / "README.md").read_text(encoding="utf-8")


def test_no_number_is_typed_by_hand() -> None:
    if not (TOP / "benchmarks").is_dir():
        pytest.skip("no checkout: benchmarks/ is not here")
    numbers = script("readme_numbers")
    between = README.split(numbers.BEGIN)[1].split(numbers.END)[0]
    assert between.strip() == numbers.block(), "run python benchmarks/readme_numbers.py"


def test_links_into_the_checkout_are_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if not link.startswith(("http", "#"))]
    assert len(links) > 5
    assert [link for link in links if not (TOP / link).exists()] == []
