"""Files for the results of a long command: opened before its work, written at its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules.service import COMMAND_FILE
from swpks.cli.files import output
from swpks.cli.refusals import reason_of

Content = Callable[[], bytes]
"""Makes the content; it is called only if a file is named."""


class FileFailed(OperatorError):
    """A file of the command line can't be read or written."""

    def __init__(self, path: Path | None, error: OSError) -> None:
        super().__init__(COMMAND_FILE, f"{path}: {reason_of(error)}")


def opened_report(stack: ExitStack, path: Path | None) -> Callable[[Content], None]:
    """Open a file for results, and return the function that writes it.

    If no file is named, the function does nothing.  FileFailed if the file can't be opened; the function
    raises FileFailed if the file can't be written.
    """
    if path is None:
        return lambda content: None
    try:
        write = stack.enter_context(output(path))
    except OSError as error:
        raise FileFailed(path, error) from None

    def put(content: Content) -> None:
        try:
            write(content())
        except OSError as error:
            raise FileFailed(path, error) from None

    return put
