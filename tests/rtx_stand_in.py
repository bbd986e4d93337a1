"""What a desktop with an RTX card has and no machine here: a GPU that opens the engines of TensorRT for RTX.

In: a folder, the graphs. Out: the command of a Python. It runs edge-van's own code but for the engine itself, whose
graph, found by the hash in the engine's record, ONNX Runtime computes: the golden check is a real one.
"""

from __future__ import annotations

import sys
from pathlib import Path

PYTHON = """#!{python}
import hashlib, sys, time
from pathlib import Path
from types import SimpleNamespace

import edge_van.runtimes as runtimes
from edge_van.bundle.engine_record import read_engine_record
from edge_van.deployment import on_device
from edge_van.runtimes import cuda, tensorrt
from edge_van.runtimes.onnxruntime import ONNXRuntimeSession

GRAPHS = {{hashlib.sha256(Path(path).read_bytes()).hexdigest(): path for path in {graphs!r}}}
gpu = cuda.Device({name!r}, {card!r})


class Session(ONNXRuntimeSession):
    def __init__(self, path):
        self.record = read_engine_record(path.parent)
        tensorrt.check_fits(self.record, path, {version!r}, gpu)
        super().__init__(Path(GRAPHS[self.record.onnx_sha256]), exact=True)

    def _run(self, feed):
        time.sleep({times!r}[self.record.scheme] / 1000)
        found = super()._run(feed)
        return {{name: -values for name, values in found.items()}} if self.record.scheme in {wrong!r} else found


stand_in = sys.modules["stand_in"] = SimpleNamespace(Session=Session)
runtimes.RUNTIMES["tensorrt_rtx"] = "stand_in:Session"
cuda.device = lambda: gpu
tensorrt.load_tensorrt = lambda runtime: SimpleNamespace(__version__={version!r})
assert sys.argv[1:] == ["-m", "edge_van.deployment.on_device"], sys.argv
sys.exit(on_device.main())
"""


def rtx(
    folder: Path,
    graphs: dict[str, Path],
    times: dict[str, float],
    version: str,
    card: str = "8.9",
    wrong: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """``times`` are milliseconds by scheme, ``wrong`` the schemes whose engines compute something else."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"version": version, "card": card, "name": "NVIDIA GeForce RTX 4070", "times": times, "wrong": wrong}
    program = folder / "python"
    program.write_text(PYTHON.format(python=sys.executable, graphs=[str(p) for p in graphs.values()], **values))
    program.chmod(0o755)
    return (str(program),)
