"""A machine assembled of a state folder, in the test's own process and not running."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hcall_server.machine.machine import Machine
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import Settings
from hcall_server.service.state import State


@contextmanager
def assembled(
    folder: Path, settings: Settings | None = None, entropy: Callable[[int], bytes] = os.urandom
) -> Iterator[Machine]:
    """The machine; its folder is free for the next one after the block, and nothing is flushed by itself."""
    state = State(folder, entropy)
    try:
        seams = state.seams()
        try:
            yield assemble(seams, settings or Settings())
        finally:
            seams.worker.close()
            seams.nvram.close()
    finally:
        state.close()
