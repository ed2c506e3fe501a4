"""Names in records: UTF-8, and nothing else."""

from __future__ import annotations

from hcall_abi.rules.rule import Rule
from hcall_server.sealing.errors import PlaintextError


def decoded_text(name: bytes, rule: Rule) -> str:
    """Return a stored name as text; raises PlaintextError when it is not UTF-8."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise PlaintextError(rule, "a name is not UTF-8") from None
