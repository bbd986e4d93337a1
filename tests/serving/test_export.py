"""The folder of an export: whole or not at all, of a whole bundle, and nobody's file is lost."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import names, one_line
from click.testing import CliRunner

import edge_van
from edge_van.bundle.active import ACTIVE_NAME, ActiveRecord
from edge_van.bundle.bundle import Bundle, open_bundle
from edge_van.bundle.files import file_entry
from edge_van.bundle.golden import read_golden
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR
from edge_van.bundle.manifest import MANIFEST_NAME, encoded
from edge_van.cli.main import cli
from edge_van.errors import BundleError, EdgeVanError, UsageError, VerificationError
from edge_van.head import Head
from edge_van.serving import openvino_ir
from edge_van.serving.base import RECORD_FORMAT, RECORD_NAME
from edge_van.storage.json_format import encode


@pytest.fixture
def own_bundle(golden_bundle: Bundle, tmp_path: Path) -> Bundle:
    """One to damage."""
    shutil.copytree(golden_bundle.path, tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")


def test_the_record_lists_what_lies_there(golden_bundle: Bundle, tmp_path: Path) -> None:
    before = os.umask(0o077)  # a server runs as a user of its own
    try:
        record = edge_van.export_server(golden_bundle, "triton", tmp_path / "a" / "server")
    finally:
        os.umask(before)
    folder = tmp_path / "a" / "server"
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {RECORD_NAME}
    assert {entry.path for entry in record.files} == there
    assert tuple(file_entry(folder, entry.path) for entry in record.files) == record.files
    assert RECORD_FORMAT.read(folder / RECORD_NAME) == record
    modes = {p: p.stat().st_mode & 0o777 for p in (folder, *folder.rglob("*"))}
    assert all(mode == (0o755 if p.is_dir() else 0o644) for p, mode in modes.items()), "the server is another user"


def test_an_export_that_is_there_is_replaced_by_force_alone(golden_bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "server"
    edge_van.export_server(golden_bundle, "triton", place)
    with pytest.raises(UsageError) as caught:
        edge_van.export_server(golden_bundle, "ovms", place)
    one_line(caught, "exists", "--force")
    edge_van.export_server(golden_bundle, "ovms", place, force=True)
    assert (place / "config.json").is_file()
    assert not list(place.rglob("config.pbtxt"))
    assert names(tmp_path) == ["server"]


@pytest.mark.parametrize("name", ["models/other/1/model.xml", "notes.txt"])
def test_what_somebody_added_is_not_replaced(golden_bundle: Bundle, tmp_path: Path, name: str) -> None:
    place = tmp_path / "server"
    edge_van.export_server(golden_bundle, "triton", place)
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_text("mine")
    with pytest.raises(UsageError) as caught:
        edge_van.export_server(golden_bundle, "triton", place, force=True)
    one_line(caught, name, "even with --force")
    assert (place / name).read_text() == "mine"


def test_what_somebody_changed_is_not_replaced(golden_bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "server"
    edge_van.export_server(golden_bundle, "triton", place)
    (place / "compose.yaml").write_text("mine")
    with pytest.raises(UsageError) as caught:
        edge_van.export_server(golden_bundle, "triton", place, force=True)
    one_line(caught, "compose.yaml", "changed since", "even with --force")
    assert (place / "compose.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("server", "project"), [("ovms", "edge-van-ovms-my_van-2"), ("triton", "edge-van-triton-my_van-2")]
)
def test_a_project_is_named_after_the_model(golden_bundle: Bundle, tmp_path: Path, server: str, project: str) -> None:
    """Not after the folder: this one's name has no letter of ASCII, and none of Compose's projects may."""
    edge_van.export_server(golden_bundle, server, tmp_path / "模型", options=edge_van.ServerOptions(name="My_van.2"))
    assert f"name: {project}\n" in (tmp_path / "模型" / "compose.yaml").read_text()


def test_a_head_that_is_no_softmax_is_said(own_bundle: Bundle, tmp_path: Path) -> None:
    labels = replace(own_bundle.manifest, head=Head("sigmoid", 0.25))
    (own_bundle.path / MANIFEST_NAME).write_bytes(encoded(labels))
    record = edge_van.export_server(own_bundle.path, "ovms", tmp_path / "server")
    assert record.head == Head("sigmoid", 0.25)
    assert any("by a sigmoid each" in note for note in record.notes)
    assert RECORD_FORMAT.read(tmp_path / "server" / RECORD_NAME) == record


def test_a_folder_of_something_else_is_not_replaced(golden_bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "server"
    place.mkdir()
    (place / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="was not written by edge-van export-server"):
        edge_van.export_server(golden_bundle, "triton", place, force=True)
    assert names(place) == ["thesis.tex"]


def test_an_output_in_the_bundle_is_refused(golden_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="lies in the bundle"):
        edge_van.export_server(golden_bundle, "triton", golden_bundle.path / "server")


def test_a_damaged_file_is_not_exported(own_bundle: Bundle, tmp_path: Path) -> None:
    weights = own_bundle.file(INT8_IR).with_suffix(".bin")
    damaged = bytearray(weights.read_bytes())
    damaged[100] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(BundleError) as caught:
        edge_van.export_server(own_bundle, "ovms", tmp_path / "server")
    one_line(caught, "damaged", "model.bin")
    assert names(tmp_path) == ["bundle"]


def test_other_logits_than_the_golden_ones_are_an_error(own_bundle: Bundle, tmp_path: Path) -> None:
    record = own_bundle.manifest.golden
    assert record is not None
    strict = replace(record, floors_db={**record.floors_db, INT8_IR: 300.0})
    bundle = Bundle(own_bundle.path, replace(own_bundle.manifest, golden=strict))
    with pytest.raises(VerificationError) as caught:
        edge_van.export_server(bundle, "triton", tmp_path / "server")
    one_line(caught, "golden", "300.0")
    assert names(tmp_path) == ["bundle"]


def test_channels_that_were_not_turned_are_seen(
    golden_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check itself: the bundle's own file, as if it had been turned."""

    def copied(served: openvino_ir.Served, path: Path) -> None:
        for source, suffix in zip(served.model.files, (".xml", ".bin"), strict=True):
            shutil.copyfile(golden_bundle.file(source), path.with_suffix(suffix))

    monkeypatch.setattr(openvino_ir, "_turn", copied)
    with pytest.raises(VerificationError, match="written for bgr computes other logits"):
        edge_van.export_server(golden_bundle, "ovms", tmp_path / "server")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "../x"}, ("no model's name", "--name")),
        ({"name": ""}, ("no model's name",)),
        ({"precision": "int4"}, ("int4", "int8")),
        ({"scheme": "int8"}, ("--engine TARGET",)),
        ({"engine": "orin"}, ("edge-van build",)),
        ({"engine": "orin", "precision": "int8"}, ("leave --precision",)),
    ],
)
def test_what_cannot_be_meant_is_said(
    golden_bundle: Bundle, tmp_path: Path, options: dict[str, str], words: tuple[str, ...]
) -> None:
    with pytest.raises(EdgeVanError) as caught:
        edge_van.export_server(golden_bundle, "triton", tmp_path / "s", options=edge_van.ServerOptions(**options))
    one_line(caught, *words)
    assert names(tmp_path) == []


