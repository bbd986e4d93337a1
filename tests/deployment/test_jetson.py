"""``edge_van.deployment`` on a Jetson's stand-in, through a real OpenSSH server: flags, proofs, choice, failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from deployment.jetsons import FILES, TIMES, target_of
from deployment.sshd import HOST, SSHServer, ssh_server
from jetson_stand_in import JETPACKS, JetPack, jetson

from edge_van.bundle.active import active_model
from edge_van.bundle.bundle import Bundle, open_bundle
from edge_van.deployment.rollout import Deployed, DeployOptions, deploy
from edge_van.deployment.targets import Target
from edge_van.errors import UsageError, VerificationError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def run(bundle: Bundle, server: SSHServer, target: Target, root: Path, **more: object) -> Deployed:
    options = DeployOptions(ssh_config=server.config, root=str(root), **more)  # type: ignore[arg-type]
    return deploy(bundle, HOST, target, options=options)


@pytest.mark.parametrize("jetpack", JETPACKS, ids=lambda j: j.tensorrt)
def test_each_version_gets_its_flags(
    jetpack: JetPack, jetson_bundle: Bundle, server: SSHServer, graph_files: dict[str, Path], tmp_path: Path
) -> None:
    stand_in = jetson(tmp_path / "jetson", jetpack, graph_files, TIMES)
    name = {"5.1.1": "jetson-xavier", "7.0": "jetson-thor"}.get(jetpack.name, "jetson-orin-nano")
    done = run(jetson_bundle, server, target_of(stand_in, name), tmp_path / "root")
    assert (done.device["l4t"], done.device["tensorrt"]) == (jetpack.l4t, jetpack.tensorrt)
    assert done.device["power_mode"] == "MAXN"
    assert "tegra234" in done.device["clocks"]
    assert {row.name: row.error for row in done.rows} == dict.fromkeys(FILES, "")
    assert done.choice.active == "int8"
    assert done.choice.table[0].median_ms == pytest.approx(0.504)
    rails = done.conditions["during"]["rails_mw"]
    assert all(values["mean"] == values["max"] > 5000 for name, values in rails.items() if name != "VDD_SOC")
    builds = [set(call) for call in stand_in.calls if any(word.startswith("--onnx=") for word in call)]
    assert len(builds) == 3
    strong = {"9", "10"} & {jetpack.tensorrt.split(".")[0]}
    assert all(("--stronglyTyped" in build) is bool(strong) for build in builds)
    assert any("--int8" in build for build in builds) is jetpack.tensorrt.startswith("8")
    unproved = [warning for warning in done.warnings if "is not proved" in warning]
    assert bool(unproved) is (jetpack.tensorrt == "8.5.2")


def test_the_engine_is_openable_from_python(
    jetson_bundle: Bundle, server: SSHServer, graph_files: dict[str, Path], tmp_path: Path
) -> None:
    stand_in = jetson(tmp_path / "jetson", JETPACKS[1], graph_files, TIMES)
    run(jetson_bundle, server, target_of(stand_in), tmp_path / "root")
    found = active_model(open_bundle(tmp_path / "root" / "current"))
    assert found is not None
    assert (found.model.runtime, found.model.scheme, found.model.takes) == ("tensorrt", "int8", "floats")
    found.bundle.check(*found.model.files)  # the engine too
    assert found.model.graph == FILES["int8"]


def test_a_root_with_letters_that_trtexec_splits_at(
    jetson_bundle: Bundle, server: SSHServer, graph_files: dict[str, Path], tmp_path: Path
) -> None:
    stand_in = jetson(tmp_path / "jetson", JETPACKS[1], graph_files, TIMES)
    done = run(jetson_bundle, server, target_of(stand_in), tmp_path / "one, two: 'three'; four")
    assert {row.name: row.error for row in done.rows} == dict.fromkeys(FILES, "")


def test_a_root_by_a_relative_path(
    jetson_bundle: Bundle, graph_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trtexec is run in another folder."""
    monkeypatch.chdir(tmp_path)
    stand_in = jetson(tmp_path / "jetson", JETPACKS[1], graph_files, TIMES)
    target = replace(target_of(stand_in), paths={**stand_in.paths, "trtexec": "jetson/trtexec"})
    done = deploy(jetson_bundle, "local", target, options=DeployOptions(root="here"))
    assert {row.name: row.error for row in done.rows} == dict.fromkeys(FILES, "")
    assert (tmp_path / "here" / "current" / "engine" / "model.engine").is_file()


