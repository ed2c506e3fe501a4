"""A live migration between two drivers: its normal course, and each way in which it can end."""

from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from hcall_abi.bounds import MAX_FINAL
from hcall_abi.errors import OperatorError, PeerError, SwpksError
from hcall_abi.rules import migration as rules
from hcall_server.mobility import source, target
from hcall_server.mobility.channel import LineLost, answer_channel, open_channel
from hcall_server.mobility.messages import Fits, Message, NeedsMessage, RefusedMessage, WordMessage
from hcall_server.platform.custody import Custody, Mode, Standing, Word
from tests.mobility.rig import GENERATION, NAME, NEEDS, PARTITION, STORE, Cut, Pair, entropy, pair

MOVED = [2, 4, 6, 8]
"""The rows of a source without a fault."""


async def test_a_partition_moves(autojump_clock: MockClock) -> None:
    """R-51: the source's states are copy phase, frozen, released, gone.

    The target is prepared, then owns the store.
    """
    async with pair() as both:
        await both.begin()
        await both.moved()
        assert both.source.keeper.rows == MOVED
        assert both.target.keeper.rows == [5, 7]
        assert both.target.keeper.travellers == [STORE]
        assert both.target.keeper.at == Standing(Custody.ARRIVED, Mode.SERVING, 1, GENERATION)
        assert both.source.keeper.trouble == ""
        assert both.wires.dialled == 1
        await trio.sleep(target.AFTER_SECONDS + 1)
        assert repr(both.source.migrations) == "LiveMigrations(0 under way, Targets(0 expected))"


async def test_the_largest_partition_moves_and_a_larger_one_does_not(autojump_clock: MockClock) -> None:
    """R-51: FINAL has at most 256 KiB. A source with more does not begin to freeze."""
    async with pair() as both:
        both.source.store = bytes(MAX_FINAL + 1)
        await both.begin()
        assert rules.MOBILITY_SIZE.id in await both.returned()
        assert both.source.keeper.rows == [2, 3]
        both.source.store = bytes(MAX_FINAL)
        await both.begin(2)
        await both.moved(2)
        assert both.target.keeper.travellers == [bytes(MAX_FINAL)]


@pytest.mark.parametrize("within", [False, True], ids=["before", "within"])
@pytest.mark.parametrize("frame", range(2, 9))
async def test_a_source_whose_connection_breaks_dials_again(
    autojump_clock: MockClock, frame: int, within: bool
) -> None:
    """R-51: the source connects again after a break at any frame that it sends."""
    async with pair() as both:
        both.source.store = bytes(70_000)
        both.wires.spoil.append(lambda stream: Cut(stream, frame, within=within))
        await both.begin()
        await both.moved()
        assert both.source.keeper.rows == MOVED
        assert both.wires.dialled == 2


@pytest.mark.parametrize("within", [False, True], ids=["before", "within"])
@pytest.mark.parametrize("frame", [1, 2])
async def test_a_target_whose_connection_breaks_is_dialled_again(
    autojump_clock: MockClock, frame: int, within: bool
) -> None:
    """R-51: if the connection breaks at FITS or PREPARED, the target sends that message again.

    It uses the next connection that the source opens.
    """
    async with pair() as both:
        both.wires.spoil_answers.append(lambda stream: Cut(stream, frame, within=within))
        await both.begin()
        await both.moved()
        assert both.source.keeper.rows == MOVED


async def test_active_that_is_lost_is_the_matter_of_the_console(autojump_clock: MockClock) -> None:
    """R-51: if ACTIVE is lost, only the console can bring it. The target has dropped the token."""
    async with pair() as both:
        both.wires.spoil_answers.append(lambda stream: Cut(stream, 3, within=False))
        await both.begin()
        await both.target.keeper.until(lambda at: at.custody is Custody.ARRIVED)
        await trio.sleep(300)
        assert both.source.keeper.at.custody is Custody.RELEASED
        assert 50 < both.wires.dialled < 80
        await both.source.keeper.take(PARTITION, Word.ACTIVE, 1)
        await both.moved()
        dialled = both.wires.dialled
        await trio.sleep(60)
        assert both.wires.dialled == dialled


