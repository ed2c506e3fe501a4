"""Attributes of a real server: settings and console set them, the guest sees them, and SIGKILL loses none."""

from pathlib import Path

import pytest

from hcall_abi.statuses import Status
from hcall_client.calls import get_config, raw_call, read_object
from hcall_client.console import ConsoleRefused, power_off, power_on, set_attributes, show_partition
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
    """Return the attributes that the console shows."""
    view = server.console.call(show_partition("lpar1"))
    return [getattr(view, name) for name in NAMES]


def refused(server: ServerProcess, **changes: int) -> str:
    """Return the rule that a change of attributes breaks."""
    with pytest.raises(ConsoleRefused) as caught:
        server.console.call(set_attributes("lpar1", changes))
    return caught.value.rule.sentence


@pytest.mark.process
def test_attributes_outlive_the_server(tmp_path: Path) -> None:
    """R-36, R-21: The guest finds SB_VERSION only if dynamic keys are on, also after SIGKILL."""
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
        assert "powered off" in refused(server, linux_dynamic_key_secure_boot=0)
        server.console.call(power_off("lpar1"))
        server.console.call(set_attributes("lpar1", {**dict.fromkeys(NAMES, 0), "secure_boot": 0}))
        server.console.call(power_on("lpar1"))
        with server.connect_blocking() as channel, pytest.raises(HcallError) as absent:
            channel.call(SB_VERSION)
        assert absent.value.status == Status.H_NOT_FOUND
        with server.connect_blocking() as channel:
            assert channel.call(raw_call(SIGNED_UPDATE)).status == Status.H_FUNCTION
        server.console.call(set_attributes("lpar1", {"keystore_kbytes": 0}))
        assert "need a keystore_kbytes above 0" in refused(server, keystore_signed_updates=1)
        assert server.stop() == 0
    finally:
        server.kill()
