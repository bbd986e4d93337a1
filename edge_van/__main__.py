"""``python -m edge_van``: the same as the ``edge-van`` command.

In: arguments. Out: see ``edge_van.cli``.
"""

from edge_van.cli import main

main()
