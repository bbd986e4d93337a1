"""manifest.json: what is written reads back, and what it may not say is refused in one clear line."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bundle_samples import ACCURACY, MANIFEST, UNSAFE, make, one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_van.bundle.bundle import open_bundle, update_manifest
from edge_van.bundle.engine_record import EngineChoice
from edge_van.bundle.manifest import MANIFEST_FORMAT, manifest_schema, read_manifest
from edge_van.bundle.recipe import (
    ACTIVATIONS,
    SCHEME_NAMES,
    TENSORRT_FLOATS,
    TENSORRT_INPUTS,
    TENSORRT_SCHEME_NAMES,
    QATSettings,
    Recipe,
    for_reconstruction,
)
from edge_van.bundle.records import (
    MANIFEST_SCHEMA_VERSION,
    Accuracy,
    CalibrationRecord,
    ClassChange,
    FileEntry,
    FoldRecord,
    Interval,
    Latency,
    LatencyRow,
    Manifest,
    MetricChange,
    SchemeResult,
)
from edge_van.errors import BundleError
from edge_van.head import Head
from edge_van.input_spec import INTERPOLATIONS, InputSpec
from edge_van.machine import Machine

text = st.text(st.characters(codec="utf-8"), max_size=8)
number = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 2**63 - 1)
words = st.dictionaries(text, text, max_size=3)


def intervals_of_drops(drop: float) -> st.SearchStrategy[Interval]:
    return st.builds(Interval, st.floats(-100.0, drop), st.floats(drop, 100.0))


share = st.floats(0.0, 100.0)
positive = st.floats(1e-9, 1e9)
positive_interval = st.tuples(positive, positive).map(lambda ends: Interval(min(ends), max(ends)))
sha256 = st.from_regex("[0-9a-f]{64}", fullmatch=True)
files = st.lists(
    st.builds(FileEntry, st.from_regex("[a-z]{1,6}(/[a-z.]{3,6}x){0,2}", fullmatch=True), count, sha256),
    max_size=3,
    unique_by=lambda entry: entry.path,
).map(tuple)


def three(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, float, float]]:
    return st.tuples(values, values, values)


def tuple_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=2).map(tuple)


side = st.integers(1, 4096)
spec = st.builds(
    InputSpec,
    size=st.tuples(side, side),
    crop=st.floats(0.5, 1.0),
    interpolation=st.sampled_from(INTERPOLATIONS),
    mean=three(st.floats(-2, 2)),
    std=three(st.floats(1e-3, 2)),
    classes=st.none() | st.lists(text, min_size=1, max_size=3, unique=True).map(tuple),
    source_size=st.none() | st.tuples(side, side),
)
change = st.builds(ClassChange, text, count, share, share, st.dictionaries(text, count, max_size=2))
accuracy = st.floats(-100.0, 100.0).flatmap(
    lambda drop: st.builds(
        Accuracy, text, st.integers(1, 2**63 - 1), count, share, share, st.none() | share, st.none() | share,
        st.just(drop), intervals_of_drops(drop), share, number, tuple_of(change), number, number, number, number,
        text, st.sampled_from(["top-1", "accuracy", "mAP"]),
        tuple_of(st.builds(MetricChange, text, share, share, st.just(drop), intervals_of_drops(drop))),
    )
)  # fmt: skip
times = st.lists(positive, min_size=1, max_size=3).map(tuple)
row = st.builds(LatencyRow, text, text, positive, positive, positive, positive, positive_interval, times)
rows = st.lists(row, min_size=1, max_size=3, unique_by=lambda found: found.name).map(tuple)
latency = rows.flatmap(
    lambda found: st.builds(
        Latency, count, count, count, count, st.sampled_from([r.name for r in found]), st.just(found), number,
        tuple_of(text),
    )
)  # fmt: skip
machine = st.builds(Machine, text, text, count, count, number, tuple_of(text), text, text, words, number)
scheme = st.builds(SchemeResult, text, text, st.booleans(), tuple_of(text), count, number, number, count)
recipe = st.builds(
    Recipe,
    samples=st.integers(1, 100_000),
    equalize_strength=st.floats(0.0, 1.0),
    activation=st.sampled_from(ACTIVATIONS),
    openvino_scheme=st.sampled_from(SCHEME_NAMES),
    tensorrt_schemes=st.lists(st.sampled_from(TENSORRT_SCHEME_NAMES), min_size=1, unique=True).map(tuple),
    tensorrt_float=st.sampled_from(TENSORRT_FLOATS),
    tensorrt_input=st.sampled_from(TENSORRT_INPUTS),
    tensorrt_images=st.integers(1, 100_000),
    max_drop_points=st.floats(0.0, 100.0),
    batch=st.integers(1, 256),
)
heads = st.sampled_from([Head(), Head("none")]) | st.floats(0.01, 0.99).map(lambda t: Head("sigmoid", t))
folded = st.builds(FoldRecord, count, count, number)


def with_as_many_classes(manifest: Manifest) -> Manifest:
    names = manifest.input_spec.classes
    outputs = max(manifest.num_classes, 1) if names is None else len(names)
    # one output is a sigmoid's; of two names it may be, too
    if outputs == 1 or (outputs == 2 and manifest.head.threshold < 0.2):
        return replace(manifest, num_classes=1, head=Head("sigmoid", manifest.head.threshold))
    return replace(manifest, num_classes=outputs)


manifests = st.builds(
    Manifest, st.just(MANIFEST_SCHEMA_VERSION), text, text, text, count, text, text, text, spec, text, recipe,
    folded,
    st.builds(CalibrationRecord, text, count, count, count), tuple_of(scheme), words, files, machine,
    st.none() | accuracy, st.none() | latency, tuple_of(text), head=heads,
).map(with_as_many_classes)  # fmt: skip


METRIC = MetricChange("F1", 90.0, 89.0, 1.0, Interval(0.5, 1.5))
RECIPE = msgspec.to_builtins(MANIFEST.recipe)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": -5}, "-5 outputs"),
        ({"num_classes": 7}, "7 classes and 2 names"),
        ({"num_classes": 1}, "1 outputs behind softmax"),
        ({"head": {"activation": "tanh"}}, "a head is one of"),
        ({"head": {"activation": "sigmoid", "threshold": 1.0}}, "over 0 and under 1"),
        ({"head": {"activation": "softmax", "threshold": 0.4}}, "has none"),
        ({"recipe": RECIPE | {"max_drop_points": "abc"}}, "recipe.max_drop_points"),
        ({"recipe": RECIPE | {"max_drop_points": True}}, "recipe.max_drop_points"),
        ({"recipe": RECIPE | {"max_drop_points": -0.1}}, "a number from 0 to 100; got -0.1"),
        ({"recipe": RECIPE | {"max_drop_points": 1e300}}, "a number from 0 to 100; got 1e.300"),
    ],
)
def test_a_manifest_that_contradicts_itself(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    document = msgspec.to_builtins(MANIFEST) | change
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(document))
    with pytest.raises(BundleError, match=message):
        read_manifest(tmp_path)


LATENCY = Latency(
    1, 2, 10, 2, "fp32",
    tuple(LatencyRow(n, "openvino", 2.0, 2.5, 3.0, 1.0, Interval(0.9, 1.1), (2.0, 2.5)) for n in ("fp32", "int8")),
    0.5,
)  # fmt: skip
NO_NUMBER = "time or ratio that is no positive number"


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("rows",), [], "without its baseline"),
        (("baseline",), "bf16", "without its baseline"),
        (("rows", 1, "name"), "fp32", "two models of one name"),
        (("rows", 1, "samples_ms"), [], "without the samples"),
        (("rows", 1, "samples_ms", 0), 0.0, NO_NUMBER),
        (("rows", 1, "samples_ms", 0), -1.0, NO_NUMBER),
        (("rows", 1, "median_ms"), 1e300, NO_NUMBER),
        (("rows", 1, "ratio"), -2.0, NO_NUMBER),
        (("rows", 1, "ratio_interval", "low"), 0.0, NO_NUMBER),
        (("rows", 1, "ratio_interval", "low"), 1.2, NO_NUMBER),
    ],
)
def test_a_latency_is_checked_as_a_benchmarks_rows_are(
    tmp_path: Path, where: tuple[str | int, ...], value: object, message: str
) -> None:
    document = {**msgspec.to_builtins(MANIFEST), "latency": json.loads(msgspec.json.encode(LATENCY))}
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(document))
    assert read_manifest(tmp_path).latency is not None
    part = document["latency"]
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(document))
    with pytest.raises(BundleError) as caught:
        read_manifest(tmp_path)
    one_line(caught, str(tmp_path / "manifest.json"), message)


@pytest.mark.parametrize("active", ["zzz", "bf16", "int8\n"])
def test_a_precision_that_was_not_timed_is_none(tmp_path: Path, active: str) -> None:
    latency = json.loads(msgspec.json.encode(LATENCY))
    latency["rows"][-1]["name"] = "zzz"
    choice = EngineChoice(active, 1.0, "fastest", ())
    content = {**msgspec.to_builtins(MANIFEST), "latency": latency, "cpu": json.loads(msgspec.json.encode(choice))}
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(content))
    with pytest.raises(BundleError, match="names a precision that there is not, or that was not timed"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"images": 0},
        {"int8_percent": 101.0},
        {"fp32_percent": -1.0},
        {"agreement_percent": 1e300},
        {"top5_int8_percent": 101.0},
        {"classes": [{"name": "a", "images": 1, "recall_fp32_percent": 50.0, "recall_int8_percent": 1e300}]},
        {"drop_interval": {"low": 2.0, "high": 1.0}},
        {"drop_interval": {"low": -1e300, "high": 3.0}},
        {"drop_points": -1e300},
        {"others": [msgspec.to_builtins(METRIC) | {"fp32_percent": 101.0}]},
        {"others": [msgspec.to_builtins(METRIC) | {"drop_interval": {"low": 2.0, "high": 1.0}}]},
    ],
)
@pytest.mark.parametrize("place", ["accuracy", "scheme"])
def test_an_accuracy_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    document = msgspec.to_builtins(MANIFEST)
    accuracy = msgspec.to_builtins(ACCURACY) | change
    if place == "accuracy":
        document["accuracy"] = accuracy
    else:
        document["schemes"][0]["accuracy"] = accuracy
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(document))
    with pytest.raises(BundleError) as caught:
        read_manifest(tmp_path)
    one_line(caught, str(tmp_path / "manifest.json"), "an accuracy of no images")


@settings(max_examples=60)
@given(manifests)
def test_every_manifest_reads_back_as_written(tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> None:
    folder = tmp_path_factory.getbasetemp() / "round_trip"
    shutil.rmtree(folder, ignore_errors=True)
    bundle = make(folder)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    assert read_manifest(folder) == manifest
    assert update_manifest(open_bundle(folder), warnings=("a",)).manifest == replace(manifest, warnings=("a",))
    assert bundle.path == folder


@settings(max_examples=150)
@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.integers() | text, lambda x: st.lists(x) | st.dictionaries(text, x))
)
def test_any_other_content_is_a_bundle_error(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(BundleError) as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "value", "word"),
    [
        (("schema_version",), 4, "written by edge-van 0.1.0"),
        (("schema_version",), 0, "version 0"),
        (("schema_version",), "1", "schema_version"),
        (("num_classes",), "10", "$.num_classes"),
        (("input_spec", "crop"), 3, "crop is a share"),
        (("input_spec", "classes"), ["a\nb", "a\nb"], "repeated: a b"),
        (("files", 0, "sha256"), "AB", "sha256 is none"),
        (("files", 0, "size_bytes"), -1, "size is under 0"),
        (("files", 0, "path"), "openvino/model.bin", "twice"),
        (("files", 0, "path"), "manifest.json", "the manifest itself"),
        *((("files", 0, "path"), path, "do not use this bundle") for path in UNSAFE if path != "\ud800"),
    ],
)
def test_what_a_manifest_may_not_say(tmp_path: Path, where: tuple[str | int, ...], value: object, word: str) -> None:
    bundle = make(tmp_path / "out")
    content = json.loads((bundle.path / "manifest.json").read_text())
    part = content
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    (bundle.path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BundleError) as caught:
        read_manifest(bundle.path)
    one_line(caught, str(bundle.path / "manifest.json"), word)


def test_a_newer_manifest_need_not_look_like_ours(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema_version": 9, "models": {}}')
    with pytest.raises(BundleError, match="upgrade with pip"):
        open_bundle(tmp_path)


def test_broken_json_is_named_with_its_position(tmp_path: Path) -> None:
    for content, word in (
        (b'{"schema_version": 2,,', "byte 21"),
        (b'{"schema_version": 2', "byte 20"),
        (b'{"x":' * 100_000, "nested too deep"),
        (b'{"schema_version": 1, "edge_van_version": "\xff"}', "byte "),  # the byte or its place, as msgspec will
    ):
        (tmp_path / "manifest.json").write_bytes(content)
        with pytest.raises(BundleError) as caught:
            read_manifest(tmp_path)
        one_line(caught, word)


def test_what_is_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path, tmp_path / "nowhere", Path("/proc/self/status")):
        with pytest.raises(BundleError) as caught:
            open_bundle(path)
        one_line(caught, str(path), "is no bundle")
    bundle = make(tmp_path / "out")
    monkeypatch.setattr("edge_van.bundle.manifest.MANIFEST_FORMAT", replace(MANIFEST_FORMAT, max_bytes=100))
    with pytest.raises(BundleError, match="is over"):
        open_bundle(bundle.path)


def test_the_schema_describes_the_manifest() -> None:
    schema = manifest_schema()
    properties = schema["$defs"]["Manifest"]["properties"]
    assert set(properties) == set(Manifest.__dataclass_fields__)
    json.dumps(schema)


def test_a_manifest_of_version_1_is_read(tmp_path: Path) -> None:
    """One that edge-van of before wrote for its demo: its recipe was flat, and held what the fold did."""
    old = Path(__file__).with_name("manifest_version_1.json")
    (tmp_path / "manifest.json").write_bytes(old.read_bytes())
    read, raw = read_manifest(tmp_path), json.loads(old.read_bytes())
    assert (read.schema_version, raw["schema_version"]) == (MANIFEST_SCHEMA_VERSION, 1)
    flat = raw["recipe"]
    assert read.fold == FoldRecord(
        flat.pop("batch_norms_folded"), flat.pop("kernels_cropped"), flat.pop("fold_max_relative_error")
    )
    assert read.recipe.tensorrt_schemes == ("int8", "int8_pointwise")
    found = {**asdict(read.recipe), "tensorrt_schemes": "int8,int8_pointwise"}
    since = {"method": "ptq", "qat": asdict(QATSettings()), "reconstruction": asdict(for_reconstruction())}
    assert found == {
        **flat,
        **since,
        "ranges": "squared_error",
        "float_layers": (),
        "activation_places": (),
    }  # there was nothing else
    assert [entry.path for entry in read.files] == [entry["path"] for entry in raw["files"]]
    assert read.accuracy is not None
    assert read.accuracy.int8_percent == raw["accuracy"]["top1_int8_percent"]
    assert (read.accuracy.metric, read.head) == ("top-1", Head())


@pytest.mark.parametrize("recipe", [{"samples": 0}, {"tensorrt_schemes": "int9"}, 3, None, {"max_drop_points": "1"}])
def test_a_broken_recipe_of_version_1_is_one_line(tmp_path: Path, recipe: object) -> None:
    content = json.loads(Path(__file__).with_name("manifest_version_1.json").read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps({**content, "recipe": recipe}))
    with pytest.raises(BundleError) as caught:
        read_manifest(tmp_path)
    one_line(caught, "is no manifest")
