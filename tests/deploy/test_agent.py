"""``deploy/agent``: files, deployments, releases; on this Python and on the oldest one it is for."""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy.agent_process import AGENT, AgentProcess, Refusal
from hypothesis import given
from hypothesis import strategies as st

PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
GOLDEN = [[3.0, 1.0, -2.0], [0.5, 4.0, 0.25]]


def pythons() -> list[str]:
    """This one, and the oldest that the agent is for where it is installed."""
    found = [str(path) for path in sorted(PYENV.glob("3.8.*/bin/python3.8"))] or [shutil.which("python3.8") or ""]
    return [sys.executable, found[-1]]


@pytest.fixture(params=pythons(), ids=["this", "python3.8"])
def python(request: pytest.FixtureRequest) -> str:
    path = str(request.param)
    if not path:
        pytest.skip("no Python 3.8 here (pyenv, or python3.8 on PATH)")
    return path


@pytest.fixture
def agent(python: str, tmp_path: Path) -> Iterator[AgentProcess]:
    with AgentProcess(tmp_path / "a root; with 'quotes'", python=python) as process:
        yield process


def request_of(files: dict[str, str], **texts: str) -> dict[str, Any]:
    candidate = {"runtime": "openvino", "files": files, "texts": texts, "golden": "fp32", "floor_db": 20.0}
    return {"candidates": {"fp32": candidate}, "logits": {"fp32": GOLDEN}}


def passed(agent: AgentProcess, identity: str) -> None:
    """As if the candidate's check had passed."""
    path = agent.root / "deployments" / identity / "state.json"
    path.write_text(json.dumps({"candidates": {"fp32": {"build": {"passed": True}, "check": {"passed": True}}}}))


def deployed(agent: AgentProcess, identity: str, content: bytes) -> None:
    agent.ask("install", id=identity, request=request_of({"m/a.bin": agent.send(content)}))
    passed(agent, identity)
    agent.ask("activate", id=identity, candidate="fp32")


def test_it_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(AGENT.read_text(encoding="utf-8"), feature_version=(3, 8))
    top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    top |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in top} <= sys.stdlib_module_names


def test_probe(agent: AgentProcess) -> None:
    found = agent.ask("probe")
    assert found["architecture"] == os.uname().machine
    assert found["memory_bytes"] > found["memory_free_bytes"] > 0
    assert found["disk_free_bytes"] > 0
    assert found["tensorrt"] is None
    assert found["l4t"] is None


def test_a_file_arrives_whole_or_not_at_all(agent: AgentProcess) -> None:
    content = random.Random(0).randbytes(3 << 20)
    digest = agent.send(content)
    assert (agent.root / "blobs" / digest).read_bytes() == content
    assert agent.ask("missing", files={digest: len(content)}) == {}
    wrong = "0" * 64
    with pytest.raises(Refusal, match="it is thrown away") as caught:
        agent.ask("receive", b"abc", sha256=wrong, size=3)
    assert caught.value.kind == "checksum"
    assert [p.name for p in (agent.root / "blobs").iterdir()] == [digest]


def test_an_upload_that_is_cut_goes_on_where_it_was(python: str, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(100_000)
    with AgentProcess(tmp_path, python=python) as agent:
        digest = agent.send(b"another")
        with pytest.raises(Refusal, match="not"):
            agent.ask("receive", b"x", sha256="1" * 64, size=1)
    with AgentProcess(tmp_path, python=python) as agent:
        assert agent.process.stdin is not None
        request = {"verb": "receive", "sha256": (name := _sha256(content)), "size": len(content)}
        agent.process.stdin.write(json.dumps(request).encode() + b"\n" + content[:70_000])
        agent.process.stdin.close()
        with pytest.raises(Refusal, match="70000 of 100000") as caught:
            agent._read("result")
        assert caught.value.kind == "cut"
        agent.process.wait(30)
    with AgentProcess(tmp_path, python=python) as agent:
        assert agent.ask("missing", files={name: len(content), digest: 7}) == {name: 70_000}
        assert agent.send(content) == name
        assert (tmp_path / "blobs" / name).read_bytes() == content


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "sent", [b"", b'{"verb": "li', b'{"verb": "receive", "sha256": "%s", "size": 1000}\nten bytes.']
)
def test_a_host_that_vanished_does_not_keep_the_device(python: str, tmp_path: Path, sent: bytes) -> None:
    """Its network may be gone without a word: between two requests, within one, and within a file."""
    impatient = tmp_path / "agent.py"
    text = AGENT.read_text()
    assert "\nIDLE_S = 900 " in text
    impatient.write_text(text.replace("\nIDLE_S = 900 ", "\nIDLE_S = 1 "))
    with AgentProcess(tmp_path / "root", python=python, agent=impatient) as lost:
        assert lost.process.stdin is not None
        lost.process.stdin.write(sent.replace(b"%s", b"0" * 64))
        lost.process.stdin.flush()
        lost.process.wait(10)
        with AgentProcess(tmp_path / "root", python=python) as other:
            assert other.ask("list")["active"] is None


