"""What a Jetson has and no machine here: ``trtexec``, ``tegrastats``, ``nvpmodel``, ``/etc/nv_tegra_release``.

In: a folder, a JetPack. Out: programs that replay the documented formats. An "engine" is computed by ONNX Runtime, so
that its golden check is a real one; every call is kept in ``calls.jsonl``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRTEXEC = """#!{python}
import json, pathlib, sys
here = pathlib.Path({here!r})
flags = dict(a[2:].partition("=")[::2] for a in sys.argv[1:])
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
banner = "TensorRT.trtexec [TensorRT v{digits}] # trtexec"
print("&&&& RUNNING " + banner)

def fail(text):
    print("[07/25/2026-09:08:28] [E] " + text)
    print("&&&& FAILED " + banner)
    sys.exit(1)

for flag in flags:
    if flag not in {known!r}:
        fail("Unknown option: --" + flag)
if "stronglyTyped" in flags and ("int8" in flags or "fp16" in flags):
    fail("Precision flags cannot be used in a strongly typed network")
if "saveEngine" in flags:
    onnx = pathlib.Path(flags["onnx"])
    scheme = pathlib.Path(flags["saveEngine"]).parent.parent.name
    assert "skipInference" in flags or "buildOnly" in flags
    if scheme in {broken!r}:
        fail("Error[10]: Could not find any implementation for node block1.0.attn.spatial_gating_unit.conv0")
    pathlib.Path(flags["saveEngine"]).write_text(json.dumps([scheme, str(onnx)]))
    pathlib.Path(flags["exportLayerInfo"]).write_text((here / (scheme + ".layers.json")).read_text())
    pathlib.Path(flags["timingCacheFile"]).touch()
if "loadEngine" in flags:
    scheme, onnx = json.loads(pathlib.Path(flags["loadEngine"]).read_text())
if "exportOutput" in flags:
    import numpy as np, onnxruntime as ort
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(onnx, options)
    [given] = session.get_inputs()
    [pair] = flags["loadInputs"].split(",")  # as trtexec splits it
    if "'" in pair:
        fail("Found invalid number of ' when parsing " + pair)
    name, _, file = pair.rpartition(":")
    assert name == given.name, name
    values = np.fromfile(file, np.float32).reshape([1, *given.shape[1:]])
    logits = session.run(None, {{name: values}})[0] * (1.5 if scheme in {wrong!r} else 1.0)
    if scheme in {wrong!r}:
        logits = -logits
    shape = "x".join(map(str, logits.shape))
    said = [{{"name": "logits", "dimensions": shape, "values": logits.ravel().tolist()}}]
    pathlib.Path(flags["exportOutput"]).write_text(json.dumps(said))
if "exportTimes" in flags:
    ms = {times!r}[scheme]
    rows = [{{"endComputeMs": ms, "computeMs": ms + k / 1000, "latencyMs": 2 * ms}} for k in range(9)]
    pathlib.Path(flags["exportTimes"]).write_text(json.dumps(rows))
