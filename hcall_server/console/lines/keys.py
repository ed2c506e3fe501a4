"""chtskey, lstskey: the trusted system key (spec/recovery.md#trusted-system-key).

A key travels from the file of the caller to the system.  The console stores it nowhere.
"""

from __future__ import annotations

from typing import Literal, cast

from hcall_abi.bounds import TRUSTED_KEY_SIZE
from hcall_abi.control_views import TrustedKeyView
from hcall_abi.errors import OperatorError
from hcall_abi.requests import set_trusted_key, show_trusted_key
from hcall_abi.rules import backup
from hcall_server.console.lines.line import COLUMNS, SYSTEM, Getters, Line, LineCommand
from hcall_server.console.options import Option, Syntax

ATTRIBUTES: Getters[TrustedKeyView] = {
    "key_length": lambda it: str(TRUSTED_KEY_SIZE if it.id else 0),
    "key_status": lambda it: "1" if it.id else "2",
    "key_id": lambda it: it.id or "none",
}
"""The attributes of lstskey.  Status 1: a key is set; status 2: there is none yet."""


async def _read_key(line: Line, flag: str) -> bytes | None:
    """Return the key in the file of an option, None without the option; OperatorError for another size."""
    if (path := line.options.value(flag)) is None:
        return None
    try:
        key = await line.caller.read(path, TRUSTED_KEY_SIZE)
    except OperatorError as error:
        # The command sends at most the bytes of one key.  So only the command knows the size of a longer
        # file, and its error gets this remedy.
        remedy = f"name a file of exactly {TRUSTED_KEY_SIZE} bytes that you can read"
        raise OperatorError(error.rule, f"{error.message}; {remedy}", advised=True) from None
    if len(key) != TRUSTED_KEY_SIZE:
        message = f"{path} has {len(key)} bytes; a trusted system key has {TRUSTED_KEY_SIZE}"
        raise OperatorError(backup.TRUSTED_KEY_FILE, message)
    return key


async def _chtskey(line: Line) -> int:
    operation = cast("Literal['change', 'restore']", line.options.needed("-o"))
    # Both files are read before the request, because the second one may be missing.
    new, old = await _read_key(line, "--newkey"), await _read_key(line, "--oldkey")
    await line.known.call(set_trusted_key(operation, new, old))
    return 0


async def _lstskey(line: Line) -> int:
    # This call only checks -F.  A misspelt name is then refused even while the system is away.
    line.listed(ATTRIBUTES, [])
    await line.show(ATTRIBUTES, [await line.known.call(show_trusted_key())])
    return 0


COMMANDS = (
    LineCommand(
        Syntax(
            "chtskey",
            (
                SYSTEM,
                Option("-o", choices=("change", "restore"), required=True),
                Option("--newkey", "FILE", required=True),
                Option("--oldkey", "FILE"),
            ),
            ignored={"--force": "nothing"},
        ),
        _chtskey,
    ),
    LineCommand(Syntax("lstskey", (SYSTEM, *COLUMNS)), _lstskey),
)