def test_one_deploy_at_a_time(agent: AgentProcess, python: str) -> None:
    with pytest.raises(Refusal, match="another deploy is at work") as caught:
        AgentProcess(agent.root, python=python)
    assert caught.value.kind == "busy"
    agent.process.kill()  # a connection that is cut frees the device
    agent.process.wait(30)
    with AgentProcess(agent.root, python=python) as second:
        assert second.ask("list") == {"active": None, "releases": []}


def test_only_what_passed_its_check_becomes_active(agent: AgentProcess) -> None:
    deployed(agent, "one", b"1")
    agent.ask("install", id="two", request=request_of({"m/a.bin": agent.send(b"2")}))
    with pytest.raises(Refusal, match="has not passed its check"):
        agent.ask("activate", id="two", candidate="fp32")
    assert (agent.root / "current" / "m" / "a.bin").read_bytes() == b"1"


def test_activate_again_rollback_and_prune(agent: AgentProcess) -> None:
    for number in (1, 2, 3):
        deployed(agent, f"d{number}", b"%d" % number)
    assert agent.ask("activate", id="d3", candidate="fp32") == "3-d3-fp32"  # nothing new
    assert agent.ask("rollback") == ["2-d2-fp32", "d2", "fp32"]
    assert (agent.root / "current" / "m" / "a.bin").read_bytes() == b"2"
    assert agent.ask("rollback")[1] == "d1"
    with pytest.raises(Refusal, match="nothing to go back to"):
        agent.ask("rollback")
    deployed(agent, "d4", b"4")
    assert agent.ask("list")["active"] == ["4-d4-fp32", "d4", "fp32"]
    # the one before it is what was active, not the last that was given up
    assert set(agent.ask("prune", keep=1)) == {"2-d2-fp32", "3-d3-fp32", "d2", "d3"}
    assert [r[1] for r in agent.ask("list")["releases"]] == ["d1", "d4"]
    assert len(list((agent.root / "blobs").iterdir())) == 2
    assert agent.ask("rollback")[1] == "d1"


def test_what_is_damaged_does_not_become_active(agent: AgentProcess) -> None:
    deployed(agent, "one", b"good")
    deployed(agent, "two", b"2")
    (agent.root / "deployments" / "one" / "fp32" / "m" / "a.bin").write_bytes(b"evil")
    with pytest.raises(Refusal, match="is damaged on the device") as caught:
        agent.ask("rollback")
    assert caught.value.kind == "damaged"
    with pytest.raises(Refusal, match="is damaged"):
        agent.ask("activate", id="one", candidate="fp32")
    assert (agent.root / "current" / "m" / "a.bin").read_bytes() == b"2"


def test_a_state_that_is_broken_is_found_out_again(agent: AgentProcess) -> None:
    deployed(agent, "one", b"1")
    for content in ("null", "[]", '{"candidates": 3}', "{", ""):
        (agent.root / "deployments" / "one" / "state.json").write_text(content)
        assert agent.ask("state", id="one")["candidates"] == {}
    assert agent.ask("list")["active"][1] == "one"


@pytest.mark.parametrize("name", ["engine", "engine/model.engine", "engine.json"])
def test_names_of_the_agents_own(agent: AgentProcess, name: str) -> None:
    with pytest.raises(Refusal, match="of the agent's own"):
        agent.ask("install", id="one", request=request_of({name: agent.send(b"x")}))


def test_a_strange_link_among_the_releases(agent: AgentProcess) -> None:
    deployed(agent, "one", b"1")
    (agent.root / "releases" / "9-x-y").symlink_to("/")
    assert [r[1] for r in agent.ask("list")["releases"]] == ["one"]


def test_a_child_ends_with_the_host(python: str, tmp_path: Path) -> None:
    """A build that lasts holds the device no longer than its host is there."""
    slow = tmp_path / "trtexec"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    root = tmp_path / "root"
    with AgentProcess(root, python=python, paths={"trtexec": str(slow)}) as agent:
        candidate = {"runtime": "tensorrt", "files": {"a": agent.send(b"x")}, "texts": {}, "engine": "engine/m"}
        request = {"candidates": {"int8": {**candidate, "build": ["--x={0}"]}}, "logits": {}}
        agent.ask("install", id="one", request=request)
        assert agent.process.stdin is not None
        agent.process.stdin.write(b'{"verb": "build", "id": "one", "candidate": "int8"}\n')
        agent.process.stdin.flush()
        until = time.monotonic() + 30
        while not (root / "deployments/one/.work/int8/build.log").exists() and time.monotonic() < until:
            time.sleep(0.05)
        agent.process.stdin.close()
        assert agent.process.wait(20) is not None
    with AgentProcess(root, python=python) as second:
        assert second.ask("list")["active"] is None
    assert (root / "deployments/one/.work/int8/build.log").read_text() == f"{slow} --x={{0}}\n"


