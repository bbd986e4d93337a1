"""A static file server on the loopback, as any is, that can break off in the middle of a file.

In: a folder. Out: a ``FileServer``: its address, what it was asked for, and how many bytes of a file it sends.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any


@dataclass
class FileServer:
    """``breaks_off`` is a part of a name: of such files half the bytes are sent, and the connection ends."""

    address: str = ""
    asked: list[str] = field(default_factory=list)
    breaks_off: str | None = None


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, state: FileServer, *args: Any, **kwargs: Any) -> None:
        self.state = state
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        self.state.asked.append(self.path)
        super().do_GET()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        content = source.read()
        if self.state.breaks_off is not None and self.state.breaks_off in self.path:
            outputfile.write(content[: len(content) // 2])
            outputfile.flush()
            self.close_connection = True
            return
        outputfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Nothing on standard error."""


@contextmanager
def file_server(folder: Path) -> Iterator[FileServer]:
    state = FileServer()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, state, directory=str(folder)))
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
