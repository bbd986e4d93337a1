"""Accuracy of all peers against one FP32 model, on the same images, each as it is timed: batch 1.

In: peers, labelled images. Out: an ``Accuracy`` a peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edge_van.bundle.records import Accuracy
from edge_van.evaluation.accuracy import measure_accuracy
from edge_van.images.sets import open_images
from edge_van.input_spec import InputSpec
from edge_van.progress import Terminal, Work
from edge_van.runtimes.image_model import ImageModel
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
        for peer in (p for p in peers if p is not fp32):
            with ExitStack() as stack:
                reference, other = (
                    ImageModel(stack.enter_context(p.open(threads)), spec, classes, batch=1, name=p.name)
                    for p in (fp32, peer)
                )
                measured = measure_accuracy(
                    reference,
                    {peer.name: other},
                    images,
                    Work(Terminal()),
                    title=f"Accuracy of {peer.name}",
                    limit=limit,
                )
                # without the classes: 200 of them for each of 15 models are a megabyte that no table shows
                found[peer.name] = replace(measured.accuracy[peer.name], classes=())
    return found
