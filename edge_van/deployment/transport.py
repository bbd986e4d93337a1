"""How a command reaches a device: on this machine, or through the OpenSSH client.

In: a command as an argument list. Out: a running process with pipes. OpenSSH brings what its users have set up: their
``~/.ssh/config``, agent, known hosts and jump hosts; it asks for a password on the terminal.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_van.errors import DeviceError, EdgeVanError, MissingRuntimeError, UsageError

LOCAL = "local"
CONNECT_TIMEOUT_S = 15
_HOST = re.compile(r"(ssh://)?[A-Za-z0-9_\[][A-Za-z0-9_.@:%+\[\]-]*/?")
_SSH_FAILED = 255


class Transport(Protocol):
    @property
    def where(self) -> str:
        """What messages call the device."""

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start it there, with pipes for all three streams. Raises ``MissingRuntimeError`` where that cannot be."""

    def failure(self, code: int, said: str) -> EdgeVanError:
        """The error of a command that ended before it was asked to; ``said`` is what it wrote to standard error."""


@dataclass(frozen=True)
class Local:
    """This machine."""

    where: str = "this machine"

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        return _popen(command)

    def failure(self, code: int, said: str) -> EdgeVanError:
        return DeviceError(f"the agent ended (exit code {code}): {_last_line(said)}")


@dataclass(frozen=True)
class SSH:
    """``host`` is any destination of ssh: a name of ``~/.ssh/config``, user@host, ssh://user@host:port."""

    host: str
    config: Path | None = None  # instead of ~/.ssh/config

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host):
            raise UsageError(
                f"{self.host!r} is no host: give user@host, ssh://user@host:port or a Host of ~/.ssh/config"
            )

    @property
    def where(self) -> str:
        return self.host

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        if shutil.which("ssh") is None:
            raise MissingRuntimeError(
                "a device is reached through OpenSSH, and there is no ssh: install openssh-client"
            )
        options = {
            "StrictHostKeyChecking": "yes",  # an unknown or changed key is refused, whatever the user's config says
            "ConnectTimeout": CONNECT_TIMEOUT_S,
            "ServerAliveInterval": 15,
            "ServerAliveCountMax": 4,
        }
        words = ["ssh", "-T", *([] if self.config is None else ["-F", str(self.config)])]
        words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        # ssh hands one string to the login shell there: the one place where anything is quoted
        return _popen([*words, "--", self.host, shlex.join(command)])

    def failure(self, code: int, said: str) -> EdgeVanError:
        if code != _SSH_FAILED:
            return DeviceError(f"{self.host}: the agent ended (exit code {code}): {_last_line(said)}")
        advice = "check the host, the network and the key"
        if "Host key verification failed" in said or "IDENTIFICATION HAS CHANGED" in said:
            changed = "changed" if "IDENTIFICATION HAS CHANGED" in said else "unknown"
            advice = f"its key is {changed}: make sure that it is your device, then connect once with ssh {self.host}"
        elif "Permission denied" in said:
            advice = "it takes neither your key nor your password: try ssh-copy-id"
        return MissingRuntimeError(f"{self.host} cannot be reached ({_last_line(said)}): {advice}")


def transport_to(host: str, config: Path | None = None) -> Transport:
    """``local`` is this machine, anything else a destination of ssh."""
    return Local() if host == LOCAL else SSH(host, config)


def _popen(command: Sequence[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise MissingRuntimeError(f"{command[0]} does not run ({error.strerror}): check the target's python") from error


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