async def test_a_target_that_is_not_reached_leaves_the_partition_where_it_is(
    autojump_clock: MockClock,
) -> None:
    """R-51: if the target cannot be reached, nothing is durable yet, and a later attempt succeeds."""
    async with pair() as both:
        both.wires.down = True
        await both.begin()
        assert await both.returned() == "mobility.reached: unix:/2: Connection refused"
        assert both.source.keeper.rows == [2, 3]
        both.wires.down = False
        await both.begin(2)
        await both.moved(2)


async def test_a_partition_that_does_not_fit_stays(autojump_clock: MockClock) -> None:
    """R-50: if the partition does not fit, the source shows the target's reason.

    The token becomes invalid.
    """
    async with pair() as both:
        both.target.misfit = OperatorError(rules.ARRIVAL_SIZE, "64 KiB are asked for, 12 are free")
        await both.begin()
        assert await both.returned() == "arrival.size: 64 KiB are asked for, 12 are free"
        assert both.source.keeper.rows == [2, 3]
        assert repr(both.target.migrations) == "LiveMigrations(0 under way, Targets(0 expected))"


async def test_a_target_that_refuses_the_partition_itself_puts_the_source_in_doubt(
    autojump_clock: MockClock,
) -> None:
    """R-51: if the target refuses FINAL, the source is in doubt and asks the console at once.

    The answer is ABORTED.
    """
    async with pair() as both:
        both.target.keeper.refuses = OperatorError(rules.ARRIVAL_NAME, "lpar1 is taken")
        await both.begin()
        await both.source.keeper.until(lambda at: at.mode is Mode.IN_DOUBT)
        assert both.source.keeper.trouble == "arrival.name: lpar1 is taken"
        assert trio.current_time() < 1
        await both.source.keeper.take(PARTITION, Word.RESUME, 1)
        await trio.sleep(1)
        assert both.source.keeper.at == Standing(Custody.OWN, Mode.SERVING, 1, GENERATION)
        assert both.source.keeper.trouble == "arrival.name: lpar1 is taken"
        assert repr(both.target.migrations) == "LiveMigrations(0 under way, Targets(0 expected))"


async def test_prepared_that_takes_too_long_leads_into_doubt_and_aborted_drops_the_copy(
    autojump_clock: MockClock,
) -> None:
    """R-51: if NVRAM of the target hangs, the source resumes. ABORTED makes the target drop the late copy."""
    async with pair() as both:
        both.target.keeper.hold = trio.Event()
        await both.begin()
        await both.source.keeper.until(lambda at: at.mode is Mode.IN_DOUBT)
        assert source.PREPARED_SECONDS <= trio.current_time() < source.PREPARED_SECONDS + 1
        assert both.source.keeper.trouble.startswith("mobility.time: PREPARED took longer than 10 seconds")
        await both.source.keeper.take(PARTITION, Word.RESUME, 1)
        both.target.keeper.hold.set()
        await both.target.keeper.until(lambda at: at.custody is Custody.NONE and at.epoch == 1)
        assert both.source.keeper.rows == [2, 4, 9, 11]
        assert both.target.keeper.rows == [5, 13]


async def test_prepared_that_comes_late_is_still_heard_in_doubt(autojump_clock: MockClock) -> None:
    """R-51: a source in doubt still accepts a late PREPARED, if the console has not answered.

    The source then shows no error any more.
    """
    async with pair() as both:
        both.target.keeper.hold = trio.Event()
        await both.begin()
        await both.source.keeper.until(lambda at: at.mode is Mode.IN_DOUBT)
        both.target.keeper.hold.set()
        await both.moved()
        assert both.source.keeper.rows == [2, 4, 9, 6, 8]
        await trio.sleep(1)
        assert both.source.keeper.trouble == ""


