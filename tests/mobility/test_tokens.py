"""Tokens of the mobility channel: each is valid only until its attempt ends, and is in no log.

Clients without a token can't disturb an attempt.
"""

import base64
import io

import pytest
import trio
from trio.testing import MockClock

from hcall_abi.errors import OperatorError, PeerError
from hcall_abi.rules import migration as rules
from hcall_server.machine import logs
from hcall_server.mobility import target
from hcall_server.mobility.channel import OPEN_SECONDS, open_channel
from hcall_server.mobility.messages import Attempt, Fits, NeedsMessage
from hcall_server.platform.custody import Mode, Word
from tests.mobility.rig import NEEDS, PARTITION, STORE, TOKEN, Pair, entropy, pair
from tests.mobility.test_channel import Tapped


async def test_a_token_counts_for_one_attempt_and_until_its_end(autojump_clock: MockClock) -> None:
    """R-51: when an attempt has ended, its token is refused, also under another epoch."""
    async with pair() as both:
        await both.begin()
        await both.moved()
        for epoch in (1, 2):
            await refused_channel(both, both.attempt(epoch))
        assert both.target.keeper.rows == [5, 7]


@pytest.mark.parametrize("end", ["expired", "replaced", "refused", "aborted"])
async def test_every_end_of_an_attempt_ends_its_token(autojump_clock: MockClock, end: str) -> None:
    """R-51: a token ends with a time-out, a later attempt, a refusal, or when the source resumes."""
    async with pair() as both:
        if end == "refused":
            both.target.misfit = OperatorError(rules.ARRIVAL_SIZE, "it is too large")
            await both.begin()
            await both.returned()
        elif end == "aborted":
            both.target.keeper.refuses = OperatorError(rules.ARRIVAL_NAME, "lpar1 is taken")
            await both.begin()
            await both.source.keeper.until(lambda at: at.mode is Mode.IN_DOUBT)
            await both.source.keeper.take(PARTITION, Word.RESUME, 1)
            await trio.sleep(1)
        else:
            await both.expect()
            await open_channel(await both.wires.dial(both.target.address), both.attempt(), entropy)
            if end == "expired":
                await trio.sleep(target.EXPECT_SECONDS + 1)
            else:
                await both.expect(2, bytes(32))
        await refused_channel(both, both.attempt())
        # A delayed order must not make the old token valid again.
        with pytest.raises(OperatorError) as caught:
            await both.expect()
        assert caught.value.rule is rules.CUSTODY_EPOCH
        await refused_channel(both, both.attempt())


async def test_an_expected_attempt_may_be_ordered_again(autojump_clock: MockClock) -> None:
    """R-51: the console may repeat its order to expect an attempt, but only with the same token."""
    async with pair() as both:
        await both.expect()
        await both.expect()
        with pytest.raises(OperatorError) as caught:
            await both.expect(1, bytes(32))
        assert caught.value.rule is rules.CUSTODY_EPOCH
        await both.expect(2, bytes(32))


async def refused_channel(both: Pair, attempt: Attempt) -> None:
    """Assert that the target refuses a connection of this attempt in the first message."""
    with pytest.raises(PeerError) as caught:
        await open_channel(await both.wires.dial(both.target.address), attempt, entropy)
    assert caught.value.rule is rules.MOBILITY_PROVEN


async def test_no_token_and_no_store_is_in_a_log(autojump_clock: MockClock) -> None:
    """R-51: no log and no shown reason has a token or a store, whether the migration succeeds or fails."""
    stream = io.StringIO()
    logs.configure(level="debug", style="json", stream=stream)
    try:
        async with pair() as both:
            both.target.keeper.refuses = OperatorError(rules.ARRIVAL_NAME, "lpar1 is taken")
            await both.begin()
            await both.source.keeper.until(lambda at: at.mode is Mode.IN_DOUBT)
            await both.source.keeper.take(PARTITION, Word.RESUME, 1)
            both.target.keeper.refuses = None
            await refused_channel(both, both.attempt(1, bytes(32)))
            token = bytes(range(200, 232))
            await both.begin(2, token)
            shown = f"{both.source.migrations!r}{both.target.migrations!r}{both.source.keeper.trouble}"
            await both.moved(2)
    finally:
        logs.configure(level="warning")
    text = stream.getvalue() + shown
    assert "migration.began" in text
    assert "migration.refused" in text
    for secret in (TOKEN, token, STORE):
        quoted = repr(secret)[2:-1], str(list(secret))[1:-1]
        for form in (secret.hex(), base64.b64encode(secret).decode(), *quoted):
            assert form not in text


async def test_strangers_do_not_keep_a_source_out(autojump_clock: MockClock) -> None:
    """R-51: of many connections without a proof, the oldest are closed, so the source can connect.

    Each has little time in any case.
    """
    async with pair() as both:
        streams = [await both.wires.dial(both.target.address) for _ in range(3 * target.MAX_UNOPENED)]
        await trio.sleep(0.1)
        await both.begin()
        await both.moved()
        assert trio.current_time() < 1
        assert await streams[0].receive_some() == b""
        await trio.sleep(OPEN_SECONDS)
        assert await streams[-1].receive_some() == b""


async def test_a_recorded_handshake_opens_nothing(autojump_clock: MockClock) -> None:
    """R-51: a stranger who repeats a recorded first message can send no word.

    The real connection stays open.
    """
    async with pair() as both:
        taps: list[Tapped] = []

        def tap(stream: trio.abc.Stream) -> Tapped:
            taps.append(Tapped(stream))
            return taps[-1]

        both.wires.spoil.append(tap)
        await both.expect()
        real = await open_channel(await both.wires.dial(both.target.address), both.attempt(), entropy)
        for count in (2, 3):
            recorded = await both.wires.dial(both.target.address)
            for frame in taps[0].sent[:count]:
                await recorded.send_all(frame)
            with trio.fail_after(OPEN_SECONDS + 1):
                while await recorded.receive_some():
                    pass
        await real.send(NeedsMessage(NEEDS))
        assert await real.receive() == Fits()