def test_a_damaged_file_is_sent_again_and_its_candidate_starts_anew(agent: AgentProcess) -> None:
    deployed(agent, "one", b"good")
    digest = _sha256(b"good")
    (agent.root / "blobs" / digest).write_bytes(b"evil")  # the deployment's file is the same one
    assert agent.ask("missing", files={digest: 4}) == {digest: 0}
    agent.send(b"good")
    agent.ask("install", id="one", request=request_of({"m/a.bin": digest}))
    assert (agent.root / "current" / "m" / "a.bin").read_bytes() == b"good"
    assert agent.ask("state", id="one")["candidates"] == {}


def test_a_file_that_is_sent_again_mends_every_deployment(agent: AgentProcess) -> None:
    deployed(agent, "one", b"good")
    digest = _sha256(b"good")
    agent.ask("install", id="two", request=request_of({"m/a.bin": digest, "m/b.bin": agent.send(b"more")}))
    passed(agent, "two")
    agent.ask("activate", id="two", candidate="fp32")
    (agent.root / "blobs" / digest).write_bytes(b"evil")
    with pytest.raises(Refusal, match="damaged on the device"):
        agent.ask("rollback")
    (agent.root / "deployments" / "one" / "fp32" / "m" / "a.bin").unlink()
    agent.send(b"good")
    agent.ask("install", id="three", request=request_of({"m/c.bin": agent.send(b"other")}))  # any install mends
    for identity in ("one", "two"):
        assert (agent.root / "deployments" / identity / "fp32" / "m" / "a.bin").read_bytes() == b"good"
        assert agent.ask("state", id=identity)["candidates"]["fp32"]["check"]["passed"]  # of these very bytes
    assert agent.ask("rollback") == ["1-one-fp32", "one", "fp32"]


def test_programs_are_of_this_users_home(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "py").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "py").chmod(0o755)
    with AgentProcess(tmp_path / "root", python=python, paths={"python": ["~/py"], "trtexec": "~/none"}) as agent:
        found = agent.ask("probe")
    assert found["openvino"]["version"].startswith("20")
    assert found["errors"] == {"tensorrt": f"{tmp_path}/none: No such file or directory"}


def test_a_text_that_is_damaged(agent: AgentProcess) -> None:
    texts = {"active.json": "{}"}
    agent.ask("install", id="one", request=request_of({"m/a.bin": agent.send(b"good")}, **texts))
    passed(agent, "one")
    (agent.root / "deployments" / "one" / "fp32" / "active.json").write_text("{")
    with pytest.raises(Refusal, match=r"active\.json of fp32 is damaged on the device"):
        agent.ask("activate", id="one", candidate="fp32")


def test_a_root_and_programs_by_relative_paths(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "bin" / "trtexec"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\npwd\necho '[TensorRT v100300]'\n")
    program.chmod(0o755)
    with AgentProcess(Path("here"), python=python, paths={"trtexec": "bin/trtexec"}) as agent:
        agent.ask("install", id="one", request=request_of({"m/a.bin": agent.send(b"good")}))
        assert agent.ask("probe")["tensorrt"] == "10.3.0"
    assert (tmp_path / "here" / "deployments" / "one" / "fp32" / "m" / "a.bin").read_bytes() == b"good"


@pytest.mark.parametrize(
    "path", ["../a", "/etc/passwd", "a/../../b", "a\\b", "", ".", "a//b", "./a"], ids=lambda p: repr(p)
)
def test_no_path_leads_out(agent: AgentProcess, path: str) -> None:
    digest = agent.send(b"x")
    for request in (request_of({path: digest}), {"candidates": {path: request_of({})}, "logits": {}}):
        with pytest.raises(Refusal) as caught:
            agent.ask("install", id="one", request=request)
        assert caught.value.kind == "request"
    with pytest.raises(Refusal):
        agent.ask("install", id=f"{path}/x", request=request_of({"a": digest}))
    assert {p.name for p in agent.root.iterdir()} == {"blobs", "deployments", "releases", "lock"}


def test_what_cannot_be_meant_is_refused_and_the_next_request_answered(agent: AgentProcess) -> None:
    for request in (
        {"verb": "fly"},
        {"verb": "build"},
        {"verb": "state", "id": "none"},
        {"verb": "missing", "files": 3},
    ):
        with pytest.raises(Refusal) as caught:
            agent.ask(**request)
        assert caught.value.kind == "request"
    assert agent.ask("list")["active"] is None


def test_a_person_on_the_device(python: str, tmp_path: Path) -> None:
    with AgentProcess(tmp_path, python=python) as agent:
        deployed(agent, "one", b"1")
        deployed(agent, "two", b"2")

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [python, str(AGENT), "--root", str(tmp_path), *words], capture_output=True, text=True, check=False
        )
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    assert run("rollback") == (0, {"event": "result", "value": ["1-one-fp32", "one", "fp32"]})
    assert run("list")[1]["value"]["active"][1] == "one"
    assert run("activate", "two", "fp32")[1]["value"] == "3-two-fp32"
    code, said = run("activate", "two", "int8")
    assert (code, said["kind"]) == (1, "unchecked")