async def test_nothing_is_said_before_it_is_durable(autojump_clock: MockClock) -> None:
    """R-51: RELEASED and PREPARED are not sent before their commits have ended."""
    async with pair() as both:
        await both.expect()
        both.target.keeper.hold = hold = trio.Event()
        await both.source.migrations.begin(NAME, both.order())
        await trio.sleep(5)
        assert both.target.keeper.memory[PARTITION].custody is Custody.PREPARED
        assert both.source.keeper.at.mode is Mode.WAITING
        both.source.keeper.hold = released = trio.Event()
        hold.set()
        await trio.sleep(100)
        assert both.source.keeper.memory[PARTITION].custody is Custody.RELEASED
        assert both.target.keeper.at.custody is Custody.PREPARED
        released.set()
        await both.moved()


async def test_an_abort_by_order_ends_the_copy_phase(autojump_clock: MockClock) -> None:
    """R-51: after an ABORT in the copy phase, the source still serves, whatever the target does."""
    async with pair() as both:
        both.wires.listeners[both.target.address] = Silent()  # type: ignore[assignment]
        await both.begin()
        await trio.sleep(1)
        await both.source.migrations.abort(PARTITION, 2)
        assert both.source.keeper.at.mode is Mode.COPYING
        await both.source.migrations.abort(PARTITION, 1)
        assert await both.returned() == "stopped by order"
        await both.source.migrations.abort(PARTITION, 1)
        assert both.source.keeper.rows == [2, 3]


async def test_a_target_that_says_nothing_ends_the_copy_phase_in_time(autojump_clock: MockClock) -> None:
    """R-51: if the target does not answer, the copy phase ends after a time limit."""
    async with pair() as both:
        both.wires.listeners[both.target.address] = Silent()  # type: ignore[assignment]
        await both.begin()
        assert "mobility.time" in await both.returned()
        assert trio.current_time() <= source.COPY_SECONDS


