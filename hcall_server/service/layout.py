"""The parts of a state folder, and the move of an older layout (spec/service.md#state).

Until its parts had folders of their own, a state had the files of NVRAM at its top.  A start moves them.
"""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import cluster
from hcall_abi.rules import storage as rules
from hcall_server.files import destroy, is_empty, make_folder, refuse_link, sync_folder
from hcall_server.folders import outer_folder
from hcall_server.nvram.files import make_private_file
from hcall_server.nvram.mark import FileMark
from hcall_server.service.state_folder import check_private

ANCHOR_CARD = "anchor-card"
SERVICE_PROCESSOR = "service-processor"
TPMS = ("tpm", "tpm-2")
PARTS = (ANCHOR_CARD, SERVICE_PROCESSOR, *TPMS)
"""The folders of the parts; a missing or empty one is a new part."""
NVRAM = "nvram.sqlite"
ETCD_MARK = "nvram.etcd-mark"
"""The high-water mark of NVRAM on etcd, in the folder of the service processor."""
REMOVED = "removed"
"""The folder of parts that a technician took out (`swpks hmc replace`)."""
TRACES = "traces"
"""The folder in the state with the files of `swpks hmc trace`."""
SNAPSHOTS = "snapshots"
"""The folder in the state with the files of `swpks snapshot`."""
_WIPED = Path("asmi") / "wiped"
"""The folder of parts that an erase has taken away and not destroyed yet."""

_MOVED = ("-mark", "-wal", "-journal", "-shm", "")
"""The files of NVRAM by the ends of their names, in the order of their moves.

The database comes last: without its log it would lose the last commits, and a kill may come between two
moves.  As long as the database is at the top, the next start goes on with the move.
"""


def nvram_path(state: Path) -> Path:
    """Return the path of NVRAM in a state folder."""
    return state / SERVICE_PROCESSOR / NVRAM


def etcd_mark_path(state: Path) -> Path:
    """Return the path of the high-water mark of NVRAM on etcd."""
    return state / SERVICE_PROCESSOR / ETCD_MARK


def open_etcd_mark(state: Path) -> FileMark:
    """Open the high-water mark of NVRAM on etcd; OperatorError for a link, and for anything but a file."""
    path = etcd_mark_path(state)
    make_private_file(path)
    return FileMark(path)


def demand_one_nvram(state: Path, *, on_etcd: bool, start: bool = True) -> None:
    """Raise OperatorError if the state has used the other back end: its records are there.

    `start`: for a start, the error says how to begin with an empty NVRAM.
    """
    others = (nvram_path(state), state / NVRAM) if on_etcd else (etcd_mark_path(state),)
    other = next(filter(os.path.lexists, others), None)
    if other is None:
        return
    now, advice = ("in its folder", "without --nvram") if on_etcd else ("on etcd", "with its --nvram")
    replace = f"swpks hmc replace {SERVICE_PROCESSOR} --state {shlex.quote(str(state))}"
    way = f"start it {advice}; to begin with an empty NVRAM: {replace}" if start else f"repeat this {advice}"
    raise OperatorError(cluster.NVRAM_ONE_PLACE, f"{other} shows that this system has its NVRAM {now}: {way}")


def make_service_processor(state: Path) -> None:
    """Make the folder of the service processor, and move NVRAM of an older layout into it; durable on return.

    OperatorError for a link or a folder that is open to others, StorageError for parts of two layouts.
    """
    folder = state / SERVICE_PROCESSOR
    refuse_link(folder)
    make_folder(folder)
    check_private(folder)
    old = [state / f"{NVRAM}{end}" for end in _MOVED]
    found = [path for path in old if path.exists() or path.is_symlink()]
    if found and not (state / NVRAM).exists():
        message = f"{found[0]} is there without its database {NVRAM}: put NVRAM and its mark back together"
        raise StorageError(rules.STATE_LAYOUT, message)
    if found and (outer := outer_folder(state)):
        message = (
            f"{state} is inside of {outer[0]}: move a state of its own out of it, and leave a part there"
        )
        raise StorageError(rules.STATE_LAYOUT, message)
    for path in found:
        _check(path, folder)
    for path in found:
        if path.name == NVRAM:
            sync_folder(folder)  # a power cut must not leave the database without its log
        path.rename(folder / path.name)
    if found:
        sync_folder(folder)
        sync_folder(state)


def take_away(path: Path, state: Path) -> None:
    """Take a file or folder of a part away, durably, by one rename.  `finish_wipe` destroys it later.

    After a kill, the part is there whole or not at all.  If it were destroyed in its place, a kill would
    leave a damaged part.
    """
    finish_wipe(state)
    if path.exists():
        make_folder(state / _WIPED.parent)
        make_folder(state / _WIPED)
        path.rename(state / _WIPED / path.name)
        sync_folder(path.parent)
        sync_folder(state / _WIPED)


def finish_wipe(state: Path) -> None:
    """Destroy everything that an erase has taken away, even if that erase was killed."""
    if (state / _WIPED).exists():
        destroy(state / _WIPED)


def replace_part(state: Path, part: str) -> Path | None:
    """Replace a part by a new, empty one.  Return the new path of the old part, None if it was empty.

    The old part is stored below `removed`, so a technician can put it back.
    """
    if part == SERVICE_PROCESSOR:
        make_service_processor(state)
    folder = state / part
    refuse_link(folder)
    old = None
    new = state / REMOVED / f"{part}.new"
    if part == TPMS[1] and not (folder.exists() or new.exists()):
        return None  # an empty folder would give the system a second TPM
    if folder.is_dir() and not is_empty(folder):
        make_folder(state / REMOVED)
        # Make `new` before the old part is moved.  After a kill between the two renames, the next call
        # finds `new` and does only the second rename.
        make_folder(new)
        old = next(path for path in _shelf(state / REMOVED, part) if not path.exists())
        folder.rename(old)
    if new.exists():
        new.rename(folder)
        sync_folder(new.parent)
    make_folder(folder)
    sync_folder(state)
    return old


def _shelf(removed: Path, part: str) -> Iterator[Path]:
    return (removed / f"{part}.{number}" for number in itertools.count(1))


def _check(path: Path, folder: Path) -> None:
    refuse_link(path)
    if not path.is_file():
        raise OperatorError(rules.NVRAM_WRITABLE, f"NVRAM: {path} is not a plain file")
    if (folder / path.name).exists():
        message = f"{path} and {folder / path.name} both exist: keep the right one, and move the other away"
        raise StorageError(rules.STATE_LAYOUT, message)
