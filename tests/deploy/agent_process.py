"""The agent in a process of its own, spoken to as a deploy does.

In: a Python, a root folder, where programs are. Out: answers as Python values; ``Refusal`` for what it refuses.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

AGENT = Path(__file__).resolve().parents[2] / "deploy" / "agent" / "edge_van_agent.py"


class Refusal(Exception):  # noqa: N818
    """What the agent said instead of a result."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class AgentProcess:
    """``serve`` on ``root``; leaving ends its input."""

    def __init__(
        self, root: Path, *, python: str = sys.executable, paths: dict[str, Any] | None = None, agent: Path = AGENT
    ) -> None:
        command = [python, str(agent), "--root", str(root), "--paths", json.dumps(paths or {}), "serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.root, self.progress = root, []  # type: ignore[var-annotated]
        self._read("ready")

    def ask(self, verb: str, raw: bytes = b"", **values: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"verb": verb, **values}).encode() + b"\n" + raw)
        self.process.stdin.flush()
        return self._read("result")["value"]

    def send(self, content: bytes) -> str:
        """One file, whole; its sha256."""
        digest = hashlib.sha256(content).hexdigest()
        arrived = self.ask("missing", files={digest: len(content)}).get(digest)
        if arrived is not None:
            self.ask("receive", content[arrived:], sha256=digest, size=len(content))
        return digest

    def _read(self, event: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            if said["event"] == "refused":
                raise Refusal(said["kind"], said["text"])
            if said["event"] == event:
                return said
            self.progress.append(said)
        raise AssertionError(f"the agent ended with {self.process.wait()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
