"""Refusals and hints of `swpks lpar` for names that are similar to the name of a secure-boot variable."""

from __future__ import annotations

import re

from hcall_abi.near import near_question
from hcall_abi.variables import POLICIES
from hcall_client.guests.authvar import variable_label
from hcall_client.guests.labels import describe_label
from swpks.cli.lpar_values import UsageError

_ALSO_LABELS = re.compile(r"\.(?:auth|esl)$|^:?(?:utf16:)?| \(Linux\)$", re.IGNORECASE)
"""Parts of a label, or of a file's name, that a user copies into the name of a variable."""
_ANYWAY = "To change a variable of exactly this name, add --any-name: it is signed under the GUID of others"


def check_name(variable: str) -> None:
    """Raise UsageError for a name that may be meant as the name of a secure-boot variable.

    A refused name is permitted in the keystore, but its update has to be signed under another GUID.  An
    update under a wrong name makes an object that no firmware reads.
    """
    if variable in POLICIES:
        return
    bare = _ALSO_LABELS.sub("", variable)
    known = {each.lower(): each for each in POLICIES}.get(bare.lower(), variable)
    if known != variable:
        case = ": case counts" if bare == variable else ""
        right = "for the secure-boot variable write the name alone" if bare != variable else "write"
        reason = f"{variable!r} is another variable than {known}, and is signed under another GUID{case}"
        raise UsageError(f"{reason}. {right[0].upper()}{right[1:]}: {known}. {_ANYWAY}")
    near = near_question(variable, POLICIES)
    if near or bare != variable:
        reason = f"{variable!r} is no secure-boot variable{near}; they are {', '.join(POLICIES)}"
        raise UsageError(f"{reason}. {_ANYWAY}")


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
