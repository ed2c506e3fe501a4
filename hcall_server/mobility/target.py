"""The target of a live migration: expected partitions, and its side of a channel (spec/migration.md)."""

# The target never decides
#
# The target answers each message, and sends the words of its durable custody, again after each change.  From
# PREPARED on it holds a copy that it may neither serve nor drop.  It waits for a word, for ever if it must
# (C-135).  A time-out would be a decision: to serve could make a second owner, and to drop could lose the
# only store, because the source may have released meanwhile.
#
# So all time-outs in this module end only connections and tokens.  A connection can end at any moment, and
# the source dials again.  A token that is forgotten ends the channel of the attempt; after that the console
# carries the words.
#
# Strangers can connect too.  A connection proves nothing before its handshake has ended.  So connections
# without a proof are few (MAX_UNOPENED) and short, get no answer, and share one allowance of log lines.

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import outcome
import trio

from hcall_abi.errors import OperatorError, PeerError, SwpksError
from hcall_abi.rules import migration as rules
from hcall_server.machine.logs import Log, explained
from hcall_server.machine.noise import PeerLog
from hcall_server.mobility.channel import LineLost, MobilityChannel, answer_channel
from hcall_server.mobility.either import either
from hcall_server.mobility.messages import (
    Attempt,
    Final,
    Fits,
    NeedsMessage,
    RefusedMessage,
    WordMessage,
    kind_of,
)
from hcall_server.mobility.ports import OwnSystem, Packed
from hcall_server.platform.custody import LEFT, Custody, Party, Standing, Word, says

if TYPE_CHECKING:
    from hcall_server.sealing.traveller import Traveller

EXPECT_SECONDS = 60.0
"""Seconds that a token waits for a partition.  The source of an attempt gives up earlier."""
MAX_UNOPENED = 32
"""Connections without a proof, at most; one more ends the oldest of them."""
AFTER_SECONDS = 30.0
"""Seconds that a connection stays open after its attempt has ended here, so that ACTIVE can be sent again."""


def word_for_source(at: Standing, epoch: int) -> Word | None:
    """Return the word of the target to the source of an attempt, None if there is none."""
    words = [each.word for each in says(at) if Party.SOURCE in each.to and at.epoch == epoch]
    return words[0] if words else None


def has_ended(at: Standing, epoch: int) -> bool:
    """Return whether an attempt has ended at its target, which then forgets the token."""
    return at.epoch > epoch or (at.epoch == epoch and at.custody is not Custody.PREPARED)


