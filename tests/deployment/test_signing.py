"""Signed bundles on a device that trusts a key: what is refused there, and how keys are changed; OpenSSH signs."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deployment.jetsons import TIMES, target_of
from jetson_stand_in import JETPACKS, jetson

from edge_van.assets import DEPLOY_AGENT, asset
from edge_van.bundle.bundle import Bundle, open_bundle, verify
from edge_van.bundle.files import file_entry
from edge_van.bundle.layout import INT8_IR, RELEASE_NAME, SIGNATURE_NAME, with_weights
from edge_van.bundle.manifest import MANIFEST_NAME, encoded
from edge_van.deployment.connection import open_device
from edge_van.deployment.device import RefusedError
from edge_van.deployment.plan import make_plan
from edge_van.deployment.releases import DeviceOptions, list_releases, rollback, trust
from edge_van.deployment.rollout import Deployed, DeployOptions, deploy
from edge_van.deployment.signing import LIST_NAMESPACE, allowed_signers, sign, signature_of, signed_parts
from edge_van.deployment.targets import Target, load_target
from edge_van.deployment.transport import Local
from edge_van.errors import BundleError, MissingRuntimeError, UsageError

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen: install openssh-client")
WEIGHTS = with_weights(INT8_IR)[1]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Private keys; the public ones end in .pub."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("old", "new", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    return {path.name: path for path in folder.iterdir() if path.suffix != ".pub"}


@pytest.fixture(scope="module")
def target() -> Target:
    return replace(load_target("cpu-x86"), python=(sys.executable,), seconds=0.1, warm_up_s=0.0, rounds=1)


@pytest.fixture
def bundle(device_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy that may be signed and changed."""
    shutil.copytree(device_bundle.path, tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")


@pytest.fixture
def root(keys: dict[str, Path], tmp_path: Path) -> Path:
    """Of a device that trusts the old key."""
    place = tmp_path / "a device"
    trust("local", [public(keys["old"])], options=DeviceOptions(root=str(place)))
    return place


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


@pytest.fixture
def deployed(target: Target, root: Path) -> Callable[..., Deployed]:
    def run(bundle: Bundle, candidate: str = "openvino") -> Deployed:
        return deploy(bundle, "local", target, options=DeployOptions(candidates=(candidate,), root=str(root)))

    return run


def active(root: Path) -> str | None:
    found = list_releases("local", DeviceOptions(root=str(root))).active
    return None if found is None else found.name


def test_what_is_signed_becomes_active_and_nothing_else(
    bundle: Bundle, keys: dict[str, Path], root: Path, deployed: Callable[..., Deployed]
) -> None:
    with pytest.raises(RefusedError, match="the bundle is not signed: sign it") as unsigned:
        deployed(bundle)
    assert unsigned.value.kind == "unsigned"

    sign(bundle, keys["stranger"])
    with pytest.raises(RefusedError, match=r"signed by the key SHA256:\S+, which is none that this device") as stranger:
        deployed(bundle)
    assert stranger.value.kind == "untrusted"
    assert active(root) is None

    sign(bundle, keys["old"], 7)
    assert verify(bundle) == []
    first = deployed(bundle)
    assert active(root) == first.release

    sign(bundle, keys["old"], 6)
    with pytest.raises(RefusedError, match="release 6, and 7 was active: to go back, roll back") as older:
        deployed(bundle, "fp32")
    assert older.value.kind == "older"
    assert active(root) == first.release

    sign(bundle, keys["old"])  # by the time
    second = deployed(bundle, "fp32")
    assert second.before == first.release
    assert rollback("local", DeviceOptions(root=str(root))).name == first.release


def test_one_byte_is_another(bundle: Bundle, keys: dict[str, Path], root: Path, target: Target) -> None:
    """Whoever alters a file and all that lists it is left with what is signed; a host that looks away changes
    nothing."""
    sign(bundle, keys["old"])
    signed = signed_parts(bundle)
    path = bundle.path / WEIGHTS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="sha256 differs"):
        sign(bundle, keys["old"])

    files = tuple(file_entry(bundle.path, entry.path) for entry in bundle.manifest.files)
    manifest = encoded(replace(bundle.manifest, files=files))
    (bundle.path / MANIFEST_NAME).write_bytes(manifest)
    altered = open_bundle(bundle.path)
    with pytest.raises(BundleError, match="changed after it was signed"):
        deploy(altered, "local", target, options=DeployOptions(root=str(root)))

    assert signed is not None
    forged = json.loads(signed["release"])
    forged["manifest_sha256"] = hashlib.sha256(manifest).hexdigest()
    with open_device(Local(), target, str(root)) as device:
        probe = device.ask("probe")
        plan = make_plan(altered, target, probe, ("openvino",))
        for digest, blob in plan.blobs().items():
            device.send(digest, blob, 0, lambda _: None)
        for parts, words in (
            (signed, f"{WEIGHTS} is not of what was signed"),
            ({**signed, "manifest": manifest.decode()}, "has another manifest than the signed one"),
            ({**signed, "release": json.dumps(forged)}, "is not what was signed"),
            ({**signed, "signature": "no signature"}, "is not what was signed"),
        ):
            with pytest.raises(RefusedError, match=words) as refused:
                device.ask("install", id=plan.identity, request=plan.request, signed=parts)
            assert refused.value.kind == "altered"
        assert device.ask("list")["releases"] == []


