"""A refused OPEN: the error says which argument of the program is wrong, and where the right value is."""

from __future__ import annotations

import re

import pytest

from hcall_abi.frames import OpenStatus
from hcall_client.errors import OpenRefused
from hcall_client.open_advice import KEY_PLACE
from tests.client.peer import refusing

KEY = b"k" * 32
REFUSED = [
    (OpenStatus.NOT_AUTHORISED, {"access_key": KEY, "partition": 7}, "not that of partition 7: "),
    (OpenStatus.NOT_AUTHORISED, {"access_key": KEY}, "not that of the partition of this listener: "),
    (OpenStatus.NOT_AUTHORISED, {}, r"no access key was given, .* access_key=bytes.fromhex\(TEXT\)"),
    (OpenStatus.NOT_AUTHORISED, {"access_key": KEY.hex().encode()}, "has 64 bytes, not 32: .*fromhex"),
    (OpenStatus.NO_SUCH_PARTITION, {"partition": 9}, "does not serve the id 9.*`swpks hmc status`"),
    (OpenStatus.NO_SUCH_PARTITION, {}, "serves several partitions, and partition=N.*`swpks hmc status`"),
    (OpenStatus.NOT_ACTIVATED, {}, "NOT_ACTIVATED$"),
]


@pytest.mark.parametrize("status, given, expected", REFUSED)
async def test_a_refusal_says_what_to_give(status: OpenStatus, given: dict, expected: str) -> None:
    """The error of a refused OPEN names the likely mistake, such as the key of another partition."""

    async def refuse(peer):
        await peer.greet(status=status)

    error = await refusing(refuse, **given)
    assert isinstance(error, OpenRefused)
    assert re.search(expected, error.message)
    assert error.status == status
    assert (KEY_PLACE in error.message) == (status == OpenStatus.NOT_AUTHORISED)
    for secret in (KEY.decode(), KEY.hex()):
        assert secret not in error.message
