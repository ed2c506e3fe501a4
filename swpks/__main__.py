"""The entry point of `swpks` and of `python -m swpks`: the first module that the process loads."""

# Garbage collection waits for the end of the start
#
# A start makes some 60,000 objects that live as long as the process: modules, functions, tables, layouts.
# Python's collector would visit them again and again while they are made, to free 2,500 objects of garbage,
# and take 7 % of the time to the ready line.  So the collector is off from before the first import.
#
# `swpks serve` turns the collector on right before its ready line.  At that moment it also freezes the
# present objects (gc.freeze): a full collection then visits only later ones.  Without the freeze, each full
# collection stops the event loop for 10 ms and more.  With the freeze, it takes some microseconds.  No
# collection runs before the freeze: it would also take 10 ms, and free only 0.6 MB.
#
# Every other command turns the collector on before it runs.

from __future__ import annotations

import gc
import sys

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


def main() -> int:
    """Run the command line of this process; return its exit status."""
    gc.disable()
    try:
        from swpks.cli.main import main as command

        return command()
    except KeyboardInterrupt:  # Ctrl-C while the command's modules are loaded
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
