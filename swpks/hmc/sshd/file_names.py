"""FILE arguments of a line at the door: names of files in one folder, and no paths."""

from __future__ import annotations

import errno
import inspect
import os
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from swpks.hmc.links import program

_MAIN = '\nif __name__ == "__main__":\n'


def place(path: str, folder: str) -> str:
    """Return the path of a file in the folder; OSError for all but the name of a file or of a new one."""
    if "/" in path or path.startswith((".", "-")):
        raise OSError(
            errno.EACCES, "at this door, FILE is a name in STORE/files, and no path; write the name alone"
        )
    found = f"{folder}/{path}"
    # A link would lead out of the folder.  A session can make none, so none comes after this check.
    if os.path.islink(found):  # noqa: PTH114 (the program has no pathlib)
        raise OSError(errno.EACCES, "it is a symbolic link, which this door does not follow")
    return found


def door_program(store: Path, files: Path) -> str:
    """Return the text of the client of lines that opens only files of this folder.

    It is the program of `swpks hmc links` with a further check, `place`, behind its own.
    """
    before, found, after = program(store).partition(_MAIN)
    if not found:
        raise OperatorError(rules.HMC_LINKS, "this installation has a changed line_client.py")
    return (
        f"{before}\n_of_the_line = _allowed\n\n\n{inspect.getsource(place)}\n\n"
        "def _allowed(path, named, how):\n"
        f"    return place(_of_the_line(path, named, how), {str(files)!r})\n\n{found}{after}"
    )
