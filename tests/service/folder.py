"""Assembles a machine from a state folder in the test's own process. The machine does not run."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hcall_server.machine.machine import Machine
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import Settings
from hcall_server.service.state import State


@contextmanager
def assembled(
    folder: Path,
    settings: Settings | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
    *,
    accept_older: bool = False,
) -> Iterator[Machine]:
    """A machine that is assembled but does not run. After the block, another one may use the folder."""
    state = State(folder, entropy)
    try:
        seams = state.seams()
        try:
            yield assemble(seams, settings or Settings(), accept_older=accept_older)
        finally:
            seams.worker.close()
            seams.nvram.close()
    finally:
        state.close()


def database_of(state: Path) -> Path:
    """The path of NVRAM's database: a start moves an older layout's database into the folder of its part."""
    moved = state / "service-processor" / "nvram.sqlite"
    return moved if moved.exists() else state / "nvram.sqlite"


STATES = Path(__file__).resolve().parents[1] / "states"
"""Copies of state folders that earlier commits wrote, by commit."""


def old_state(to: Path, commit: str, what: str) -> Path:
    """Copy a state folder of an earlier commit, with the file modes that git does not store."""
    shutil.copytree(STATES / commit / what, to)
    for path in [to, *to.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    return to
