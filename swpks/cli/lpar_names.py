"""Hints of `swpks lpar` for names that are nearly those of a secure-boot variable."""

from __future__ import annotations

from hcall_abi.variables import POLICIES
from hcall_client.guests.authvar import variable_label
from hcall_client.guests.labels import describe_label
from swpks.cli import streams


def warn_of_case(name: str, variable: str) -> None:
    """Warn on standard error if a name differs from that of a variable only by its case; the update is sent.

    Any name is permitted; it is signed under another GUID.  So this is no error of the command line.
    """
    known = {each.lower(): each for each in POLICIES}.get(variable.lower(), variable)
    if known != variable:
        streams.complain(
            f"swpks lpar {name} update: warning: {variable} is another variable than {known}, and is signed "
            f"under another GUID: case counts. For the secure-boot variable write {known}"
        )


def label_of_variable(label: bytes | None) -> str:
    """Return the label of the secure-boot variable with this plain name, in words; "" for any other name.

    The label of the object that `update db` makes is a header and `db` in UTF-16; `read db` asks for the
    label `db`.
    """
    name = (label or b"").decode("ascii", "replace")
    return describe_label(variable_label(name)) if name in POLICIES else ""
