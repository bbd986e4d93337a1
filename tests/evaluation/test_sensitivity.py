"""``edge-van sensitivity`` on a narrow bundle, with the engines: figures, what is kept, what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_samples import error_line, image_folders, narrow_checkpoint, run
from numpy.typing import NDArray

import edge_van
from edge_van.bundle.bundle import Bundle, verify
from edge_van.errors import BundleError, UsageError, VerificationError
from edge_van.evaluation import evidence
from edge_van.evaluation.sensitivity import SensitivityOptions, sensitivity
from edge_van.evaluation.sensitivity_record import Sensitivity, encode_sensitivity, read_sensitivity
from edge_van.model.layer_names import part_of
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.switched import switched
from edge_van.quantization.switched_session import SwitchedGraph
from edge_van.runtimes.onnx_file import read_onnx
from edge_van.starting_point import QuantizeOptions
from edge_van.timing.latency import MIN_ROUNDS

FEW = SensitivityOptions(images=12)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A bundle for OpenVINO and TensorRT, and its images."""
    root = tmp_path_factory.mktemp("sensitivity")
    narrow_checkpoint(root / "n.safetensors")
    data = image_folders(root / "data", {"train": 4, "val": 8})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "LATENCY_ROUNDS", MIN_ROUNDS)
        patch.setattr(evidence, "LATENCY_S", 0.0)
        recipe = replace(load_recipe(), samples=12, tensorrt_schemes=("int8",))
        options = QuantizeOptions(targets=("openvino", "tensorrt"))
        bundle = edge_van.quantize(root / "n.safetensors", data=data, output=root / "b", recipe=recipe, options=options)
    return bundle, data / "val"


@pytest.fixture(scope="module")
def result(made: tuple[Bundle, Path], tmp_path_factory: pytest.TempPathFactory) -> Sensitivity:
    return sensitivity(*made, options=FEW, output=tmp_path_factory.mktemp("out") / "s.json")


def test_the_noise_of_all_is_about_that_of_each(result: Sensitivity) -> None:
    assert result.is_whole
    assert result.measurement.scheme == "openvino"
    assert not any(place.weights_kept for place in result.places)
    summed = sum(10.0 ** (-place.only.sqnr_db / 10.0) for place in result.places)
    assert -10.0 * np.log10(summed) == pytest.approx(result.all_quantized.sqnr_db, abs=8.0)  # of three classes
    assert sum(part.share_percent for part in result.parts()) == pytest.approx(100.0)
    assert sum(part.places for part in result.parts()) == result.of_places
    layers = [place.name for place in result.places if part_of(place.name) is not None]
    assert len(layers) == 4 + 4 * 8 + 1
    ranked = [place.only.image_sqnr_db for place in result.ranked()]
    assert ranked == sorted(ranked)


def test_the_manifest_says_the_same_of_all(made: tuple[Bundle, Path], tmp_path: Path) -> None:
    """On the images that accuracy was measured on: OpenVINO's kernels and the exact graph round apart."""
    every = sensitivity(*made, options=SensitivityOptions(images=24), output=tmp_path / "s.json")
    accuracy = made[0].manifest.accuracy
    assert accuracy is not None
    assert every.all_quantized.sqnr_db == pytest.approx(accuracy.logit_sqnr_db, abs=1.5)
    assert every.all_quantized.drop_points == pytest.approx(accuracy.drop_points, abs=100 / 24 + 0.01)


def test_tensorrts_graph_in_float16(made: tuple[Bundle, Path], tmp_path: Path) -> None:
    options = replace(FEW, scheme="int8", images=4)
    result = sensitivity(*made, options=options, output=tmp_path / "s.json")
    assert result.measurement.file == "onnx/model_int8.onnx"
    assert not any(place.weights_kept for place in result.places)
    assert min(place.only.sqnr_db for place in result.places) > result.all_quantized.sqnr_db


