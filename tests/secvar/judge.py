"""Calls of `decide` with the usual store of these tests, which contains only PK and KEK."""

from __future__ import annotations

import functools
from typing import Any

from hcall_abi.variables import wide
from hcall_server.secvar.pkcs7 import Verify
from hcall_server.secvar.update import Decision, Replace, UpdateRequest, decide
from tests.secvar.keys import kek, pk

LARGEST = 0xFFFF


@functools.cache
def trusted() -> dict[str, bytes]:
    """Return the stored PK and KEK."""
    return {"platform_key": pk().variable, "exchange_keys": kek().variable}


def judge(name: str, payload: bytes, *, verify: Verify | None = None, **changes: Any) -> Decision:
    """Return the decision about a payload. `changes` are fields of the request, `verify` replaces RSA."""
    fields = {
        "append": False,
        "stored": None,
        "unverified": False,
        "largest": LARGEST,
        **trusted(),
        **changes,
    }
    return decide(UpdateRequest(wide(name), payload, **fields), verify)


def stored(name: str, payload: bytes, **changes: Any) -> bytes:
    """Return the bytes that an update stores; the update must be accepted."""
    decision = judge(name, payload, **changes)
    assert isinstance(decision, Replace), decision
    return decision.data
