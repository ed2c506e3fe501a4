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
    """Make or renew a folder of links, and return the names of the links.

    There is a link for each command of a console.  The commands go to the console with this store.
    OperatorError if the folder holds other files, or can't be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        # The folder is checked before the first change. If it was named by mistake, such as /usr/bin, it
        # stays as it is.
        others = [path.name for path in folder.iterdir() if not _is_ours(path)]
        if others:
            message = f"{folder} holds other things, such as {sorted(others)[0]}: name a new folder"
            raise OperatorError(rules.HMC_LINKS, message, advised=True)
        write_program(folder / CLIENT, program(store.absolute()))
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
    # A link is no file of ours. It is checked first, because is_file() would follow it.
    if path.is_symlink():
        return path.name in LINES and str(path.readlink()) == CLIENT
    return path.name in (CLIENT, f"{CLIENT}.new") and path.is_file()


def program(store: Path) -> str:
    """Return the text of the client program for a store.

    Its Python reads no environment variables and no site packages.
    """
    python = sys.executable
    # The path in a `#!` line ends at the first blank, and Linux cuts the line at 127 bytes (256 since Linux
    # 5.1).
    if any(character.isspace() for character in python) or len(python) > 120:
        raise OperatorError(rules.HMC_LINKS, f"no script can name this Python: {python}")
    source = Path(line_client.__file__).read_text("utf-8")
    before, found, after = source.partition('\nSTORE = ""\n')
    if not found:
        raise OperatorError(rules.HMC_LINKS, "this installation has a changed line_client.py")
    return f"#!{python} -IS\n{before}\nSTORE = {str(store)!r}\n{after}"


def write_program(path: Path, content: str) -> None:
    """Replace a program by a rename.

    A command that starts meanwhile finds the old or the new file.
    """
    new = path.with_name(f"{path.name}.new")
    new.write_text(content, "utf-8")
    new.chmod(0o755)
    new.replace(path)