print("&&&& PASSED " + banner)
"""
TEGRASTATS = """#!/bin/sh
while true; do echo '{line}'; sleep 0.05; done
"""


@dataclass(frozen=True)
class JetPack:
    """A release: what its files say, and what its trtexec knows."""

    name: str
    release: str  # /etc/nv_tegra_release
    l4t: str
    digits: str  # of trtexec's banner
    tensorrt: str
    flags: tuple[str, ...]  # of trtexec, besides COMMON
    line: str  # of tegrastats


COMMON = (
    *("onnx", "saveEngine", "loadEngine", "timingCacheFile", "minShapes", "optShapes", "maxShapes", "noTF32", "help"),
    *("exportLayerInfo", "profilingVerbosity", "loadInputs", "exportOutput", "exportTimes"),
    *("iterations", "warmUp", "duration", "useCudaGraph", "useSpinWait", "noDataTransfers"),
)
"""Flags that edge-van may use and that trtexec has had from 8.5 to 11.1: NVIDIA's samples/common/sampleOptions.cpp of
8.5.3, 8.6, 10.3, 10.13.2 and 11.1."""
JETPACKS = (
    JetPack(
        "5.1.1",
        "# R35 (release), REVISION: 3.1, GCID: 32827747, BOARD: t186ref, EABI: aarch64, DATE: Sun Mar 19 2023",
        "35.3.1",
        "8502",
        "8.5.2",
        ("buildOnly", "int8", "fp16", "best"),
        "RAM 2448/6857MB (lfb 3x4MB) SWAP 0/3428MB CPU [9%@1190] GR3D_FREQ 10%@[1109] gpu@43.5C VDD_IN 5018mW/5018mW",
    ),
    JetPack(
        "6.2",
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan 8 2025",
        "36.4.3",
        "100300",
        "10.3.0",
        ("skipInference", "stronglyTyped", "int8", "fp16", "best"),
        "RAM 2448/7620MB (lfb 3x4MB) GR3D_FREQ 10%@1000 gpu@47.6C tj@50.5C VDD_IN 6018mW/6018mW VDD_SOC 1500mW/1500mW",
    ),
    JetPack(
        "7.0",
        "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 2025",
        "38.2.0",
        "101302",
        "10.13.2",
        ("skipInference", "stronglyTyped", "int8", "fp16", "best"),
        "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) GR3D_FREQ @[1000,1000,1000] gpu@47.625C "
        "VDD_GPU_SOC 5139mW/5139mW/5139mW",
    ),
    JetPack(
        "of TensorRT 11",
        "# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 2026",
        "39.2.0",
        "110100",
        "11.1.0",
        ("skipInference", "stronglyTyped"),
        "RAM 20642/62817MB (lfb 1x2MB) GR3D_FREQ 12%@[1300,1300] gpu@47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW",
    ),
)


def layer_information(graph: Path, datatypes: dict[str, str]) -> str:
    """As the engine inspector writes it: one kernel a layer, in what ``datatypes`` has for what the graph asks for."""
    import onnx

    from edge_van.engines.layer_table import onnx_layers

    def entry(name: str, shape: tuple[int, ...], datatype: str) -> dict[str, object]:
        count = 1
        for size in shape:
            count *= size
        given = [{"Name": "x", "Dimensions": [1], "Format/Datatype": f"Channel major {datatype} format"}]
        weights = {"Type": datatype, "Count": count}
        said = f"[ONNX Layer: {name}]"
        return {"Name": name, "LayerType": "CaskConvolution", "Inputs": given, "Weights": weights, "Metadata": said}

    layers = onnx_layers(onnx.load(graph))
    return json.dumps({"Layers": [entry(x.name, x.weight_shape, datatypes[x.datatype]) for x in layers]})


@dataclass(frozen=True)
class JetsonStandIn:
    """``paths`` are those of a target."""

    folder: Path
    jetpack: JetPack

    @property
    def paths(self) -> dict[str, str]:
        programs = ("trtexec", "tegrastats", "nvpmodel", "jetson_clocks")
        return {name: str(self.folder / name) for name in programs} | {
            "tegra_release": str(self.folder / "nv_tegra_release")
        }

    @property
    def calls(self) -> list[list[str]]:
        """Every call of trtexec so far."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def jetson(
    folder: Path,
    jetpack: JetPack,
    graphs: dict[str, Path],
    times: dict[str, float],
    *,
    broken: tuple[str, ...] = (),
    wrong: tuple[str, ...] = (),
    widened: tuple[str, ...] = (),
) -> JetsonStandIn:
    """``graphs`` by scheme; of the schemes ``broken`` cannot be built, ``wrong`` compute other logits, and ``widened``
    run in a wider datatype than the graph asks for."""
    folder.mkdir(parents=True)
    plain = {"int8": "Int8", "fp16": "Half", "fp32": "Float"}
    for scheme, graph in graphs.items():
        datatypes = dict.fromkeys(plain, "Float") if scheme in widened else plain
        (folder / f"{scheme}.layers.json").write_text(layer_information(graph, datatypes))
    filled: dict[str, Any] = {"known": {*COMMON, *jetpack.flags}, "times": times, "broken": broken, "wrong": wrong}
    texts = {
        "trtexec": TRTEXEC.format(python=sys.executable, here=str(folder), digits=jetpack.digits, **filled),
        "tegrastats": TEGRASTATS.format(line=jetpack.line),
        "nvpmodel": "#!/bin/sh\necho 'NV Power Mode: MAXN'\necho 0\n",
        "jetson_clocks": "#!/bin/sh\necho 'SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano'\n",
        "nv_tegra_release": jetpack.release + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return JetsonStandIn(folder, jetpack)
