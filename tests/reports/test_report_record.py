"""``edge_van.reports.record``: a report is read back as it was written, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bundle_samples import one_line

from edge_van.errors import UsageError, VerificationError
from edge_van.reports.record import REPORT_KIND, Report, encode_report, read_report, report_schema

COMPARISON = {"first": "another", "second": "one", "same_run": False, "sentences": []}


def test_a_report_round_trips(single: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(encode_report(single))
    assert read_report(path) == single
    assert encode_report(read_report(path)) == path.read_bytes()
    jsonschema.validate(json.loads(path.read_bytes()), report_schema())


def test_a_report_of_the_time_when_the_cores_were_watched_is_read(single: Report, tmp_path: Path) -> None:
    document = json.loads(encode_report(single))
    run, path = document["runs"][0], tmp_path / "report.json"
    run["conditions"]["core_round_trip_us"] = 0.213
    run["doubts"] = [{"kind": "cores_apart", "scenario": "offline", "models": [], "text": "the cores lay apart"}]
    path.write_text(json.dumps(document))
    jsonschema.validate(document, report_schema())
    assert [d.text for d in read_report(path).runs[0].doubts] == ["the cores lay apart"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 99}, ("version 99", "reads 1 to 3")),
        ({"schema_version": 0}, ("version 0", "reads 1 to 3")),
        ({"kind": "edge-van benchmark"}, ("'edge-van benchmark'", f"no {REPORT_KIND}")),
        ({"verdicts": []}, ("has not one verdict for each",)),
        ({"sides": [], "verdicts": []}, ("has not one verdict for each",)),
        ({"runs": []}, ("names a run that it does not hold",)),
        ({"comparisons": [COMPARISON]}, ("compares a side that",)),
        ({"sides": 3}, ("no report", "sides")),
    ],
    ids=["newer", "older", "other", "no-verdict", "nothing", "no-run", "comparison", "type"],
)
def test_what_is_no_report_is_refused(
    single: Report, tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({**json.loads(encode_report(single)), **changes}))
    with pytest.raises(UsageError) as caught:
        read_report(path)
    one_line(caught, *words)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"kind": "\xff"}', b"[" * 100_000])
def test_broken_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_report(path)
    one_line(caught, "report.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read_report(tmp_path / "absent.json")


def test_what_could_not_be_read_again_is_not_written(single: Report) -> None:
    """JSON has no NaN: msgspec writes null, which stands for no probability at all."""
    [side] = single.sides
    assert side.explanation is not None
    [first, *rest] = side.explanation.flips
    for probability in (float("nan"), 1.5):
        with pytest.raises(UsageError, match="a probability is from 0 to 1"):
            replace(first.int8, probability=probability)
    text = replace(first, image="a\udcff.png")
    explained = replace(side, explanation=replace(side.explanation, flips=(text, *rest)))
    with pytest.raises(VerificationError) as caught:
        encode_report(replace(single, sides=(explained,)))
    one_line(caught, "not written", "could not be read again")
