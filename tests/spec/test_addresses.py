"""In the order for a migration, the target's address has one of two forms (R-51)."""

from __future__ import annotations

import msgspec
import pytest

from hcall_abi.control_bodies import MigrationOrder

RIGHT = ("unix:/run/x", "unix:run/x", "tcp:1.2.3.4:1", "tcp:[::1]:65535", "tcp:host.example:9040")
WRONG = (
    *("tcp:1.2.3.4:99999", "tcp:1.2.3.4:0", "tcp:1.2.3.4", "tcp::9040", "tcp:a b:9040", "tcp:::1:9040"),
    *("unix:", "unix:\0abcdef", "/run/sock", "ftp:host:21", "tcp:host:9040\n"),
)


def order(address: str) -> bytes:
    """Return the body of an order with this address."""
    fields = {
        "uuid": "00000000-0000-4000-8000-000000000001",
        "epoch": 1,
        "target_id": "ab" * 16,
        "address": address,
        "token": "A" * 43 + "=",
    }
    return msgspec.json.encode(fields)


@pytest.mark.parametrize("address", RIGHT)
def test_an_address_is_taken(address: str) -> None:
    """R-51: an address may be a path, or a host and a port."""
    assert msgspec.json.decode(order(address), type=MigrationOrder).address == address


@pytest.mark.parametrize("address", WRONG)
def test_another_form_is_no_order(address: str) -> None:
    """R-51: if the address has another form, the order's body is refused (400) before anything begins."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(order(address), type=MigrationOrder)
