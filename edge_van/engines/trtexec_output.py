"""What ``trtexec`` prints and exports, read into numbers: the formats of TensorRT 8.6, 10.x and 11.x.

In: text. Out: frozen records; a line that is missing is None, a line that is there and cannot be read is an error.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from edge_van.errors import DataError

_NUMBER = r"[-+]?(?:inf(?:inity)?|nan|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_BANNER = re.compile(r"&&&& (?P<state>RUNNING|PASSED|FAILED) TensorRT\.trtexec \[TensorRT v(?P<version>\d+)\]")
_PAIR = re.compile(rf"(?P<key>[a-z]+(?:\(\d+%\))?) = (?P<value>{_NUMBER}) ms", re.IGNORECASE)
_PREFIX = r"(?:\[[^\]]*\] \[[A-Z]\] )?\s*"


@dataclass(frozen=True)
class Statistics:
    """One line of the summary, milliseconds. A percentile that was not asked for is None."""

    min_ms: float
    max_ms: float
    mean_ms: float
    median_ms: float
    percentiles_ms: dict[int, float]


@dataclass(frozen=True)
class Summary:
    """The performance summary. Compare ``gpu_compute`` across versions: what ``latency`` holds has changed."""

    version: str
    passed: bool
    throughput_qps: float | None
    latency: Statistics | None
    enqueue: Statistics | None
    h2d: Statistics | None
    gpu_compute: Statistics | None
    d2h: Statistics | None
    host_walltime_s: float | None
    gpu_compute_total_s: float | None


def version_of(digits: str) -> str:
    """ "10.3.0" from "100300", "8.6.2" from "8602": two digits a part from 10 on, one before."""
    number = int(digits)
    if number >= 10_000:
        return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
    return f"{number // 1000}.{number // 100 % 10}.{number % 100}"


def parse_summary(text: str) -> Summary:
    """The summary in what trtexec printed; ``DataError`` if the text is not trtexec's."""
    banners = list(_BANNER.finditer(text))
    if not banners:
        raise DataError("this is no output of trtexec: it has no line '&&&& ... TensorRT.trtexec [TensorRT v...]'")
    return Summary(
        version=version_of(banners[-1]["version"]),
        passed=banners[-1]["state"] == "PASSED",
        throughput_qps=_single(text, "Throughput", "qps"),
        latency=_statistics(text, "Latency"),
        enqueue=_statistics(text, "Enqueue Time"),
        h2d=_statistics(text, "H2D Latency"),
        gpu_compute=_statistics(text, "GPU Compute Time"),
        d2h=_statistics(text, "D2H Latency"),
        host_walltime_s=_single(text, "Total Host Walltime", "s"),
        gpu_compute_total_s=_single(text, "Total GPU Compute Time", "s"),
    )


def _line(text: str, name: str) -> str | None:
    # the last one: with --loadEngine behind --saveEngine a log may hold two runs. A verbose one explains its words too:
    # "Latency: the summation of ..."
    lines = re.findall(rf"^{_PREFIX}{re.escape(name)}: (.*)$", text, re.MULTILINE)
    figures = [line for line in lines if re.match(rf"(?:[a-z]+ = )?{_NUMBER}\b", line, re.IGNORECASE)]
    return str((figures or lines)[-1]) if lines else None


def _single(text: str, name: str, unit: str) -> float | None:
    if (line := _line(text, name)) is None:
        return None
    match = re.fullmatch(rf"({_NUMBER}) {unit}\s*", line, re.IGNORECASE)
    if match is None:
        raise DataError(f"trtexec's line '{name}: {line}' is not a number of {unit}")
    return float(match[1])


def _statistics(text: str, name: str) -> Statistics | None:
    if (line := _line(text, name)) is None:
        return None
    values = {m["key"].lower(): float(m["value"]) for m in _PAIR.finditer(line)}
    if missing := [key for key in ("min", "max", "mean", "median") if key not in values]:
        raise DataError(f"trtexec's line '{name}: {line}' lacks {', '.join(missing)}")
    percentiles = {
        int(match[1]): value for key, value in values.items() if (match := re.fullmatch(r"percentile\((\d+)%\)", key))
    }
    return Statistics(values["min"], values["max"], values["mean"], values["median"], percentiles)


def parse_times(text: str) -> tuple[float, ...]:
    """GPU compute time of every inference in ``--exportTimes``, milliseconds.

    Before 8.6 the key is "computeMs" as well; entries that hold no finite number are a ``DataError``.
    """
    entries = _json_list(text, "--exportTimes")
    if not entries:
        raise DataError("trtexec's --exportTimes holds no inference: let it run longer")
    times = []
    for i, entry in enumerate(entries):
        value = entry.get("computeMs") if isinstance(entry, dict) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise DataError(f"entry {i} of trtexec's --exportTimes has no finite computeMs: {str(entry)[:80]}")
        times.append(float(value))
    return tuple(times)


def _number(entry: dict[str, Any], key: str) -> float | None:
    value = entry.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _json_list(text: str, what: str) -> list[Any]:
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"what trtexec's {what} wrote is no JSON ({error})") from error
    if not isinstance(document, list):
        raise DataError(f"what trtexec's {what} wrote is no JSON array but {type(document).__name__}")
    return document
