"""Writes the published schemas anew: ``python -m edge_van.schemas``.

In: nothing. Out: the files beside this one.
"""

from edge_van.schemas import FOLDER, published

if __name__ == "__main__":
    for name, content in published().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