# --- what it reads and decides ---


def agent_module() -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("edge_van_agent", AGENT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULE = agent_module()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("# R35 (release), REVISION: 3.1, GCID: 32790763, BOARD: t186ref, EABI: aarch64, DATE: Mon", "35.3.1"),
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "36.4.3"),
        ("# R38 (release), REVISION: 2.0, GCID: 1", "38.2.0"),
        ("", None),
    ],
)
def test_l4t(text: str, version: str | None) -> None:
    assert MODULE.l4t(text) == version


@pytest.mark.parametrize(
    ("digits", "version"), [("8502", "8.5.2"), ("8602", "8.6.2"), ("100300", "10.3.0"), ("101302", "10.13.2")]
)
def test_the_version_of_trtexec(digits: str, version: str) -> None:
    assert MODULE.tensorrt_version(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{digits}] # trtexec --help") == version
    assert MODULE.tensorrt_version("trtexec: not found") is None


def test_power_mode() -> None:
    assert MODULE.power_mode("NV Power Mode: MAXN\n0") == "MAXN"
    assert MODULE.power_mode("NV Power Mode: 15W\n2\n") == "15W"
    assert MODULE.power_mode(None) is None


@pytest.mark.parametrize(
    ("line", "rail", "sensor"),
    [
        (
            "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,0%@2201] GR3D_FREQ 12%@[1300,1300] "
            "cpu@48.187C gpu@47.625C VDD_GPU_SOC 5139mW/5120mW/5139mW VDD_CPU_CV 800mW/812mW/900mW",
            ("VDD_GPU_SOC", 5139),
            ("gpu", 47.625),
        ),
        (
            "RAM 2448/7620MB (lfb 3x4MB) SWAP 0/3810MB GR3D_FREQ 10%@1000 tj@50.5C cv0@-256C "
            "VDD_IN 5018mW/5018mW VDD_SOC 1500mW/1500mW",
            ("VDD_IN", 5018),
            ("tj", 50.5),
        ),
    ],
)
def test_a_line_of_tegrastats(line: str, rail: tuple[str, int], sensor: tuple[str, float]) -> None:
    found = MODULE.parse_tegrastats(line)
    assert found["rails_mw"][rail[0]] == rail[1]
    assert found["temperatures_c"][sensor[0]] == sensor[1]
    assert "cv0" not in found["temperatures_c"]
    summary = MODULE.summary_of([found, found])
    assert summary["rails_mw"][rail[0]] == {"mean": rail[1], "max": rail[1]}


def test_logits_are_compared() -> None:
    compared: Callable[..., tuple[str | None, float | None]] = MODULE.compared
    assert compared(GOLDEN, GOLDEN, 40.0) == (None, None)
    near = [[value * 1.01 for value in row] for row in GOLDEN]
    error, sqnr_db = compared(near, GOLDEN, 30.0)
    assert error is None
    assert sqnr_db == pytest.approx(40.0)
    for logits, words in (
        (near, "40.0 dB SQNR, at least 50.0"),
        ([GOLDEN[1], GOLDEN[0]], "image 0 is class 1, not 0"),
        ([[float("nan")] * 3, GOLDEN[1]], "no number"),
        ([[float("inf"), 0, 0], GOLDEN[1]], "no number"),
        ([GOLDEN[0]], "1 outputs came for 2"),
        ([GOLDEN[0], GOLDEN[1][:2]], "of another length"),
    ):
        error, _ = compared(logits, GOLDEN, 50.0)
        assert error is not None
        assert words in error


@given(st.text(max_size=40))
def test_a_name_or_path_is_one_or_is_refused(text: str) -> None:
    root = Path("/somewhere")
    for check in (MODULE.checked_name, MODULE.checked_path):
        try:
            kept = check(text)
        except MODULE.RefusedError:
            continue
        assert root in (root / kept).parents
        assert os.path.normpath(root / kept) == str(root / kept)