FORGED: dict[str, Callable[[dict[str, Any], dict[str, str]], object]] = {
    "another file": lambda c, sent: c["files"].update({"openvino/extra.bin": sent["x"]}),
    "another manifest": lambda c, sent: c["files"].update({MANIFEST_NAME: sent["y"]}),
    "no manifest": lambda c, sent: c["files"].pop(MANIFEST_NAME),
    "the images as a model": lambda c, sent: c.update(model=c["images"]),
    "no weights": lambda c, sent: c["files"].pop(WEIGHTS),
    "weights as a text": lambda c, sent: (c["files"].pop(WEIGHTS), c["texts"].update({WEIGHTS: "evil"})),
    "a record of no engine": lambda c, sent: c["files"].update({"x/engine.json": sent["x"]}),
    "an engine of its own": lambda c, sent: c.update(engine="openvino/evil.xml", build=[], bench=[]),
    "an engine from elsewhere": lambda c, sent: c.update(
        engine="engine/model.engine",
        runtime="tensorrt",
        build=["--onnx={folder}/openvino/model.xml"],
        bench=["--loadEngine=/elsewhere"],
        texts={"active.json": json.dumps({"file": "engine/model.engine"})},
    ),
    "times into another file": lambda c, sent: c.update(
        engine="engine/model.engine",
        runtime="tensorrt",
        build=["--onnx={folder}/openvino/model.xml", "--exportTimes=allowed_signers"],
        bench=[],
        texts={"active.json": json.dumps({"file": "engine/model.engine"})},
    ),
    "a builder's plugin": lambda c, sent: c.update(
        engine="engine/model.engine", runtime="tensorrt", build=["--dynamicPlugins=/tmp/x.so"], bench=[]
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_request_for_what_was_not_signed(
    bundle: Bundle, keys: dict[str, Path], root: Path, target: Target, what: str
) -> None:
    sign(bundle, keys["old"])
    with open_device(Local(), target, str(root)) as device:
        plan = make_plan(bundle, target, device.ask("probe"), ("openvino",))
        blobs = {**plan.blobs(), "x": b"not of the bundle"}
        blobs["y"] = encoded(replace(bundle.manifest, engines={}, variant="b1"))
        sent = {}
        for name, blob in blobs.items():
            content = blob if isinstance(blob, bytes) else blob.read_bytes()
            sent[name] = hashlib.sha256(content).hexdigest()
            device.send(sent[name], content, 0, lambda _: None)
        request = json.loads(json.dumps(plan.request))
        with pytest.raises(RefusedError, match="has a name that is not its own"):
            device.ask("install", id="another", request=request, signed=signed_parts(bundle))
        FORGED[what](request["candidates"]["openvino"], sent)
        identity = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:12]
        with pytest.raises(RefusedError, match="is not of what was signed"):
            device.ask("install", id=identity, request=request, signed=signed_parts(bundle))


def test_an_old_signature_of_what_is_active(
    bundle: Bundle, keys: dict[str, Path], root: Path, deployed: Callable[..., Deployed]
) -> None:
    """The same files signed long ago: the number of what is active does not go down."""
    sign(bundle, keys["old"], 20)
    deployed(bundle)
    sign(bundle, keys["old"], 5)
    with pytest.raises(RefusedError, match="release 5, and 20 was active"):
        deployed(bundle)
    sign(bundle, keys["old"], 10)
    with pytest.raises(RefusedError, match="release 10, and 20 was active"):
        deployed(bundle, "fp32")


def test_older_than_anything_that_was_active(
    bundle: Bundle, keys: dict[str, Path], root: Path, deployed: Callable[..., Deployed]
) -> None:
    """After a rollback, with a damaged record of what is active, and under other keys."""
    reach = DeviceOptions(root=str(root))
    sign(bundle, keys["old"], 5)
    deployed(bundle)
    sign(bundle, keys["old"], 7)
    deployed(bundle, "fp32")
    rollback("local", reach)
    sign(bundle, keys["old"], 6)
    with pytest.raises(RefusedError, match="release 6, and 7 was active"):
        deployed(bundle)
    sign(bundle, keys["old"], 7)
    newest = deployed(bundle, "fp32")
    for path in root.glob("deployments/*/signed.json"):
        path.write_bytes(b"x" + path.read_bytes()[1:])
    trust("local", [public(keys["old"]), public(keys["new"])], keys["old"], reach)
    for key in ("old", "new"):
        sign(bundle, keys[key], 6)
        with pytest.raises(RefusedError, match="release 6, and 7 was active"):
            deployed(bundle)
    (root / "newest.json").write_text("{")
    sign(bundle, keys["new"], 8)
    with pytest.raises(RefusedError, match=r"newest\.json cannot be read") as damaged:
        deployed(bundle)
    assert damaged.value.kind == "damaged"
    assert active(root) == newest.release


def test_a_device_whose_administrator_names_the_keys(
    bundle: Bundle, keys: dict[str, Path], target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /etc/edge-van, which goes before what a host has said, and which no host changes."""
    names = tmp_path / "etc" / "allowed_signers"
    names.parent.mkdir()
    names.write_text(allowed_signers([public(keys["new"])]))
    agent = asset(DEPLOY_AGENT).read_text()
    there = tmp_path / "agent.py"
    there.write_text(agent.replace('Path("/etc/edge-van")', f"Path({str(names.parent)!r})", 1))
    assert there.read_text() != agent
    monkeypatch.setattr("edge_van.deployment.device.asset", lambda name: there)
    reach = DeviceOptions(root=str(tmp_path / "root"))
    with pytest.raises(RefusedError, match="allowed_signers says whom this device trusts"):
        trust("local", [public(keys["old"])], options=reach)
    sign(bundle, keys["old"])
    options = DeployOptions(candidates=("openvino",), root=str(tmp_path / "root"))
    with pytest.raises(RefusedError, match="none that this device trusts"):
        deploy(bundle, "local", target, options=options)
    sign(bundle, keys["new"])
    assert deploy(bundle, "local", target, options=options).choice.active == "openvino"


def test_no_list_of_keys(bundle: Bundle, keys: dict[str, Path], root: Path, target: Target) -> None:
    """What a trusted key signed for something else is none, nor is an old list."""
    sign(bundle, keys["old"])
    parts = signed_parts(bundle)
    assert parts is not None
    before = (root / "allowed_signers").read_text()
    with open_device(Local(), target, str(root)) as device:
        for text in ("", parts["release"], before.replace("edge-van namespaces", "* namespaces")):
            with pytest.raises(RefusedError, match="that is no list of keys"):
                device.ask("trust", signers=text, signature=parts["signature"])
        as_a_bundle = signature_of(before.encode(), keys["old"]).decode()
        with pytest.raises(RefusedError, match="is not what was signed"):
            device.ask("trust", signers=before, signature=as_a_bundle)
        again = signature_of(before.encode(), keys["old"], LIST_NAMESPACE).decode()
        with pytest.raises(RefusedError, match="is not newer than the one there"):
            device.ask("trust", signers=before, signature=again)
    assert (root / "allowed_signers").read_text() == before


def test_keys_are_rotated(bundle: Bundle, keys: dict[str, Path], root: Path, deployed: Callable[..., Deployed]) -> None:
    sign(bundle, keys["old"], 1)
    first = deployed(bundle)
    reach = DeviceOptions(root=str(root))
    with pytest.raises(RefusedError, match="the list of keys is not signed"):
        trust("local", [public(keys["new"])], options=reach)
    with pytest.raises(RefusedError, match="none that this device trusts"):
        trust("local", [public(keys["new"])], keys["new"], reach)
    trust("local", [public(keys["old"]), public(keys["new"])], keys["old"], reach)
    sign(bundle, keys["new"], 2)
    second = deployed(bundle, "fp32")
    trust("local", [public(keys["new"])], keys["new"], reach)

    with pytest.raises(RefusedError, match=f"the release {first.release} is signed by the key") as gone:
        rollback("local", reach)  # that one was signed by a key that is trusted no more
    assert gone.value.kind == "untrusted"
    assert active(root) == second.release
    sign(bundle, keys["old"], 3)
    with pytest.raises(RefusedError, match="none that this device trusts"):
        deployed(bundle)
    with pytest.raises(RefusedError, match="none that this device trusts"):  # the list of before, once more
        trust("local", [public(keys["old"]), public(keys["new"])], keys["old"], reach)


def test_a_device_that_trusted_nobody_before(
    bundle: Bundle, keys: dict[str, Path], target: Target, tmp_path: Path
) -> None:
    """What was active stays so; to go back to what nobody signed is refused."""
    root = tmp_path / "another device"
    reach = DeviceOptions(root=str(root))
    options = DeployOptions(candidates=("fp32",), root=str(root))
    first = deploy(bundle, "local", target, options=options)
    trust("local", [public(keys["old"])], options=reach)
    assert active(root) == first.release
    sign(bundle, keys["old"])
    second = deploy(bundle, "local", target, options=replace(options, candidates=("openvino",)))
    with pytest.raises(RefusedError, match="is not signed"):
        rollback("local", reach)
    assert active(root) == second.release


def test_a_jetson_builds_from_what_was_signed(
    jetson_bundle: Bundle, graph_files: dict[str, Path], keys: dict[str, Path], tmp_path: Path
) -> None:
    """TensorRT 8 reads a graph that is made of the bundle's on the way: the signature answers for it, too."""
    shutil.copytree(jetson_bundle.path, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    sign(bundle, keys["old"])
    for jetpack in JETPACKS:
        name = {"5.1.1": "jetson-xavier", "7.0": "jetson-thor"}.get(jetpack.name, "jetson-orin-nano")
        target = target_of(jetson(tmp_path / jetpack.tensorrt, jetpack, graph_files, TIMES), name)
        root = str(tmp_path / f"root {jetpack.tensorrt}")
        trust("local", [public(keys["old"])], options=DeviceOptions(target=target, root=root))
        done = deploy(bundle, "local", target, options=DeployOptions(root=root))
        assert done.choice.active == "int8"


def test_what_cannot_be_signed(
    bundle: Bundle, keys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").write_text("no key\n")
    with pytest.raises(UsageError, match="does not sign"):
        sign(bundle, tmp_path / "none")
    with pytest.raises(UsageError, match="from 0 on; got -1"):
        sign(bundle, keys["old"], -1)
    for file, words in (("none", "holds no public key"), ("not there", "cannot be read")):
        with pytest.raises(UsageError, match=words):
            allowed_signers([tmp_path / file])
    with pytest.raises(UsageError, match="holds no public key"):
        allowed_signers([keys["old"]])  # the private one
    assert not (bundle.path / RELEASE_NAME).exists()
    assert not (bundle.path / SIGNATURE_NAME).exists()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingRuntimeError, match="install openssh-client"):
        sign(bundle, keys["old"])
