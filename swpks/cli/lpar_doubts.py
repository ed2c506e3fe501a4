"""The warnings of `swpks lpar NAME update`: a name of another case, a file with a doubtful form.

The command looks at the file itself.  The answer of SIGNED_UPDATE has no room for a warning: its status and
its registers are those of the real call.
"""

from __future__ import annotations

from hcall_abi.rules.updates import DOUBT_ADVICE
from hcall_abi.variables import POLICIES
from swpks.cli import streams


def warn_of_case(name: str, variable: str) -> None:
    """Say on standard error that a name differs from a variable's by its case alone; the update is sent.

    Any name may be used, and it is signed under another GUID.  So this is no error of the command line.
    """
    known = {each.lower(): each for each in POLICIES}.get(variable.lower(), variable)
    if known != variable:
        streams.complain(
            f"swpks lpar {name} update: warning: {variable} is another variable than {known}, and is signed "
            f"under another GUID: case counts. For the secure-boot variable write {known}"
        )


def warn_of_doubts(name: str, payload: bytes) -> None:
    """Say on standard error why real firmware may refuse a payload; the update is sent all the same.

    A payload that cannot be read gets no warning: the refusal of the h-call names its rule.
    """
    from hcall_server.secvar.update import doubts_of  # with cryptography, which no other verb needs

    for reason in doubts_of(payload):
        streams.complain(
            f"swpks lpar {name} update: warning: hardware may refuse this: {reason}. The public library for "
            f"real firmware compares a signature with the digest of the update alone; {DOUBT_ADVICE}"
        )
