"""Adapters of both clients of swpks: programs that the judge of a client starts, and an example for others.

python -m swpks.conformance.client.adapter --client blocking
python -m swpks.conformance.client.adapter --client trio
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from swpks.conformance.client.blocking_adapter import BlockingAdapter, serve_lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the adapter on standard input and output until the judge sends `quit`; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--client", choices=("blocking", "trio"), default="blocking")
    chosen = parser.parse_args(arguments).client
    for stream in (sys.stdin, sys.stdout):
        # The report of a session has the name of a firmware level, which may have any character.  The locale
        # of the judge's shell may lack some, so the streams use UTF-8.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", newline="\n")
    if chosen == "trio":
        # Imported here, because the blocking client must work without Trio.
        from swpks.conformance.client.trio_adapter import run_trio_adapter

        run_trio_adapter(sys.stdin, sys.stdout)
    else:
        serve_lines(BlockingAdapter(), sys.stdin, sys.stdout)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # The judge waits for the end of this process.  `os._exit` is quick: it skips the interpreter's clean-up.
    os._exit(status)
