"""Accuracy of all peers against one FP32 model, on the same images, each as it is timed: batch 1.

In: peers, labelled images. Out: an ``Accuracy`` a peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from edge_van.bundle.records import Accuracy
from edge_van.evaluation.accuracy import validate_all
from edge_van.images.sets import open_images
from edge_van.input_spec import InputSpec
from edge_van.progress import Terminal
from edge_van.runtimes.normalized import NormalizedSession
from peers.peer import Peer


def measure(
    peers: Sequence[Peer], baseline: str, test: Path, spec: InputSpec, classes: int, *, threads: int, limit: int | None
) -> dict[str, Accuracy]:
    """By the peers' names, but for the baseline's own. Raises ``StopIteration`` where no peer is called ``baseline``.

    One pass each: with all in one pass, the waiting threads of every engine would be in every other one's way.
    """
    fp32 = next(peer for peer in peers if peer.name == baseline)
    found: dict[str, Accuracy] = {}
    with open_images(test, classes=spec.classes) as images:
        count = len(images) if limit is None else min(limit, len(images))
        for peer in (p for p in peers if p is not fp32):
            with ExitStack() as stack:
                reference, session = (
                    stack.enter_context(NormalizedSession(p.open(threads), spec)) for p in (fp32, peer)
                )
                advance = stack.enter_context(Terminal().stage(f"Accuracy of {peer.name}", count))
                found |= validate_all(
                    reference,
                    {peer.name: session},
                    images,
                    spec,
                    num_classes=classes,
                    batch_size=1,
                    limit=limit,
                    progress=advance,
                )
    return found
