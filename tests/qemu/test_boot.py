"""R-73: unchanged kernels of Debian, with swpks as their keystore."""

import itertools
import struct
from pathlib import Path

import pytest
import trio

from hcall_abi.statuses import Status
from hcall_abi.structures import parse_config
from swpks.qemu.bridge import Bridge
from swpks.qemu.inferior import call_function
from swpks.qemu.stub import Stop
from swpks.testing import ServerProcess
from tests.debian.reporting import reported
from tests.qemu.guest import Guest, backports_kernel, need_qemu, newest_kernel

pytestmark = [pytest.mark.slow, pytest.mark.process]

LATE = "sed_read_key"
"""Called once in each boot, when the driver is ready: it reads the boot PIN of self-encrypting drives."""
REBOOT = "machine_restart"
PIN = b"opal-boot-pin\0"
SUCCESS_LINE = "plpks: POWER LPAR Platform KeyStore initialized successfully"
SED_OBJECT = (64, 0x08000000)


@pytest.fixture
def stock(tmp_path: Path, swpks_server: ServerProcess) -> Guest:
    """The kernel of bookworm-backports."""
    with reported():
        guest = Guest(tmp_path, backports_kernel(), swpks_server)
        need_qemu(guest.kernel)
    return guest


@pytest.fixture
def newest(tmp_path: Path, swpks_server: ServerProcess) -> Guest:
    """The kernel of sid."""
    with reported():
        guest = Guest(tmp_path, newest_kernel(), swpks_server)
        need_qemu(guest.kernel)
    return guest


async def test_a_stock_kernel_keeps_a_key(stock: Guest) -> None:
    """R-73, R-04, R-21: a key written through the driver is there after an IPL, and after a kill of swpks.

    The first boot writes it with the driver's own function; each later boot finds it. Before the second
    reboot the server is killed and started again.
    """
    key = b"twenty-three bytes key."
    reboots: list[int] = []

    def prepare(bridge: Bridge) -> None:
        async def late(stop: Stop) -> None:
            if not reboots:
                page = await stock.put(await stock.page(stop), PIN.ljust(16, b"\0") + key)
                written = await call_function(bridge, stop, "sed_write_key", page, page + 16, len(key))
                assert written == 0

        async def reboot(_stop: Stop) -> None:
            reboots.append(len(stock.calls))
            if len(reboots) == 2:
                stock.server.kill()
                await trio.to_thread.run_sync(stock.server.start)
            if len(reboots) == 3:
                await bridge.monitor.quit()

        bridge.hook(LATE, late)
        bridge.hook(REBOOT, reboot)

    await stock.run(prepare)
    by_boot = [stock.calls[start:end] for start, end in itertools.pairwise([0, *reboots])]
    for calls in by_boot:
        statuses = {call.name: call.status for call in calls}
        assert statuses["GET_CONFIG"] == statuses["GEN_PASSWORD"] == Status.H_SUCCESS
        assert calls[-1].name == "READ_OBJECT"
        assert calls[-1].answer.registers[:2] == SED_OBJECT
        assert calls[-1].answer.writes[0][1][28 : 28 + len(key)] == key
    assert [call.name for call in by_boot[0]].count("WRITE_OBJECT") == 1
    assert "WRITE_OBJECT" not in [call.name for calls in by_boot[1:] for call in calls]
    assert stock.console.count(SUCCESS_LINE) == 3
    assert stock.console.count(f"opal-boot-pin: {len(key)}") == 3


async def wrap_round_trip(guest: Guest, stop: Stop, secret: bytes) -> dict[str, object]:
    """Call functions of the kernel's driver that wrap a secret and unwrap it again.

    Return their results, and the bytes that they gave.
    """

    async def call(name: str, *arguments: int) -> int:
        return await call_function(guest.bridge, stop, name, *arguments) & 0xFFFFFFFF

    async def result(cells: int) -> bytes:
        """Return the bytes that a pointer and a length describe; both are at the address `cells`."""
        address, length = struct.unpack("<QI", await guest.get(cells, 12))
        return await guest.get(address, length)

    cells, plain = await guest.page(stop), await guest.page(stop)
    await guest.put(plain, secret)
    await guest.put(cells, plain.to_bytes(8, "little"))
    wrapped, out = cells + 16, cells + 32
    found: dict[str, object] = {
        "supported": await call("plpks_wrapping_is_supported") & 0xFF,
        "key": await call("plpks_gen_wrapping_key"),
        "wrap": await call("plpks_wrap_object", cells, len(secret), 0, wrapped, wrapped + 8),
    }
    found["wrapped"] = blob = await result(wrapped)
    found["unwrap"] = await call("plpks_unwrap_object", wrapped, len(blob), out, out + 8)
    found["secret"] = await result(out)
    return found


async def test_the_newest_kernel_wraps(newest: Guest) -> None:
    """R-73, R-71, R-35: the driver wraps a secret and unwraps it again.

    sysfs shows the config block, and the device tree has the secure-boot mode.
    """
    secret = bytes(range(7, 71))
    results: dict[str, object] = {}

    def prepare(bridge: Bridge) -> None:
        async def late(stop: Stop) -> None:
            results.update(await wrap_round_trip(newest, stop, secret))

        async def reboot(_stop: Stop) -> None:
            await bridge.monitor.quit()

        bridge.hook(LATE, late)
        bridge.hook(REBOOT, reboot)

    await trio.to_thread.run_sync(newest.server.hmc, "secure-boot", "lpar1", "enforce")
    await newest.run(prepare)
    assert "mode 00000000  00 00 00 02 " in newest.console
    wrapped = results.pop("wrapped")
    assert results == {"supported": 1, "key": 0, "wrap": 0, "unwrap": 0, "secret": secret}
    assert isinstance(wrapped, bytes)
    assert len(wrapped) == len(secret) + 1024
    assert secret not in wrapped
    config = parse_config(
        [call for call in newest.calls if call.name == "GET_CONFIG"][-1].answer.writes[0][1]
    )
    output = dict(
        line.split(maxsplit=2)[1:] for line in newest.console.splitlines() if line.startswith("config ")
    )
    assert output == {
        "version": str(config.version),
        "max_object_size": str(config.max_object_size),
        "total_size": str(config.total_size),
        "used_space": str(config.used_space),
        "supported_policies": f"{config.supported_policies:08x}",
        "signed_update_algorithms": f"{config.signed_update_algorithms:016x}",
        "wrapping_features": f"{config.wrapping_features:016x}",
    }
    assert config.used_space > 0
