"""One of the package's playbooks on one inventory: Ansible started, listened to, and ended with this process.

In: an inventory, the command of each host. Out: Ansible's exit code, and what each host's command said.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_van.assets import asset
from edge_van.deployment import one_host
from edge_van.deployment.inventory import ansible
from edge_van.deployment.rollout_record import LOG_NAME
from edge_van.storage.folders import raised_on_termination

LOOK_S, END_S = 0.5, 30


@dataclass(frozen=True)
class PlaybookRun:
    """One playbook on one inventory; what the hosts are to do and what they say lies in ``folder / name``."""

    inventory: Path
    folder: Path
    name: str
    forks: int

    @property
    def place(self) -> Path:
        return (self.folder / self.name).resolve()

    def write(self, commands: Mapping[str, Sequence[str]]) -> None:
        one_host.write_plan(self.place, commands)

    def answers(self) -> dict[str, dict[str, Any]]:
        return one_host.answers(self.place)

    def playbook(self, name: str, variables: Mapping[str, Any], heard: Callable[[int], None]) -> int:
        """Ansible's exit code; ``heard`` is told of each host that is done. It ends with this process."""
        given = self.place / "variables.yml"
        given.write_text(json.dumps(variables), encoding="utf-8")
        words = ["-i", str(self.inventory), "--forks", str(self.forks), "--extra-vars", f"@{given}", str(asset(name))]
        more = {one_host.FLEET: str(self.place)}
        with raised_on_termination(), one_host.at_work(self.place), (self.folder / LOG_NAME).open("ab") as log:
            process = ansible("ansible-playbook", words, more=more, stdout=log, stderr=log, start_new_session=True)
            done = threading.Event()
            listener = threading.Thread(target=self._listen, args=(done, heard), daemon=True)
            listener.start()
            try:
                return int(process.wait())
            except BaseException:
                _end(process)
                raise
            finally:
                done.set()
                listener.join()

    def _listen(self, done: threading.Event, heard: Callable[[int], None]) -> None:
        known = 0
        while True:
            is_last = done.wait(LOOK_S)
            now = len(list(self.place.glob("[0-9a-f]*.json")))
            if now > known:
                heard(now - known)
                known = now
            if is_last:
                return


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ansible and all that it runs: as Ctrl-C on a terminal does, and by force where that takes long."""
    for number, seconds in ((signal.SIGINT, END_S), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
