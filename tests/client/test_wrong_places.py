"""Wrong places of data channels, and wrong functions that locate one: each error has a remedy that works."""

from typing import Any

import pytest

import swpks
from hcall_abi.errors import OperatorError
from hcall_abi.faults import parse_fault
from hcall_abi.mistakes import WrongType, WrongValue

WRONG: Any = swpks
PORT = r"not tuple of str and str: write \('localhost', 9000\), the port without quotes$"


async def test_places_of_another_kind(pks_partition, pks_partition_sync):
    opened: list[tuple[Any, str]] = [
        (pks_partition, "its member `channel`; for one more, write `async with it.connect"),
        (("localhost", "9000"), PORT),
        (("localhost", "secret"), PORT),
        (pks_partition.locate, r"is for swpks.open_following\(locate\)"),
        (pks_partition_sync.locate, r"is for swpks.open_following\(locate\)"),
    ]
    for place, message in opened:
        with pytest.raises(WrongType, match=message):
            await WRONG.open_channel(place).__aenter__()
    with pytest.raises(WrongType, match=r"a socket is for blocking channels: take swpks.BlockingChannel or"):
        await WRONG.open_following(pks_partition_sync.locate).__aenter__()
    with pytest.raises(WrongType, match="its member `channel`; for one more, write `connect"):
        WRONG.BlockingChannel.connect(pks_partition_sync)
    with pytest.raises(WrongType, match=PORT):
        WRONG.BlockingChannel.connect(("localhost", "9000"))
    for locate, message in (
        (swpks.locate_at_async("/none", "lpar1"), r"its locate is asynchronous: write locate_at\(\.\.\.\)"),
        (pks_partition.locate, "a stream of Trio is for asynchronous channels: take swpks.open_channel"),
    ):
        with pytest.raises(WrongType, match=message):
            WRONG.FollowingBlockingChannel(locate)


async def test_a_locate_with_arguments(pks_console):
    message = "without arguments, and locate has a missing a required argument: 'name': write {}"
    with pytest.raises(WrongType, match=message.format(r'open_following\(locate\("lpar1"\)\) if')):
        await WRONG.open_following(pks_console.locate).__aenter__()
    with pytest.raises(WrongType, match=message.format("FollowingBlockingChannel")):
        WRONG.FollowingBlockingChannel(pks_console.locate)


def test_a_blocking_channel_that_is_not_connected():
    for given in (("state/run/lpar1.sock",), ("x", 5), (None,)):
        with pytest.raises(WrongType, match=r"made by connect: write BlockingChannel.connect\("):
            WRONG.BlockingChannel(*given)


@pytest.mark.parametrize("seconds", [-1, -0.5, float("nan")])
def test_a_timeout_below_zero(seconds):
    with pytest.raises(WrongValue, match="timeout is 0 seconds or more, or None, not"):
        swpks.BlockingChannel.connect("/none", timeout=seconds)


def test_a_misspelt_status_of_a_fault():
    """The proposal is a status that the fault may have."""
    with pytest.raises(OperatorError, match="no status 'H_BUSSY'; did you mean H_BUSY"):
        parse_fault("READ_OBJECT=H_BUSSY")
    with pytest.raises(OperatorError, match=r"no status 'H_SUCESS' \["):
        parse_fault("READ_OBJECT=H_SUCESS")


async def test_a_file_of_a_line_that_is_missing(pks_console):
    line = "chtskey -m a -o change --newkey ./key"
    right = r"""write pks_console.files['./key'] = b"..."""
    assert right in (await pks_console.line(line)).text
    pks_console.files["key"] = bytes(32)
    assert f"which has 'key': write the same text: {right}" in (await pks_console.line(line)).text
