"""The agent on a device, spoken to: it is sent along with the first words and keeps one connection for all.

In: a ``Transport``, a ``Target``. Out: answers as Python values; ``DeviceError`` for what the agent refuses.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from edge_van.assets import DEPLOY_AGENT, asset
from edge_van.deployment.transport import Transport
from edge_van.errors import DeviceError

if TYPE_CHECKING:
    from typing_extensions import Self

CHUNK = 1 << 18
_START = """
import sys
sys.path[:] = [place for place in sys.path if place]  # nothing of the folder that this happens to run in
import hashlib, os, runpy
root, digest, size = sys.argv[1:4]
root = os.path.expanduser(root)
data = sys.stdin.buffer.read(int(size))
if hashlib.sha256(data).hexdigest() != digest:
    sys.exit("the agent did not arrive whole")
os.makedirs(os.path.join(root, "agents"), exist_ok=True)
path = os.path.join(root, "agents", digest + ".py")
fresh = path + "." + str(os.getpid())
try:  # on a disk that is full, what is there already still frees some
    with open(path, "rb") as file:
        there = file.read() == data
except OSError:
    there = False
if not there:
    try:
        with open(fresh, "wb") as file:
            file.write(data)
        os.replace(fresh, path)
    except OSError as error:
        if os.path.exists(fresh):
            os.remove(fresh)
        sys.exit(path + ": " + str(error.strerror))
sys.argv[:] = [path, "--root", root] + sys.argv[4:]
runpy.run_path(path, run_name="__main__")
"""
"""What runs on the device before the agent is there: any Python 3 reads it."""


class RefusedError(DeviceError):
    """What the agent will not or cannot do; ``kind`` is the agent's word for it: busy, disk, damaged, history, ..."""

    def __init__(self, where: str, kind: str, text: str) -> None:
        super().__init__(f"{where}: {text}")
        self.kind = kind


class Device:
    """A context manager: the device is this deploy's alone until it is left."""

    def __init__(self, transport: Transport, *, root: str, python: tuple[str, ...], paths: dict[str, Any]) -> None:
        """``python`` runs the agent, ``root`` is where it keeps everything, ``paths`` are programs by their names."""
        self.transport = transport
        agent = asset(DEPLOY_AGENT).read_bytes()
        digest = hashlib.sha256(agent).hexdigest()
        words = [root, digest, str(len(agent)), "--paths", json.dumps(paths), "serve"]
        self._process = transport.start([*python, "-c", _START, *words])
        self._said: list[str] = []
        self._is_ready = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self._write(agent)
            self._read("ready", None)
            self._is_ready = True
        except BaseException:
            self.close()
            raise

    def ask(self, verb: str, *, tell: Callable[[dict[str, Any]], None] | None = None, **values: Any) -> Any:
        """The agent's answer; ``tell`` hears how far it is. ``RefusedError``, or ``DeviceError`` where it is gone."""
        self._write(json.dumps({"verb": verb, **values}).encode() + b"\n")
        return self._read("result", tell)["value"]

    def send(self, digest: str, content: bytes | Path, arrived: int, advance: Callable[[int], None]) -> None:
        """The rest of a file of which ``arrived`` bytes are there; ``advance`` hears of the bytes as they go."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        self._write(json.dumps({"verb": "receive", "sha256": digest, "size": size}).encode() + b"\n")
        if isinstance(content, bytes):
            self._write(content[arrived:])
            advance(size - arrived)
        else:
            with content.open("rb") as file:
                file.seek(arrived)
                while part := file.read(CHUNK):
                    self._write(part)
                    advance(len(part))
        self._read("result", None)

    def _write(self, data: bytes) -> None:
        pipe = self._pipe(self._process.stdin)
        try:
            pipe.write(data)
            pipe.flush()
        except (BrokenPipeError, ConnectionResetError):
            self._read("result", None)  # it says why it listens no longer

    def _read(self, event: str, tell: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        for line in self._pipe(self._process.stdout):
            try:
                said = json.loads(line)
                kind = said["event"]
            except (ValueError, TypeError, KeyError):
                continue  # a login shell may greet
            if kind == "refused":
                raise RefusedError(self.transport.where, str(said["kind"]), str(said["text"]))
            if kind == event:
                return dict(said)
            if tell is not None:
                tell(said)
        raise self._gone()

    def _gone(self) -> Exception:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._listener.join(5)
        said = "".join(self._said[-20:])
        if self._is_ready:
            why = said.strip().splitlines()[-1:] or ["it said nothing"]
            return DeviceError(
                f"{self.transport.where}: the connection broke off ({why[0].strip()}): the same command goes on there"
            )
        return self.transport.failure(self._process.returncode or 0, said)

    def _listen(self) -> None:
        for line in self._pipe(self._process.stderr):
            self._said.append(line.decode("utf-8", "replace"))
            del self._said[:-100]

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise DeviceError("the transport gave no pipe: start commands with pipes for all three streams")
        return pipe

    def close(self) -> None:
        """End the agent's input, by which it ends; what it does not finish soon is ended."""
        with suppress(BrokenPipeError, OSError):
            self._pipe(self._process.stdin).close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(5)
        self._pipe(self._process.stdout).close()
        if not self._listener.is_alive():  # a master connection of ssh may hold it open: closing would wait for that
            self._pipe(self._process.stderr).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
