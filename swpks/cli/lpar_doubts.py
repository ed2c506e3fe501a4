"""The warning of `swpks lpar NAME update` about an auth file that real firmware may refuse."""

# Why the command reads the payload
#
# The answer of SIGNED_UPDATE has no place for a warning: its status and its registers are those of the real
# call.  So the command checks the payload itself.

from __future__ import annotations

from hcall_abi.rules.updates import DOUBT_ADVICE
from swpks.cli import streams


def warn_of_doubts(name: str, payload: bytes) -> None:
    """Print on standard error why real firmware may refuse a payload; the command still sends the update.

    A payload that cannot be read gets no warning: the refusal of the h-call names its rule.
    """
    from hcall_server.secvar.update import doubts_of  # with cryptography, which no other verb needs

    for reason in doubts_of(payload):
        streams.complain(
            f"swpks lpar {name} update: warning: hardware may refuse this: {reason}. The public library for "
            f"real firmware compares a signature with the digest of the update alone; {DOUBT_ADVICE}"
        )
