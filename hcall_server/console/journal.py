"""The journal that a killed console has left: it becomes durable, or is removed, before SQLite opens it."""

# SQLite ends a change with zeros in the header of its journal, and syncs them.  A kill may come before this
# sync, or the sync may fail.  Then a later console reads the database with the change, and the disk still has
# the journal that undoes it.  A power cut would take back a change that the console has answered from.  So a
# start removes a journal without a header, and syncs the folder.
#
# A journal with a header undoes an unfinished change: SQLite writes the old pages of the journal into the
# database.  If the sync of the journal had failed, it is not on the disk, and no later sync writes it.  A
# power cut could then damage the pages that are being written.  So a start first replaces the journal by a
# durable copy.

from __future__ import annotations

import os
import stat
from pathlib import Path

from hcall_server.files import replace_private, sync_folder
from hcall_server.sqlite_lock import NO_ROOM, alone


def settle_journal(database: Path) -> None:
    """Make the last change durable, or the journal that undoes it.  Without a journal, do nothing.

    The caller has the `Claim` of the database, and no connection to it.  BlockingIOError if another process
    has the database open, OSError if a file can't be read or written.  Without room for a copy, the journal
    stays as it is.
    """
    journal = database.with_name(f"{database.name}-journal")
    # Anything but a plain file is left to SQLite.
    if not (os.path.lexists(journal) and stat.S_ISREG(journal.lstat().st_mode)):
        return
    with alone(database):
        if not _has_header(journal):
            journal.unlink()
            sync_folder(database.parent)
            return
        try:
            replace_private(journal, journal.read_bytes())
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise


def _has_header(journal: Path) -> bool:
    """Whether SQLite takes the journal for that of an unfinished change: its first byte is not zero."""
    with journal.open("rb") as file:
        return file.read(1) not in (b"", b"\0")
