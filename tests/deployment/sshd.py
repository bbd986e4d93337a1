"""A real OpenSSH server on the loopback, with a home, a host key and a user's key of its own.

In: a folder. Out: an ``SSHServer``: the client's config and the host's name in it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
HOST = "device"


@dataclass(frozen=True)
class SSHServer:
    """``config`` is for ``ssh -F``; ``home`` is what a command there has as HOME."""

    folder: Path
    home: Path
    config: Path
    port: int
    process: subprocess.Popen[bytes]

    def new_host_key(self) -> None:
        """As of another machine; what the user knows of the host stays."""
        stop(self.process)
        (self.folder / "host").unlink()
        _key(self.folder / "host")

    @property
    def log(self) -> str:
        return (self.folder / "sshd.log").read_text(errors="replace")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)


def _key(path: Path) -> str:
    """A new key pair; the public one."""
    path.with_name(f"{path.name}.pub").unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_name(f"{path.name}.pub").read_text().strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """sshd with the configuration in ``folder``, answering."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where the server of root drops its privileges
    with (folder / "sshd.log").open("ab") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    raise AssertionError((folder / "sshd.log").read_text())


@contextmanager
def ssh_server(folder: Path, *, force: str = "") -> Iterator[SSHServer]:
    """``force`` is a command that the server runs instead of what it is asked for (SSH_ORIGINAL_COMMAND has that)."""
    if not Path(SSHD).exists():
        pytest.skip("no OpenSSH server here: apt-get install openssh-server")
    home = folder / "a home; with 'quotes'"
    home.mkdir(parents=True)
    port, host_key = _free_port(), _key(folder / "host")
    (folder / "authorized_keys").write_text(f"{_key(folder / 'user')}\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nPermitRootLogin yes\nPasswordAuthentication yes\n"
        f'SetEnv "HOME={home}"\n' + (f"ForceCommand {force}\n" if force else "")
    )
    config = folder / "ssh_config"
    config.write_text(
        f"Host {HOST}\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentitiesOnly yes\n"
        f"  IdentityFile {folder / 'user'}\n  UserKnownHostsFile {folder / 'known_hosts'}\n"
    )
    process = start(folder, port)
    try:
        yield SSHServer(folder, home, config, port, process)
    finally:
        stop(process)