def test_it_goes_on_where_it_was_stopped(
    made: tuple[Bundle, Path], result: Sensitivity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(encode_sensitivity(replace(result, places=result.places[:40])))
    calls: list[int] = []
    logits = SwitchedGraph.logits

    def counted(self: SwitchedGraph, pixels: NDArray[np.uint8], switches: NDArray[np.bool_]) -> Any:
        calls.append(int(switches.sum()))
        return logits(self, pixels, switches)

    monkeypatch.setattr(SwitchedGraph, "logits", counted)
    again = sensitivity(*made, options=FEW, output=path)
    assert len(calls) == 2 + 2 * (result.of_places - 40)  # all off, all on, and two of each place that is missing
    assert again.places == result.places
    calls.clear()
    assert sensitivity(*made, options=FEW, output=path).places == result.places
    assert len(calls) == 2
    other = sensitivity(*made, options=replace(FEW, images=6), output=path)  # other images: nothing is taken over
    assert other.measurement.images == 6
    assert read_sensitivity(path) == other


def test_an_interrupt_keeps_what_was_measured(
    made: tuple[Bundle, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_van.evaluation import sensitivity as module

    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    left, place = [5], module._Run.place

    def some(self: Any, *arguments: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return place(self, *arguments)

    monkeypatch.setattr(module._Run, "place", some)
    with pytest.raises(KeyboardInterrupt):
        sensitivity(*made, options=FEW, output=tmp_path / "s.json")
    [partial] = tmp_path.glob("s.*.partial.json")
    kept = read_sensitivity(partial)
    assert len(kept.places) == 5
    assert not kept.is_whole
    assert not (tmp_path / "s.json").exists()
    monkeypatch.undo()
    few = sensitivity(*made, options=replace(FEW, images=2), output=tmp_path / "s.json")
    assert few.measurement.images == 2
    assert read_sensitivity(partial) == kept  # the rows of other images are not its own to remove
    whole = sensitivity(*made, options=FEW, output=tmp_path / "s.json")
    assert whole.places[:5] == kept.places
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


def test_the_command(
    made: tuple[Bundle, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, data = made
    mine = tmp_path / "b"
    shutil.copytree(bundle.path, mine)
    flags = ("sensitivity", mine, "--data", data, "--images", 6)
    code, out, err = run(capfd, monkeypatch, *flags)
    assert code == 0, err
    assert "LKA dilated depthwise" in out
    assert f"Next:   edge-van report {mine}" in out
    assert verify(edge_van.open_bundle(mine)) == []
    code, out, _ = run(capfd, monkeypatch, *flags, "--json")
    assert code == 0
    assert json.loads(out)["measurement"]["images"] == 6
    code, _, err = run(capfd, monkeypatch, "report", mine, "--output", tmp_path / "r")
    assert code == 0, err
    assert "Which layers cost" in (tmp_path / "r" / "report.md").read_text()
    content = json.loads((mine / "sensitivity.json").read_bytes())
    content["measurement"]["file_sha256"] = "0" * 64
    (mine / "sensitivity.json").write_text(json.dumps(content))
    code, _, err = run(capfd, monkeypatch, "report", mine, "--output", tmp_path / "r2")
    assert code == 2
    assert "was measured on another graph than this bundle's" in error_line(err)


def broken(result: Sensitivity) -> dict[str, Callable[[], bytes]]:
    places = result.places
    nan = replace(places[0], only=replace(places[0].only, sqnr_db=1e9))
    return {
        "a place twice": lambda: encode_sensitivity(replace(result, places=(places[0], places[0]))),
        "more than there are": lambda: encode_sensitivity(replace(result, of_places=1)),
        "a figure that is none": lambda: encode_sensitivity(replace(result, places=(nan,))),
        "no JSON": lambda: b"{",
        "another kind": lambda: encode_sensitivity(replace(result, kind="edge-van benchmark")),
        "a newer version": lambda: encode_sensitivity(replace(result, schema_version=99)),
    }


@pytest.mark.parametrize(
    "what",
    ["a place twice", "more than there are", "a figure that is none", "no JSON", "another kind", "a newer version"],
)
def test_an_output_that_is_none_is_left_as_it_is(
    what: str, made: tuple[Bundle, Path], result: Sensitivity, tmp_path: Path
) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content := broken(result)[what]())
    with pytest.raises(UsageError, match="in the way of the result"):
        sensitivity(*made, options=FEW, output=path)
    assert path.read_bytes() == content


def test_what_is_refused(made: tuple[Bundle, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no quantised graph 'nothing'; it has openvino, int8"):
        sensitivity(*made, options=replace(FEW, scheme="nothing"), output=tmp_path / "s.json")
    with pytest.raises(UsageError, match="lies in a folder that is not there"):
        sensitivity(*made, output=tmp_path / "no" / "s.json")
    os.mkfifo(tmp_path / "pipe")
    for output, why in ((Path(), "is a folder"), (tmp_path / "pipe", "a device, a pipe"), (Path("x" * 220), "name")):
        with pytest.raises(UsageError, match=why):
            sensitivity(*made, options=FEW, output=output)
    with pytest.raises(UsageError, match="at least 2 images"):
        SensitivityOptions(images=1)


def test_a_result_is_there_until_another_is_whole(
    made: tuple[Bundle, Path], result: Sensitivity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_van.evaluation import sensitivity as module

    path = tmp_path / "s.json"
    path.write_bytes(content := encode_sensitivity(result))
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    left, place = [3], module._Run.place

    def some(self: Any, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return place(self, *arguments)

    monkeypatch.setattr(module._Run, "place", some)
    with pytest.raises(KeyboardInterrupt):
        sensitivity(*made, options=replace(FEW, images=6), output=path)
    assert path.read_bytes() == content


def test_a_row_that_is_not_the_graphs_is_measured_again(
    made: tuple[Bundle, Path], result: Sensitivity, tmp_path: Path
) -> None:
    first = result.places[0]
    ranges = tuple(replace(r, grid_high=r.grid_high + 1.0) for r in first.activations)
    for strange in (replace(first, part="<b>x"), replace(first, activations=ranges), replace(first, activations=())):
        places = (strange, *result.places[1:])
        (tmp_path / "s.json").write_bytes(encode_sensitivity(replace(result, places=places)))
        assert sensitivity(*made, options=FEW, output=tmp_path / "s.json").places == result.places


def test_a_bundle_that_was_replaced_meanwhile_gets_no_result(
    made: tuple[Bundle, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_van.evaluation import sensitivity as module

    mine = tmp_path / "b"
    shutil.copytree(made[0].path, mine)

    def replaced(self: Any, index: int, ranges: Any) -> Any:
        manifest = json.loads((mine / "manifest.json").read_bytes())
        (mine / "manifest.json").write_text(json.dumps(manifest | {"created": "2027-01-01T00:00:00+00:00"}))
        return place(self, index, ranges)

    place = module._Run.place
    monkeypatch.setattr(module._Run, "place", replaced)
    with pytest.raises(BundleError, match="was replaced by another bundle meanwhile"):
        sensitivity(mine, made[1], options=replace(FEW, images=2))
    assert not list(mine.glob("sensitivity*"))


def test_graphs_that_do_not_fit(made: tuple[Bundle, Path]) -> None:
    graphs = [read_onnx(made[0].file(f"onnx/{name}.onnx")) for name in ("model_openvino", "model")]
    with pytest.raises(VerificationError, match="quantises nothing"):
        switched(graphs[1], graphs[1])
    graphs[1].graph.input[0].type.tensor_type.shape.dim[2].dim_value += 1
    with pytest.raises(VerificationError, match="takes other images"):
        switched(*graphs)


def test_another_threshold_is_another_measurement(
    made: tuple[Bundle, Path], result: Sensitivity, tmp_path: Path
) -> None:
    other = replace(result, measurement=replace(result.measurement, head="sigmoid 0.4"))
    (tmp_path / "s.json").write_bytes(encode_sensitivity(replace(other, all_quantized=other.places[0].only)))
    again = sensitivity(*made, options=FEW, output=tmp_path / "s.json")
    assert again.measurement == result.measurement
    assert again.all_quantized == result.all_quantized
