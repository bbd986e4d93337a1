"""``edge_van.timing.models``: what of a bundle runs here, under which name, and why the rest does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import MANIFEST, make
from hypothesis import given
from hypothesis import strategies as st

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.engine_record import EngineChoice, EngineRecord, EngineSet
from edge_van.errors import BundleError, MissingRuntimeError, UsageError
from edge_van.runtimes.openvino import has_bf16
from edge_van.timing import models as module
from edge_van.timing.models import bundle_names, timed_models
from edge_van.timing.record import TIMED_RUNTIMES


def names(bundles: list[Bundle], runtimes: list[str] | None = None) -> list[str]:
    return [m.name for m in timed_models(bundles, runtimes)[0]]


def test_every_runtime_that_is_here(timed_bundle: Bundle) -> None:
    models, skipped = timed_models([timed_bundle])
    found = {m.name for m in models}
    assert {"openvino-fp32", "openvino-int8", "onnxruntime-fp32", "onnxruntime-int8", "torch-fp32"} <= found
    assert ("openvino-int8_bf16" in found) == has_bf16()
    assert {m.runtime for m in models} >= {"openvino", "onnxruntime", "torch"}
    reasons = {s.model: s.reason for s in skipped}
    assert "edge-van build" in reasons["tensorrt"]
    assert "edge-van build" in reasons["tensorrt_rtx"]


def test_the_size_holds_the_weights_beside_the_graph(timed_bundle: Bundle) -> None:
    sizes = {entry.path: entry.size_bytes for entry in timed_bundle.manifest.files}
    [model] = [m for m in timed_models([timed_bundle])[0] if m.name == "openvino-fp32"]
    assert model.file_bytes == sizes["openvino_fp32/model.xml"] + sizes["openvino_fp32/model.bin"]


def test_two_bundles_of_one_name_are_told_apart(timed_bundle: Bundle) -> None:
    twice = [timed_bundle, timed_bundle]
    assert bundle_names(twice) == ["narrow_int8", "narrow_int8#2"]
    found = names(twice, ["onnxruntime"])
    assert found[0] == "narrow_int8/onnxruntime-fp32"
    assert found[2] == "narrow_int8#2/onnxruntime-fp32"
    assert len(set(found)) == 4


@given(st.lists(st.sampled_from(["a", "a#2", "a#2#2", "b"]), min_size=1, max_size=12))
def test_no_two_bundles_share_a_name(folders: list[str]) -> None:
    """A folder may itself be called as a repeated one would be."""
    found = bundle_names([Bundle(Path(str(i), name), MANIFEST) for i, name in enumerate(folders)])
    assert len(set(found)) == len(folders)
    assert all(name.startswith(folder) for name, folder in zip(found, folders, strict=True))


def test_no_more_is_measured_than_can_be_read_again(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="at most 16 bundles, 17 were given"):
        timed_models([timed_bundle] * 17)
    monkeypatch.setattr(module, "MAX_MODELS", 3)
    with pytest.raises(UsageError, match="at most 3 models, 4 were given"):
        timed_models([timed_bundle] * 2, ["onnxruntime"])


def test_a_runtime_that_was_named_and_is_missing_is_an_error(
    timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingRuntimeError, match=r"pip install 'edge-van\[onnxruntime\]'"):
        timed_models([timed_bundle], ["onnxruntime"])
    models, skipped = timed_models([timed_bundle])
    assert models == []
    assert {s.model for s in skipped} >= {"openvino", "onnxruntime", "torch"}


def test_torch_compile_needs_a_compiler(timed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(MissingRuntimeError, match=r"C\+\+ compiler"):
        timed_models([timed_bundle], ["torch_compile"])


def test_every_runtime_that_the_command_line_takes_has_its_models() -> None:
    assert tuple(module._FINDERS) == TIMED_RUNTIMES


def test_a_bundle_without_models_says_what_it_lacks(tmp_path: Path) -> None:
    models, skipped = timed_models([make(tmp_path / "b")], ["openvino", "onnxruntime", "torch"])
    assert models == []
    assert [s.reason for s in skipped] == [
        "the bundle has no openvino_fp32/model.xml",
        "the bundle has no openvino/model.xml",
        "the bundle has no onnx/model.onnx",
        "the bundle has no onnx/model_openvino.onnx",
        "the bundle has no onnx/model.onnx",
    ]


def test_a_damaged_file_is_not_given_to_an_engine(timed_bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for entry in timed_bundle.manifest.files:
        (copy / entry.path).parent.mkdir(parents=True, exist_ok=True)
        (copy / entry.path).write_bytes(timed_bundle.file(entry.path).read_bytes())
    weights = copy / "openvino/model.bin"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"openvino/model\.bin was changed"):
        timed_models([Bundle(copy, timed_bundle.manifest)], ["openvino"])


def test_engines_without_a_gpu_are_skipped_with_the_reason(timed_bundle: Bundle) -> None:
    record = EngineRecord(
        1, "int8", "tensorrt_rtx", "1.7.1", ("8.9",), None, "model_int8.onnx", "a", "b", 1, 1.0, "none", ()
    )
    engines = {"sm89-1.7.1": EngineSet((record,), EngineChoice(None, 1.0, "no engine was timed", ()))}
    bundle = replace(timed_bundle, manifest=replace(timed_bundle.manifest, engines=engines))
    _, skipped = timed_models([bundle])
    [reason] = [s.reason for s in skipped if s.model == "tensorrt_rtx"]
    assert "GPU" in reason or "cuda" in reason.lower()
