"""What a network's answers are measured by: one file a task, each a ``Tally`` over batches of logits.

In: a ``Head`` and the number of a network's outputs. Out: an empty ``Tally`` of the task they make.
"""

from __future__ import annotations

from edge_van.head import Head
from edge_van.tasks.base import ClassifierTally, Tally
from edge_van.tasks.binary import BinaryTally
from edge_van.tasks.multi_label import MultiLabelTally
from edge_van.tasks.single_label import SingleLabelTally

_TALLIES: dict[str, type[ClassifierTally]] = {
    "single_label": SingleLabelTally,
    "binary": BinaryTally,
    "multi_label": MultiLabelTally,
}


def tally_of(head: Head, outputs: int) -> Tally:
    """``UsageError`` for a head that cannot stand behind so many outputs."""
    return _TALLIES[head.task(outputs)](head, outputs)