def test_a_scheme_that_cannot_be_built_does_not_sink_the_others(
    jetson_bundle: Bundle, server: SSHServer, graph_files: dict[str, Path], tmp_path: Path
) -> None:
    stand_in = jetson(tmp_path / "jetson", JETPACKS[1], graph_files, TIMES, broken=("int8",))
    done = run(jetson_bundle, server, target_of(stand_in), tmp_path / "root")
    errors = {row.name: row.error for row in done.rows}
    assert "Could not find any implementation" in errors["int8"]
    assert done.choice.active == "int8_pointwise"
    calls = len(stand_in.calls)
    again = run(jetson_bundle, server, target_of(stand_in), tmp_path / "root")
    assert again.release == done.release
    built = [call for call in stand_in.calls[calls:] if any(word.startswith("--onnx=") for word in call)]
    assert len(built) == 1  # what failed is tried again, what was built is there


def test_an_engine_that_computes_something_else_is_not_chosen(
    jetson_bundle: Bundle, server: SSHServer, graph_files: dict[str, Path], tmp_path: Path
) -> None:
    stand_in = jetson(tmp_path / "jetson", JETPACKS[1], graph_files, TIMES, wrong=("int8",))
    done = run(jetson_bundle, server, target_of(stand_in), tmp_path / "root")
    row = next(row for row in done.rows if row.name == "int8")
    assert not row.passed_check
    assert "image 0 is class" in row.error
    assert done.choice.active == "int8_pointwise"


def test_an_engine_in_another_datatype_is_not_chosen(
    jetson_bundle: Bundle, server: SSHServer, graph_files: dict[str, Path], tmp_path: Path
) -> None:
    stand_in = jetson(tmp_path / "jetson", JETPACKS[1], graph_files, TIMES, widened=("int8",))
    done = run(jetson_bundle, server, target_of(stand_in), tmp_path / "root")
    row = next(row for row in done.rows if row.name == "int8")
    assert "is INT8 in the graph and runs in fp32" in row.error
    assert done.choice.active == "int8_pointwise"


def test_the_budget_decides_before_the_time(
    jetson_bundle: Bundle, server: SSHServer, graph_files: dict[str, Path], tmp_path: Path
) -> None:
    stand_in = jetson(tmp_path / "jetson", JETPACKS[1], graph_files, TIMES)
    target = target_of(stand_in)
    assert run(jetson_bundle, server, target, tmp_path / "root", max_drop_points=0.5).choice.active == "int8_pointwise"
    assert run(jetson_bundle, server, target, tmp_path / "root", max_drop_points=0.1).choice.active == "fp32"
    state = json.loads(next((tmp_path / "root" / "deployments").glob("*/state.json")).read_text())
    assert state["choice"]["active"] == "fp32"
    assert [row["scheme"] for row in state["choice"]["table"]] == list(FILES)


def test_nothing_that_can_be_built(
    jetson_bundle: Bundle, server: SSHServer, graph_files: dict[str, Path], tmp_path: Path
) -> None:
    stand_in = jetson(tmp_path / "jetson", JETPACKS[1], graph_files, TIMES, broken=tuple(FILES))
    with pytest.raises(VerificationError, match=r"nothing becomes active.*int8: not built"):
        run(jetson_bundle, server, target_of(stand_in), tmp_path / "root")
    assert not (tmp_path / "root" / "current").exists()


def test_a_jetpack_that_is_too_old(
    jetson_bundle: Bundle, server: SSHServer, graph_files: dict[str, Path], tmp_path: Path
) -> None:
    stand_in = jetson(tmp_path / "jetson", JETPACKS[0], graph_files, TIMES)
    with pytest.raises(UsageError, match=r"does not fit the target Jetson Orin Nano: it has L4T 35\.3\.1"):
        run(jetson_bundle, server, target_of(stand_in), tmp_path / "root")
