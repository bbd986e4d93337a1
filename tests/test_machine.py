"""``edge_van.machine``: the record of the machine a number comes from, on the one that runs the tests."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_van import machine
from edge_van.machine import (
    Machine,
    describe_machine,
    has_vnni,
    is_arm,
    is_this_cpu,
    load_average,
    parse_cpu_info,
    versions,
)


def test_record_is_of_this_machine() -> None:
    record = describe_machine()
    assert record.cpu
    assert "(family " in record.cpu
    assert record.architecture == platform.machine()
    assert 1 <= record.physical_cores <= record.logical_cores
    assert record.logical_cores == os.cpu_count()
    assert 0.1 < record.memory_gib < 1e5
    assert record.system.startswith(platform.system())
    assert record.python == platform.python_version()
    assert record.load_average_1min >= 0


def test_record_keeps_only_flags_that_choose_kernels() -> None:
    flags = describe_machine().flags
    assert list(flags) == sorted(set(flags))
    assert not {"fpu", "lm", "sse2", "hypervisor"} & set(flags)
    if platform.machine() == "x86_64":
        assert any(flag.startswith(("sse4", "avx")) for flag in flags)


def test_machine_record_round_trips_through_json() -> None:
    record = describe_machine()
    assert msgspec.json.decode(msgspec.json.encode(record), type=Machine) == record


def test_record_names_no_host_and_no_user() -> None:
    text = msgspec.json.encode(describe_machine()).decode()
    node = platform.node()
    assert len(node) < 4 or node not in text
    assert os.path.expanduser("~") == "/" or os.path.expanduser("~") not in text  # noqa: PTH111


def test_versions_are_the_installed_ones() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert {"torch", "openvino", "onnxruntime"} <= set(found)
    assert all(found.values())


def test_load_average_is_rounded() -> None:
    load = load_average()
    assert load == round(load, 2) >= 0


def test_vnni_is_what_the_flags_say() -> None:
    found = has_vnni()
    assert isinstance(found, bool)
    assert found == has_vnni(describe_machine().flags)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("avx2", "fma"), False),
        (("avx512f", "avx512bw"), False),
        (("avx512_vnni",), True),
        (("avx_vnni",), True),
        (("avx512vnni",), True),
        (("asimd",), False),
        (("asimd", "asimddp"), True),
        (("i8mm",), True),
        (("amx_bf16",), False),
        (("amx_int8",), True),
        ((), False),
    ],
)
def test_vnni_of_other_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], expected: bool
) -> None:
    # a stand-in for processors that are not there: the flags as the kernel lists them
    assert has_vnni(flags) is expected
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    assert has_vnni() is False
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {' '.join(flags)}\n")
    assert has_vnni() is expected


def test_the_kernels_text_is_read_on_x86_and_arm() -> None:
    assert parse_cpu_info("model name\t: A CPU\nflags\t\t: avx2 fma\n\nflags\t\t: avx2\n") == (
        "A CPU",
        frozenset({"avx2", "fma"}),
    )
    assert parse_cpu_info("processor : 0\nFeatures : fp asimd asimddp\nCPU part : 0xd0c\n") == (
        None,
        frozenset({"fp", "asimd", "asimddp"}),
    )
    assert parse_cpu_info("") == (None, frozenset())


@pytest.mark.skipif(is_arm(), reason="an ARM kernel does not name the CPU")
def test_what_was_measured_here_holds_here_and_on_no_other_machine() -> None:
    here = describe_machine()
    assert is_this_cpu(here)
    for other in (
        replace(here, cpu=f"{here.cpu[:-1]}1)"),
        replace(here, cpu=here.cpu.partition(" (")[0] + " 96-Core"),
        replace(here, flags=here.flags[1:]),
        replace(here, logical_cores=here.logical_cores + 1),
        replace(here, versions=here.versions | {"openvino": "2020.1"}),
    ):
        assert not is_this_cpu(other), other


def test_where_the_kernel_does_not_name_the_cpu_nothing_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    assert not is_this_cpu(describe_machine())
