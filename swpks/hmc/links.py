"""A folder of links with the names of the real console's commands (spec/console.md#links)."""

from __future__ import annotations

import sys
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from swpks.hmc import line_client
from swpks.hmc.names import LINES

CLIENT = "swpks-line"
"""The only regular file in the folder; each name is a link to it."""


def make_links(folder: Path, store: Path) -> tuple[str, ...]:
    """Make or renew a folder of links to the console of a store; return the names of the links.

    OperatorError if the folder holds other files, or can't be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        # Before the first change: a folder that was named by mistake, such as /usr/bin, stays as it is.
        others = [path.name for path in folder.iterdir() if not _is_ours(path)]
        if others:
            message = f"{folder} holds other things, such as {sorted(others)[0]}: name a new folder"
            raise OperatorError(rules.HMC_LINKS, message, advised=True)
        _write(folder / CLIENT, _program(store.absolute()))
        for name in LINES:
            link = folder / name
            if not link.is_symlink():
                link.symlink_to(CLIENT)
    except OSError as error:
        raise OperatorError(
            rules.HMC_LINKS, f"{error.filename or folder}: {error.strerror or error}"
        ) from None
    return LINES


def _is_ours(path: Path) -> bool:
    # First, because is_file() follows a link: a link to another program is not ours.
    if path.is_symlink():
        return path.name in LINES and str(path.readlink()) == CLIENT
    return path.name in (CLIENT, f"{CLIENT}.new") and path.is_file()


def _program(store: Path) -> str:
    """Return the client program for a store; its Python reads no environment and no site packages."""
    python = sys.executable
    # A `#!` line ends at the first blank of the path, and Linux cuts it at 127 bytes (256 since Linux 5.1).
    if any(character.isspace() for character in python) or len(python) > 120:
        raise OperatorError(rules.HMC_LINKS, f"no script can name this Python: {python}")
    source = Path(line_client.__file__).read_text("utf-8")
    before, found, after = source.partition('\nSTORE = ""\n')
    if not found:
        raise OperatorError(rules.HMC_LINKS, "this installation has a changed line_client.py")
    return f"#!{python} -IS\n{before}\nSTORE = {str(store)!r}\n{after}"


def _write(path: Path, content: str) -> None:
    """Replace a file by a rename, so that a command that starts meanwhile finds the old or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(content, "utf-8")
    new.chmod(0o755)
    new.replace(path)
