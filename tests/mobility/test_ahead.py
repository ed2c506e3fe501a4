"""The source sends FINAL while FROZEN is committed. The last message of FINAL follows the commit."""

import trio
from trio.testing import MockClock

from hcall_abi.errors import PeerError
from hcall_abi.rules import migration as rules
from hcall_server.mobility.channel import FINAL_SECONDS
from hcall_server.platform.custody import Custody, Mode, Standing
from tests.mobility.rig import PARTITION, STORE, pair

MOVED = [2, 4, 6, 8]
"""The rows of a source without a fault."""


async def test_the_partition_travels_while_frozen_is_committed(autojump_clock: MockClock) -> None:
    """R-51: the target receives FINAL during the commit of FROZEN.

    It stores nothing before that commit ends.
    """
    async with pair() as both:
        both.source.keeper.hold = trio.Event()
        await both.begin()
        await trio.sleep(1)
        assert both.source.keeper.standing(PARTITION).custody is Custody.FROZEN
        assert both.source.keeper.at.custody is Custody.OWN
        assert both.target.unpacked == [STORE]
        assert both.target.keeper.rows == []
        both.source.keeper.hold.set()
        await both.moved()
        assert (both.source.keeper.rows, both.target.keeper.rows) == (MOVED, [5, 7])
        assert (both.target.unpacked, both.wires.dialled) == ([STORE], 1)


async def test_a_source_that_ends_in_the_commit_of_frozen_leaves_nothing(autojump_clock: MockClock) -> None:
    """R-51: if the source ends before the last message, the target has nothing.

    The next connection starts anew.
    """
    lines: list[trio.abc.Stream] = []

    def kept(stream: trio.abc.Stream) -> trio.abc.Stream:
        lines.append(stream)
        return stream

    async with pair() as both:
        both.wires.spoil.append(kept)
        both.source.keeper.hold = trio.Event()
        await both.begin()
        await trio.sleep(1)
        assert both.target.unpacked == [STORE]
        await lines[0].aclose()
        await trio.sleep(1)
        assert (both.target.keeper.rows, both.target.keeper.at) == ([], Standing())
        both.source.keeper.hold.set()
        await both.moved()
        assert both.target.keeper.rows == [5, 7]
        assert (both.target.unpacked, both.wires.dialled) == ([STORE, STORE], 2)


async def test_a_commit_of_frozen_that_hangs_leaves_nothing(autojump_clock: MockClock) -> None:
    """R-51: if the commit of FROZEN hangs, the target ends the connection. Later the source is in doubt."""
    async with pair() as both:
        both.source.keeper.hold = trio.Event()
        await both.begin()
        await trio.sleep(2 * FINAL_SECONDS)
        both.source.keeper.hold.set()
        await both.source.keeper.until(lambda at: at.mode is Mode.IN_DOUBT)
        await trio.sleep(2 * FINAL_SECONDS)
        assert both.source.keeper.rows == [2, 4, 9]
        assert (both.target.keeper.rows, both.target.keeper.at) == ([], Standing())


async def test_a_partition_that_does_not_read_is_refused_behind_its_last_message(
    autojump_clock: MockClock,
) -> None:
    """R-51: the target refuses an unreadable partition only after the last message of FINAL.

    The source has committed FROZEN by then.
    """
    async with pair() as both:
        both.target.unreadable = PeerError(rules.MOBILITY_FORM, "the partition makes no sense")
        both.source.keeper.hold = trio.Event()
        await both.begin()
        await trio.sleep(1)
        assert both.target.unpacked == [STORE]
        both.source.keeper.hold.set()
        await both.source.keeper.until(lambda at: at.mode is Mode.IN_DOUBT)
        assert "the partition makes no sense" in both.source.keeper.trouble
        assert both.target.keeper.rows == []
