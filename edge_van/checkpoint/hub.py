"""Fetches the official ImageNet-1k weights from the Hugging Face hub, once; afterwards they come from its cache.

In: a variant's name. Out: the path of the file in the cache.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from edge_van.errors import CheckpointError, MissingRuntimeError, UsageError
from edge_van.model.variants import VARIANTS, get_variant
from edge_van.text import printable

TIMEOUT_S = 10.0


def fetch_official(variant: str | None) -> Path:
    """Path of the official checkpoint of ``variant``; the network is asked only where the cache has none.

    A ``UsageError``: no variant, or one whose weights were never published. A ``CheckpointError``: no way to the hub.
    """
    published = [row.name for row in VARIANTS.values() if row.hub_repo]
    row = get_variant(variant) if variant is not None else None
    if row is None or row.hub_repo is None or row.hub_file is None:
        raise UsageError(
            f"imagenet1k was given {f'with variant {variant}' if variant else 'without a variant'}; official weights "
            f"are published for {', '.join(published)}: choose one with --variant, or give a local file"
        )
    try:
        from huggingface_hub import constants, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise MissingRuntimeError(
            "imagenet1k needs huggingface_hub, which is not installed; "
            "pip install 'edge-van[quantize]' or give a local file"
        ) from error
    try:
        # A cached file is taken as it is: the hub is not asked for a newer revision, so that a run repeats offline.
        return Path(hf_hub_download(row.hub_repo, row.hub_file, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        if not constants.HF_HUB_OFFLINE:
            _reach(hf_hub_url(row.hub_repo, row.hub_file))
        fetched = hf_hub_download(
            row.hub_repo, row.hub_file, etag_timeout=TIMEOUT_S, local_files_only=constants.HF_HUB_OFFLINE
        )
        return Path(fetched)
    except Exception as error:
        reason = printable((str(error).splitlines() or [type(error).__name__])[0])
        raise CheckpointError(
            f"the official {variant} weights, {row.hub_repo}/{row.hub_file}, are not in the cache and could not be "
            f"fetched from the Hugging Face hub ({reason}); go online, or give a local file with --checkpoint"
        ) from error


def _reach(url: str) -> None:
    """Fails fast where there is no network: the hub's client alone retries for up to a minute and a half.

    Any answer will do, and so will a certificate that only the client knows: what it says then is for the client.
    """
    try:
        urlopen(Request(url, method="HEAD"), timeout=TIMEOUT_S).close()
    except HTTPError:
        return
    except URLError as error:
        if not isinstance(error.reason, ssl.SSLError):
            raise
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {TIMEOUT_S:.0f} s") from error
