"""`decide` with the store that most tests want: PK and KEK are there, nothing else is."""

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
    """PK and KEK as they are stored."""
    return {"platform_key": pk().variable, "exchange_keys": kek().variable}


def judge(name: str, payload: bytes, *, verify: Verify | None = None, **changes: Any) -> Decision:
    """The decision about a payload; `changes` are fields of the request, `verify` stands in for RSA."""
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
    """What is stored after an update that has to be taken."""
    decision = judge(name, payload, **changes)
    assert isinstance(decision, Replace), decision
    return decision.data