class Targets:
    """The partitions that a system expects, by UUID: the last attempt of each, with its token.

    When a token is forgotten, its epoch is still remembered.  So a delayed order can't make the attempt valid
    again.
    """

    def __init__(self, own: OwnSystem) -> None:
        self._own = own
        self._expected: dict[UUID, Attempt] = {}
        self._last: dict[UUID, int] = {}
        self._talking: dict[UUID, trio.CancelScope] = {}
        self._unopened: list[trio.CancelScope] = []
        self._log = PeerLog(own.allowance, Log())

    def __repr__(self) -> str:
        return f"Targets({len(self._expected)} expected)"

    def expect(self, attempt: Attempt) -> None:
        """Expect a partition; OperatorError if this system can't take it by this attempt."""
        at, known = self._own.durable(attempt.uuid), self._expected.get(attempt.uuid)
        if at.custody not in LEFT and at.custody is not Custody.PREPARED:
            custody = at.custody.name.lower()
            raise OperatorError(rules.ARRIVAL_CUSTODY, f"{attempt.uuid} is here, in custody {custody}")
        # The console repeats an order if the answer was lost.  The repeated order changes nothing.
        if known and known.epoch == attempt.epoch and hmac.compare_digest(known.token, attempt.token):
            return
        if attempt.epoch <= max(at.epoch, self._last.get(attempt.uuid, 0)):
            raise OperatorError(rules.CUSTODY_EPOCH, f"attempt {attempt.epoch} of {attempt.uuid} is not new")
        self._expected[attempt.uuid] = attempt
        self._last[attempt.uuid] = attempt.epoch
        self._own.run_beside(lambda: self._until_ended(attempt))

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end; a later connection for the same partition ends it."""
        try:
            channel, attempt = await self._opened(stream)
            await self._alone(TargetConversation(self._own, channel, attempt, self.forget))
        except LineLost:
            pass
        except SwpksError as error:
            self._log.warning("migration.refused", kind=error.rule.id, **explained(error))
        except Exception as error:  # a bug here ends this connection only
            self._log.error("migration.connection_failed", exc_info=error)
        finally:
            await trio.aclose_forcefully(stream)

    def forget(self, attempt: Attempt) -> None:
        """Forget the token of an attempt."""
        if self._expected.get(attempt.uuid) is attempt:
            del self._expected[attempt.uuid]

    async def _opened(self, stream: trio.abc.Stream) -> tuple[MobilityChannel, Attempt]:
        """Open the channel of a connection.

        If too many connections have no proof, the oldest of them ends.  The true source gives its proof at
        once, so its connection is not among them.
        """
        with trio.CancelScope() as scope:
            self._unopened.append(scope)
            if len(self._unopened) > MAX_UNOPENED:
                self._unopened.pop(0).cancel()
            try:
                return await answer_channel(stream, self._find, self._own.entropy)
            finally:
                if scope in self._unopened:
                    self._unopened.remove(scope)
        raise LineLost("too many connections have proven nothing yet")

    def _find(self, uuid: UUID, epoch: int) -> Attempt | None:
        attempt = self._expected.get(uuid)
        if attempt is None or attempt.epoch != epoch or has_ended(self._own.durable(uuid), epoch):
            return None
        return attempt

    async def _alone(self, conversation: TargetConversation) -> None:
        uuid = conversation.attempt.uuid
        # If the source dials again, its end of the earlier connection is broken.  This end may not know
        # that yet.
        if before := self._talking.get(uuid):
            before.cancel()
        with trio.CancelScope() as scope:
            self._talking[uuid] = scope
            try:
                await conversation.run()
            finally:
                if self._talking.get(uuid) is scope:
                    del self._talking[uuid]

    async def _until_ended(self, attempt: Attempt) -> None:
        """Forget a token at the end of its attempt, or if the attempt does not begin in EXPECT_SECONDS."""
        keeper, uuid = self._own.keeper, attempt.uuid
        with trio.move_on_after(EXPECT_SECONDS):
            while self._own.durable(uuid).epoch < attempt.epoch:
                await keeper.changed(uuid)
        at = self._own.durable(uuid)
        while at.epoch == attempt.epoch and not has_ended(at, attempt.epoch):
            await keeper.changed(uuid)
            at = self._own.durable(uuid)
        self.forget(attempt)


class TargetConversation:
    """An open channel at the target."""

    def __init__(
        self, own: OwnSystem, channel: MobilityChannel, attempt: Attempt, forget: Callable[[Attempt], None]
    ) -> None:
        self.attempt = attempt
        self._own = own
        self._channel = channel
        self._forget = forget
        self._asked = False
        self._bell = trio.Event()

    def __repr__(self) -> str:
        return f"TargetConversation({self.attempt!r})"

    async def run(self) -> None:
        """Talk until the source closes, or the attempt has ended."""
        await either(self._hear, self._say, self._watch)

    async def _watch(self) -> None:
        """Wake `_say` after each change of custody."""
        while True:
            self._bell.set()
            await self._own.keeper.changed(self.attempt.uuid)

    async def _say(self) -> None:
        """Send the word of the custody: when it has changed, and after each message of the source."""
        said: WordMessage | None = None
        while True:
            # The new event is made before the state is read.  A change after the read sets it, so no change
            # is missed.
            bell = self._bell = trio.Event()
            asked, self._asked = self._asked, False
            at = self._own.durable(self.attempt.uuid)
            now = self._word_to_send(at)
            # If the source repeats ACTIVATE, it has not received ACTIVE.  So the same word is sent again.
            if now and (asked or now != said):
                await self._channel.send(now)
                said = now
            limit = AFTER_SECONDS if has_ended(at, self.attempt.epoch) else math.inf
            with trio.move_on_after(limit) as scope:
                await bell.wait()
            if scope.cancelled_caught:
                return

    def _word_to_send(self, at: Standing) -> WordMessage | None:
        word = word_for_source(at, self.attempt.epoch)
        if word is None:
            return None
        return WordMessage(word, at.epoch, at.generation if word is Word.PREPARED else 0)

    async def _hear(self) -> None:
        """Process the messages of the source until it sends ABORTED, or is refused."""
        uuid, epoch, keeper = self.attempt.uuid, self.attempt.epoch, self._own.keeper
        while True:
            message = await self._channel.receive()
            match message:
                case NeedsMessage():
                    if not await self._checked(message):
                        return
                case Final():
                    await self._take(message)
                case WordMessage(Word.ACTIVATE, said) if said == epoch:
                    await keeper.take(uuid, Word.ACTIVATE, epoch, peer=self.attempt.source)
                case WordMessage(Word.ABORTED, said) if said == epoch:
                    await keeper.take(uuid, Word.ABORTED, epoch, peer=self.attempt.source)
                    self._forget(self.attempt)
                    return
                case _:
                    raise PeerError(rules.MOBILITY_FORM, f"{kind_of(message)} has no place here")
            self._asked = True
            self._bell.set()

    async def _checked(self, needs: NeedsMessage) -> bool:
        """Answer whether the partition fits; a refusal ends the attempt, and so its token."""
        try:
            if UUID(needs.facts.uuid) != self.attempt.uuid:
                raise PeerError(rules.MOBILITY_FORM, "the needs are those of another partition")
            self._own.check(needs.facts)
        except SwpksError as error:
            self._forget(self.attempt)
            await self._channel.send(RefusedMessage(error.rule.id, error.message))
            return False
        await self._channel.send(Fits())
        return True

    async def _take(self, final: Final) -> None:
        """Store the partition that follows.  If it is refused, send the refusal: the source waits for it."""
        uuid, epoch = self.attempt.uuid, self.attempt.epoch
        read: list[outcome.Outcome[Traveller]] = []

        def ahead(plaintext: bytes) -> None:  # called while the source commits
            packed = Packed(final.generation, plaintext)
            read.append(outcome.capture(self._own.unpack, packed, uuid))

        await self._channel.receive_final(final, ahead)
        try:
            traveller = read[0].unwrap()
            self._own.demand(traveller, epoch)
            await self._own.keeper.take(
                uuid,
                Word.FINAL,
                epoch,
                generation=final.generation,
                peer=self.attempt.source,
                traveller=traveller,
            )
        except SwpksError as error:
            await self._channel.send(RefusedMessage(error.rule.id, error.message))
