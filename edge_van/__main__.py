"""Where the ``edge-van`` command and ``python -m edge_van`` begin: the same as ``edge_van.cli.main.main``.

In: arguments. Out: an exit code. Importing the command line takes a tenth of a second, in which Ctrl-C is heard too.
"""

import sys


def main() -> None:
    """Import the command line and run it; 130 for an interrupt before it can answer for itself."""
    try:
        from edge_van.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("edge-van: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
