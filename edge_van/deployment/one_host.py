"""One host of a fleet: an edge-van command whose outcome is written down as soon as it is known.

In: ``python -m edge_van.deployment.one_host HOST``, the environment's ``EDGE_VAN_FLEET``: a folder with ``plan.json``,
the command of each host. Out: a JSON file there with what it said, its exit code as this one's. A fleet that is
interrupted so still knows every host that was changed; and where the rollout itself was killed, no further host is
begun.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge_van.storage.folders import try_lock

FLEET = "EDGE_VAN_FLEET"
PLAN_NAME = "plan.json"
HELD_NAME = "at-work"


def write_plan(folder: Path, commands: Mapping[str, Sequence[str]]) -> None:
    """What ``main`` reads, and where it writes."""
    folder.mkdir(parents=True)
    (folder / PLAN_NAME).write_text(json.dumps(commands), encoding="utf-8")
    (folder / HELD_NAME).touch()


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """While this process lives and is in here, hosts may be begun: the system lets go of a lock for the killed."""
    with (folder / PLAN_NAME).open("rb") as plan:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(plan, fcntl.LOCK_EX)
        yield


def is_at_work(folder: Path) -> bool:
    """Whether hosts may be begun, or one is at work; False where a file system has no locks."""
    with (folder / HELD_NAME).open("rb") as held:
        return _rollout_lives(folder) is True or try_lock(held.fileno()) is False


def _rollout_lives(folder: Path) -> bool | None:
    """None where a file system has no locks. Whoever asks shares the lock: two that ask at once are no rollout."""
    with (folder / PLAN_NAME).open("rb") as plan:
        taken = try_lock(plan.fileno(), shared=True)
        return None if taken is None else not taken


def answer_path(folder: Path, host: str) -> Path:
    """Whatever the host is called."""
    return folder / f"{hashlib.sha256(host.encode()).hexdigest()[:32]}.json"


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    """What each host's command said, by the host; of one that cannot be read, its exit code is -1."""
    found: dict[str, dict[str, Any]] = {}
    plan = json.loads((folder / PLAN_NAME).read_text(encoding="utf-8"))
    for host in plan:
        path = answer_path(folder, host)
        if path.exists():
            try:
                answer = json.loads(path.read_text(encoding="utf-8"))
                found[host] = {"code": int(answer["code"]), "out": str(answer["out"]), "err": str(answer["err"])}
            except (ValueError, KeyError, TypeError, OSError) as error:
                found[host] = {"code": -1, "out": "", "err": f"what it said cannot be read: {error}"}
        elif path.with_suffix(".begun").exists():
            found[host] = {"code": -1, "out": "", "err": "it was begun, and how it ended is not known: ask the device"}
    return found


def main(arguments: list[str]) -> int:
    """Run it; what it writes to standard error goes on there, too."""
    [host] = arguments
    folder = Path(os.environ[FLEET])
    words = json.loads((folder / PLAN_NAME).read_text(encoding="utf-8"))[host]
    held = (folder / HELD_NAME).open("rb")  # until this process ends, whoever ends it
    with suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_SH)
    if _rollout_lives(folder) is False:
        print("edge-van: error: the rollout that this host belongs to has ended", file=sys.stderr)
        return 1
    record = answer_path(folder, host)
    record.with_suffix(".begun").touch()
    done = subprocess.run([sys.executable, "-m", "edge_van", *words], capture_output=True, check=False)
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    part = record.with_suffix(".part")
    part.write_text(json.dumps({"code": done.returncode, "out": out, "err": err}), encoding="utf-8")
    part.replace(record)
    sys.stderr.write(err)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
