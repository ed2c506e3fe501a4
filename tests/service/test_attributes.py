"""Attributes on a real server: set by option and console, seen by the guest, kept over SIGKILL."""

import json
from pathlib import Path

import pytest

from hcall_abi.statuses import Status
from hcall_client.calls import get_config, raw_call, read_object
from hcall_client.errors import HcallError
from hcall_client.request import Authorization
from swpks.testing import ServerProcess

FIRMWARE = Authorization(1)
SB_VERSION = read_object(FIRMWARE, b"SB_VERSION")
SIGNED_UPDATE = 0x454
NAMES = (
    "keystore_signed_updates",
    "keystore_signed_updates_without_verification",
    "linux_dynamic_key_secure_boot",
)


def attributes(server: ServerProcess) -> list[int]:
    """What the console shows."""
    view = json.loads(server.hmc("status", "lpar1", "--json"))
    return [view[name] for name in NAMES]


def refused(server: ServerProcess, *words: str) -> str:
    """What the console says to a request that it refuses."""
    done = server.run("hmc", *words)
    assert done.returncode == 1
    return done.stderr.decode()


@pytest.mark.process
def test_attributes_outlive_the_server(tmp_path: Path) -> None:
    """R-36, R-21: a guest finds SB_VERSION by dynamic keys, after SIGKILL too, and not without them."""
    wish = "lpar1:64,keystore_signed_updates=1,linux_dynamic_key_secure_boot=1,secure_boot=enforce"
    server = ServerProcess(tmp_path / "state", [wish])
    try:
        with server.start().connect_blocking() as channel:
            found = channel.call(SB_VERSION)
            assert (found.data, int(found.policy)) == (b"\x01", 0x08000008)
            assert channel.call(get_config()).used_space == 0
        server.kill()
        server.partitions = []
        with server.start().connect_blocking() as channel:
            assert channel.call(SB_VERSION).data == b"\x01"
        assert attributes(server) == [1, 0, 1]
        assert "powered off" in refused(server, "set", "lpar1", "linux_dynamic_key_secure_boot=0")
        server.hmc("power", "lpar1", "off")
        server.hmc("set", "lpar1", *(f"{name}=0" for name in NAMES), "secure_boot=off")
        server.hmc("power", "lpar1", "on")
        with server.connect_blocking() as channel, pytest.raises(HcallError) as absent:
            channel.call(SB_VERSION)
        assert absent.value.status == Status.H_NOT_FOUND
        with server.connect_blocking() as channel:
            assert channel.call(raw_call(SIGNED_UPDATE)).status == Status.H_FUNCTION
        server.hmc("keystore", "lpar1", "0")
        assert "need a keystore_kbytes above 0" in refused(server, "set", "lpar1", f"{NAMES[0]}=1")
        assert server.stop() == 0
    finally:
        server.kill()