def activate(bundle: Bundle, runtime: str, precision: str, file: str, hint: str | None) -> None:
    """As ``edge-van deploy`` leaves it on a device."""
    (bundle.path / ACTIVE_NAME).write_bytes(encode(ActiveRecord(1, runtime, precision, None, file, hint)))


def test_the_active_model_is_served_in_the_precision_it_was_chosen_in(own_bundle: Bundle, tmp_path: Path) -> None:
    activate(own_bundle, "openvino", "fp32", FP32_IR, "bf16")
    record = edge_van.export_server(own_bundle, "ovms", tmp_path / "server")
    assert (record.file, record.precision) == (FP32_IR, "bf16")
    assert '"INFERENCE_PRECISION_HINT": "bf16"' in (tmp_path / "server" / "config.json").read_text()


def test_an_active_model_that_is_no_ir_is_not_replaced_by_another(own_bundle: Bundle, tmp_path: Path) -> None:
    activate(own_bundle, "onnxruntime", "fp32", FP32_ONNX, None)
    with pytest.raises(UsageError) as caught:
        edge_van.export_server(own_bundle, "triton", tmp_path / "server")
    one_line(caught, "onnxruntime", "--precision")


def test_another_server_is_not_known(golden_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ovms, triton"):
        edge_van.export_server(golden_bundle, "torchserve", tmp_path / "server")


def test_the_command_prints_the_record_alone(golden_bundle: Bundle, tmp_path: Path) -> None:
    arguments = ["export-server", str(golden_bundle.path), "--to", "ovms", "--output", str(tmp_path / "server")]
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["source_order"] == "bgr"
    shown = CliRunner().invoke(cli, [*arguments, "--force", "--precision", "fp32"])
    assert shown.exit_code == 0, shown.output
    assert "images: uint8 [1, 64, 64, 3]" in shown.stdout
    assert "BGR" in shown.stdout
    assert len(read_golden(golden_bundle).pixels) == 4
