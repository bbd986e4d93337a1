"""One host of a fleet: an edge-van command whose outcome is written down as soon as it is known.

In: ``python -m edge_van.deployment.one_host RECORD HOST COMMAND...``. Out: a JSON file with what the command said, its
exit code as this one's. A fleet that is interrupted so still knows every host that was changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run it; what it writes to standard error goes on there, too."""
    record, host, *words = arguments
    done = subprocess.run([sys.executable, "-m", "edge_van", *words], capture_output=True, check=False)
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    said = {"host": host, "code": done.returncode, "out": out, "err": err}
    part = Path(f"{record}.part")
    part.write_text(json.dumps(said), encoding="utf-8")
    part.replace(record)
    sys.stderr.write(err)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
