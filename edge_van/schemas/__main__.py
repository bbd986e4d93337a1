"""Writes the published schemas anew: ``python -m edge_van.schemas [FOLDER]``.

In: a folder that is there; by default the one this file is in. Out: the schemas' files in it.
"""

import sys
from pathlib import Path

from edge_van.schemas import FOLDER, published

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, content in published().items():
        (folder / name).write_bytes(content.encode())
