"""A channel that is used outside of its Trio loop: refused at the call, and the channel stays usable."""

import asyncio
from typing import Any

import pytest
import trio

import swpks
from hcall_abi.mistakes import WrongLoop

USES: list[Any] = [
    lambda channel: channel.call(swpks.get_config()),
    lambda channel: channel.pipeline([swpks.get_config()]),
    lambda channel: channel.limits(),
    lambda channel: channel.wait_ended(),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("run", [trio.run, lambda function: asyncio.run(function())])
async def test_a_channel_in_another_loop(use, run, pks_partition):
    async with swpks.open_following(pks_partition.locate) as following:
        for channel in (pks_partition.channel, following):
            with pytest.raises(WrongLoop, match="a channel belongs to the Trio loop that opened it"):
                await trio.to_thread.run_sync(run, lambda channel=channel: use(channel))
            with trio.fail_after(5):
                assert (await channel.call(swpks.get_config())).used_space == 0


async def test_a_call_from_a_thread(pks_partition):
    """The remedy of the error works."""
    call, token = pks_partition.channel.call, trio.lowlevel.current_trio_token()
    ask = lambda: trio.from_thread.run(call, swpks.get_config(), trio_token=token)  # noqa: E731
    assert (await trio.to_thread.run_sync(ask)).used_space == 0