class Silent:
    """A target that accepts a connection, and then does nothing."""

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Read and ignore all bytes."""
        while await stream.receive_some():
            pass


async def test_orders_are_refused_by_their_rules(autojump_clock: MockClock) -> None:
    """R-51: source and target check an order by these rules before anything begins."""
    async with pair() as both:
        begin, order = both.source.migrations.begin, both.order()
        await refused(rules.CUSTODY_OWNED, both.target.migrations.begin, NAME, order)
        await refused(
            rules.CUSTODY_UUID, begin, NAME, replaced(order, uuid="0" * 8 + "-0000-0000-0000-" + "0" * 12)
        )
        both.source.running = False
        await refused(rules.MIGRATION_POWER, begin, NAME, order)
        # After a restart, the source serves nothing yet.
        keeper = both.source.keeper
        serving = keeper.memory[PARTITION]
        for mode, rule in ((Mode.ASKING, rules.CUSTODY_CONFIRMED), (Mode.IN_DOUBT, rules.CUSTODY_IDLE)):
            keeper.memory[PARTITION] = serving._replace(mode=mode)
            await refused(rule, begin, NAME, order)
        keeper.memory[PARTITION] = serving
        both.source.running = True
        both.source.peers, peers = None, both.source.peers
        await refused(rules.MOBILITY_REACHED, begin, NAME, order)
        both.source.peers = peers
        both.target.peers, peers = None, both.target.peers
        await refused(rules.MOBILITY_LISTENS, both.expect)
        both.target.peers = peers
        await both.expect(3)
        await both.expect(3)
        await refused(rules.CUSTODY_EPOCH, both.expect, 3, bytes(32))
        await refused(rules.CUSTODY_EPOCH, both.expect, 2)
        both.wires.listeners[both.target.address] = Silent()  # type: ignore[assignment]
        await begin(NAME, both.order(3))
        await begin(NAME, both.order(3))
        await refused(rules.CUSTODY_IDLE, begin, NAME, both.order(4))
        await both.source.migrations.abort(PARTITION, 3)
        await refused(rules.CUSTODY_EPOCH, begin, NAME, both.order(3))
        both.source.keeper.memory[PARTITION] = Standing(Custody.ARRIVED, Mode.ASKING, 3, 0)
        await refused(rules.CUSTODY_CONFIRMED, begin, NAME, both.order(4))
        both.target.keeper.durable[PARTITION] = Standing(Custody.RELEASED, Mode.SETTLED, 1, 0)
        await refused(rules.ARRIVAL_CUSTODY, both.expect, 9)


def replaced(order: Any, **changes: Any) -> Any:
    """Return an order with other values in some fields."""
    return type(order)(**{**{each: getattr(order, each) for each in order.__struct_fields__}, **changes})


async def refused(rule: Any, order: Any, *arguments: Any) -> None:
    """Assert that an order is refused by this rule."""
    with pytest.raises(SwpksError) as caught:
        await order(*arguments)
    assert caught.value.rule is rule
    assert not isinstance(caught.value, PeerError)


async def test_a_later_connection_takes_the_place_of_an_earlier_one(autojump_clock: MockClock) -> None:
    """R-51: a new connection replaces the old one. So the source need not wait until a dead one ends."""
    async with pair() as both:
        await both.expect()
        first = await open_channel(await both.wires.dial(both.target.address), both.attempt(), entropy)
        await first.send(NeedsMessage(NEEDS))
        assert await first.receive() == Fits()
        await open_channel(await both.wires.dial(both.target.address), both.attempt(), entropy)
        with pytest.raises(LineLost):
            await first.receive()


@pytest.mark.parametrize(
    "message",
    [
        Fits(),
        RefusedMessage("a", "b"),
        WordMessage(Word.PREPARED, 1),
        WordMessage(Word.ACTIVE, 1),
        WordMessage(Word.ABORTED, 2),
    ],
    ids=repr,
)
async def test_a_target_takes_no_word_of_a_target(autojump_clock: MockClock, message: Message) -> None:
    """R-51: a target ends the connection if it gets a target's word, or that of another attempt."""
    async with pair() as both:
        await both.expect()
        channel = await open_channel(await both.wires.dial(both.target.address), both.attempt(), entropy)
        await channel.send(message)
        with pytest.raises(LineLost):
            await channel.receive()
        assert both.target.keeper.rows == []


async def test_a_target_that_answers_out_of_place_ends_the_copy_phase(autojump_clock: MockClock) -> None:
    """R-51: if the target sends a message at the wrong time, the copy phase ends soon."""
    async with pair() as both:
        answering = Answering(both, WordMessage(Word.ACTIVE, 1))
        both.wires.listeners[both.target.address] = answering  # type: ignore[assignment]
        await both.begin()
        assert "ACTIVE has no place here" in await both.returned()
        assert both.source.keeper.rows == [2, 3]


class Answering:
    """A target that has the token and answers every message with `message`."""

    def __init__(self, both: Pair, message: Message) -> None:
        self.both, self.message = both, message

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer each message with this one."""
        channel, _ = await answer_channel(stream, lambda uuid, epoch: self.both.attempt(epoch), entropy)
        with suppress(LineLost):
            while await channel.receive():
                await channel.send(self.message)


async def test_an_order_that_is_cancelled_does_not_end_its_attempt(autojump_clock: MockClock) -> None:
    """R-51: if the order is cancelled, its attempt goes on, because BEGIN may be durable."""
    async with pair() as both:
        await both.expect()
        with trio.CancelScope() as scope:
            scope.cancel()
            await both.source.migrations.begin(NAME, both.order())
        await both.moved()


async def test_a_partition_that_is_powered_off_meanwhile_stays(autojump_clock: MockClock) -> None:
    """R-51: a partition that is powered off in the copy phase stays, else it would run at the target."""
    async with pair() as both:
        await both.expect()
        both.source.on_pack = lambda: setattr(both.source, "running", False)
        await both.source.migrations.begin(NAME, both.order())
        assert "migration.power" in await both.returned()
