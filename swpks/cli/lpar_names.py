"""Hints of `swpks lpar` for names that are similar to the name of a secure-boot variable."""

from __future__ import annotations

import re

from hcall_abi.near import near_question
from hcall_abi.variables import POLICIES
from hcall_client.guests.authvar import variable_label
from hcall_client.guests.labels import describe_label
from swpks.cli import streams

_ALSO_LABELS = re.compile(r"\.(?:auth|esl)$|^:?(?:utf16:)?| \(Linux\)$", re.IGNORECASE)
"""Parts of a label, or of a file's name, that a user copies into the name of a variable."""


def warn_of_name(name: str, variable: str) -> None:
    """Warn if a name is not, but may be meant as, the name of a secure-boot variable.

    The warning goes to standard error, and the update is sent all the same.  Such a name is permitted, but
    its update has to be signed under another GUID.
    """
    if variable in POLICIES:
        return
    bare = _ALSO_LABELS.sub("", variable)
    known = {each.lower(): each for each in POLICIES}.get(bare.lower(), variable)
    if known == variable:
        near = near_question(variable, POLICIES)
        if near or bare != variable:
            streams.complain(
                f"swpks lpar {name} update: warning: {variable!r} is no secure-boot variable{near}; they are "
                f"{', '.join(POLICIES)}. Another name is another variable, signed under another GUID"
            )
    elif bare != variable:
        streams.complain(
            f"swpks lpar {name} update: warning: {variable!r} is another variable than {known}, and is "
            f"signed under another GUID. For the secure-boot variable write the name alone: {known}"
        )
    else:
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


def variable_of_label(label: bytes) -> str:
    """Return the secure-boot variable that Linux stores under a label; "" for any other label."""
    return next((each for each in POLICIES if variable_label(each) == label), "")
