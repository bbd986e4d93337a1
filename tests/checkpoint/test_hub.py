"""The official weights: from the cache, over a stand-in for the hub, and without any network."""

import hashlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from checkpoint_samples import official_file, refused, saved

from edge_van.checkpoint import hub
from edge_van.checkpoint.load import load_checkpoint
from edge_van.errors import UsageError
from edge_van.input_spec import OFFICIAL
from edge_van.model.van import VAN


@pytest.fixture(scope="module")
def b0_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("b0") / "b0.pth.tar", official_file(VAN("b0", 1000).state_dict()))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for proxy in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path / "cache"


def hub_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """The hub's client, sent to another address."""
    from huggingface_hub import constants, file_download

    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)


@pytest.mark.parametrize("variant", [None, "b4", "b6"])
def test_imagenet1k_needs_a_published_variant(variant: str | None):
    message = refused("imagenet1k", UsageError, variant=variant)
    assert "b0, b1, b2, b3" in message
    assert variant is None or variant in message


def test_imagenet1k_comes_from_the_cache_without_a_network(cache: Path, b0_file: Path, monkeypatch: pytest.MonkeyPatch):
    hub_at(monkeypatch, "http://127.0.0.1:9")
    repo = cache / "models--Visual-Attention-Network--VAN-Tiny-original"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repo / "snapshots" / ("0" * 40) / "van_tiny_754.pth.tar").symlink_to(b0_file)
    loaded = load_checkpoint("imagenet1k", variant="b0")
    assert (loaded.source, loaded.name, loaded.variant, loaded.warnings) == ("imagenet1k", "imagenet1k", "b0", ())
    assert (loaded.spec, loaded.spec_is_default, loaded.spec.classes) == (OFFICIAL, False, None)


@pytest.mark.parametrize("server", ["closed", "silent", "no such host"])
def test_imagenet1k_without_a_network_fails_fast(cache: Path, monkeypatch: pytest.MonkeyPatch, server: str):
    monkeypatch.setattr(hub, "TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        if server == "closed":
            listening.close()
        host = "edge-van.invalid" if server == "no such host" else "127.0.0.1"
        hub_at(monkeypatch, f"http://{host}:{port}")
        started = time.monotonic()
        message = refused("imagenet1k", variant="b1")
        assert time.monotonic() - started < 8.0
    assert "Visual-Attention-Network/VAN-Small-original/van_small_811.pth.tar" in message
    assert "local file" in message


class HubStandIn(BaseHTTPRequestHandler):
    """Stands in for the hub: HEAD with commit, size and etag, GET with the bytes, 404 for anything else."""

    content = b""
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        if not self.path.endswith("VAN-Tiny-original/resolve/main/van_tiny_754.pth.tar"):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.content)

    do_HEAD = do_GET  # noqa: N815 (http.server's own naming)

    def log_message(self, *_: Any) -> None:
        pass


def test_imagenet1k_is_fetched_once(cache: Path, b0_file: Path, monkeypatch: pytest.MonkeyPatch):
    handler = type("Handler", (HubStandIn,), {"content": b0_file.read_bytes(), "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub_at(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
        first = load_checkpoint("imagenet1k", variant="b0")
        asked = len(handler.asked)
        second = load_checkpoint("imagenet1k", variant="b0")
        message = refused("imagenet1k", variant="b3")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        before = len(handler.asked)
        offline = refused("imagenet1k", variant="b2")
        assert len(handler.asked) == before
        server.shutdown()
    assert first.sha256 == second.sha256 == hashlib.sha256(b0_file.read_bytes()).hexdigest()
    assert any(line.startswith("GET") for line in handler.asked[:asked])
    assert not any("Tiny" in line for line in handler.asked[asked:])
    assert "VAN-Large-original/van_large_839.pth.tar" in message
    assert "VAN-Base-original/van_base_828.pth.tar" in offline
