"""Hints of `swpks lpar` for names that are similar to the name of a secure-boot variable."""

from __future__ import annotations

from hcall_abi.variables import POLICIES
from hcall_client.guests.authvar import variable_label
from hcall_client.guests.labels import describe_label
from swpks.cli import streams


def warn_of_case(name: str, variable: str) -> None:
    """Warn if a name differs from a secure-boot variable only in upper and lower case.

    The warning goes to standard error, and the update is sent all the same.  Such a name is permitted, but
    its update has to be signed under another GUID.
    """
    known = {each.lower(): each for each in POLICIES}.get(variable.lower(), variable)
    if known != variable:
        streams.complain(
            f"swpks lpar {name} update: warning: {variable} is another variable than {known}, and is signed "
            f"under another GUID: case counts. For the secure-boot variable write {known}"
        )


def label_of_variable(label: bytes | None) -> str:
    """Return a secure-boot variable's label as text, if `label` is its plain name; "" for others.

    The plain name is not the label: `update db` makes an object whose label is a header and `db` in UTF-16.
    But `read db` reads the label `db`.
    """
    name = (label or b"").decode("ascii", "replace")
    return describe_label(variable_label(name)) if name in POLICIES else ""
