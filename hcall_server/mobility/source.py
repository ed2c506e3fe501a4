"""The source of a live migration: one attempt, from BEGIN to its end (spec/migration.md).

The durable custody of the partition permits certain words.  The source sends these, again after each change
of custody and on each new connection.  It passes AGREED, ABORT and the received words to the custodian.
"""

# The end of an attempt
#
# In the copy phase everything is volatile.  A refusal, a target that is not reached, or 30 s end the attempt,
# and the partition is served on.  A broken connection is dialled again.
#
# From FROZEN on the custody decides.  The driver ends when the target serves (GONE), or when the console has
# answered RESUME (OWN).  At its end the driver sends ABORTED once.  The console carries this word too, so the
# driver need not repeat it.  While the source is in doubt, the driver goes on to listen, because PREPARED may
# still come.
#
# ABORTED is never sent about an attempt that did not freeze.  After a crash, the source does not know that it
# has tried this attempt.  If its BEGIN is repeated then, a second try begins.  An old ABORTED could reach the
# target after the release of the second try, and remove its copy.
#
# A time-out here never decides who owns the partition.  It only ends the copy phase, or moves the source from
# waiting to in doubt.  A source in doubt serves nothing and asks the console (C-134).  To resume after a
# silent time looks better for the clients.  But the target may be PREPARED, and the console may have forced
# it already: then two systems would serve.
#
# FINAL is sent while FROZEN is committed.  `_freeze` runs both in parallel, and two events join them.
# `marked` is set when memory has the new record: from then on the bytes are those of the commit.  `frozen`
# is set at the end of the commit: only then the empty message is sent.

from __future__ import annotations

from enum import Enum, auto

import trio

from hcall_abi.bounds import MAX_FINAL
from hcall_abi.errors import OperatorError, PeerError, SwpksError
from hcall_abi.rules import migration as rules
from hcall_server import failpoints
from hcall_server.machine.logs import Log
from hcall_server.mobility.channel import LineLost, MobilityChannel, in_time, open_channel
from hcall_server.mobility.either import either
from hcall_server.mobility.messages import (
    Attempt,
    Fits,
    Message,
    NeedsMessage,
    RefusedMessage,
    WordMessage,
    kind_of,
)
from hcall_server.mobility.ports import OwnSystem
from hcall_server.platform.custody import OWNING, Custody, Mode, Party, Standing, Word, says

COPY_SECONDS = 30.0
"""Seconds of the copy phase, then the attempt ends (row 3)."""
PREPARED_SECONDS = 10.0
"""Seconds without PREPARED after FROZEN, then the source is in doubt.  It sends FINAL within this time, and
calls of the partition wait for it."""
DIAL_SECONDS = 10.0
"""Seconds to reach the target."""
FIRST_WAIT = 0.1
"""Seconds of the first pause before ACTIVATE is sent again, and before the target is dialled again."""
LONGEST_WAIT = 5.0
"""Seconds of the longest of these pauses: each is twice the one before."""
ABORTED_SECONDS = 5.0
"""Seconds in which the source tries to send ABORTED; the console carries it too."""

_PASSING = (rules.MOBILITY_FORM, rules.MOBILITY_TIME)
"""Rules that a broken connection can break too.  The next connection may succeed, so they do not end the
attempt."""

_log = Log()


class Phase(Enum):
    """The phase of an attempt at its source."""

    COPYING = auto()
    SENDING = auto()
    IN_DOUBT = auto()
    RELEASED = auto()
    ABORTED = auto()
    OVER = auto()


_SAYING = {Word.FINAL: Phase.SENDING, Word.ACTIVATE: Phase.RELEASED, Word.ABORTED: Phase.ABORTED}
"""The phase in which each word is sent to the target."""
_LIVE = (Phase.COPYING, Phase.SENDING, Phase.IN_DOUBT, Phase.RELEASED)


def phase_of(at: Standing, epoch: int) -> Phase:
    """Return the phase of an attempt by the durable state of its partition."""
    if at.mode is Mode.COPYING:
        return Phase.COPYING
    if at.epoch != epoch:
        return Phase.OVER
    for saying in says(at):
        if Party.TARGET in saying.to:
            return _SAYING[saying.word]
    return Phase.IN_DOUBT if at.custody is Custody.FROZEN else Phase.OVER


class MigrationSource:
    """One attempt at its source; `address` is where the target listens."""

    def __init__(self, own: OwnSystem, attempt: Attempt, address: str) -> None:
        self.attempt = attempt
        self._own = own
        self._address = address
        self.refused: SwpksError | None = None
        """The reason why BEGIN was refused, None if it was not."""
        self.begun = False
        self._scope = trio.CancelScope()
        self._trouble = ""
        self._last = "no answer"
        self._heard = False
        self._said_aborted = False

    def __repr__(self) -> str:
        return f"MigrationSource({self.attempt!r})"

    async def begin(self) -> bool:
        """Begin the attempt; return whether it has begun.  If not, `refused` has the reason."""
        uuid, epoch = self.attempt.uuid, self.attempt.epoch
        try:
            began = await self._own.keeper.take(uuid, Word.BEGIN, epoch, peer=self.attempt.target)
        except SwpksError as error:
            self.refused = error
            return False
        if began is None:
            self.refused = OperatorError(rules.CUSTODY_IDLE, f"{uuid} takes part in another migration")
            return False
        self.begun = True
        _log.info("migration.began", partition=self._own.name_of(uuid), uuid=str(uuid), epoch=epoch)
        return True

    def stop(self) -> None:
        """End the driver, and leave the custody as it is."""
        self._scope.cancel()

    async def run(self) -> None:
        """Drive the attempt to its end; the token is forgotten with this object."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._talk, nursery.cancel_scope)
                await self._while(*_LIVE)
                seconds = 0.0 if self.phase is Phase.OVER else ABORTED_SECONDS
                nursery.cancel_scope.deadline = trio.current_time() + seconds
        if self._scope.cancelled_caught:
            return
        at = self._own.durable(self.attempt.uuid)
        if self._trouble and at.custody not in OWNING:  # the source was in doubt, and the partition has moved
            self._own.keeper.failed(self.attempt.uuid, "")
        _log.info(
            "migration.ended",
            partition=self._own.name_of(self.attempt.uuid),
            uuid=str(self.attempt.uuid),
            epoch=self.attempt.epoch,
            custody=at.custody.name.lower(),
            trouble=self._trouble,
        )

    async def give_up(self, trouble: str) -> None:
        """End the copy phase: the source serves on.

        After the freeze, the source asks the console instead.
        """
        if self.phase in (Phase.COPYING, Phase.SENDING):
            self._trouble = self._trouble or trouble
            self._own.keeper.failed(self.attempt.uuid, self._trouble)
        await self._own.keeper.take(self.attempt.uuid, Word.ABORT, self.attempt.epoch)

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return phase_of(self._own.durable(self.attempt.uuid), self.attempt.epoch)

    def _all_said(self) -> bool:
        return self._said_aborted or self.phase is Phase.OVER

    @property
    def ended(self) -> bool:
        """Whether the attempt has ended at this system.

        The driver may still try to send ABORTED.
        """
        return self.begun and self.phase not in _LIVE

    async def _while(self, *phases: Phase) -> None:
        """Wait until the attempt is in none of these phases."""
        while self.phase in phases:
            await self._own.keeper.changed(self.attempt.uuid)

    async def _keep_time(self) -> None:
        """Give up a phase that takes too long."""
        with trio.move_on_after(COPY_SECONDS):
            await self._while(Phase.COPYING)
        if self.phase is Phase.COPYING:
            await self.give_up(_late("the copy phase", COPY_SECONDS, self._last))
        with trio.move_on_after(PREPARED_SECONDS):
            await self._while(Phase.SENDING)
        if self.phase is Phase.SENDING:
            await self.give_up(_late("PREPARED", PREPARED_SECONDS, self._last))

    async def _talk(self, scope: trio.CancelScope) -> None:
        """Send the words on one connection after the other, until no word is left to send."""
        pause = FIRST_WAIT
        while not self._all_said():
            self._heard = False
            try:
                await self._connect()
            except (LineLost, SwpksError) as error:
                await self._broken(error)
            # Only a message of the target resets the pause.  Otherwise a target that accepts and closes
            # would be dialled ten times a second.
            if self._heard:
                pause = FIRST_WAIT
            if not self._all_said():
                with trio.move_on_after(pause):
                    await self._own.keeper.changed(self.attempt.uuid)
                pause = min(2 * pause, LONGEST_WAIT)
        scope.cancel()

    async def _broken(self, error: LineLost | SwpksError) -> None:
        """Store why a connection ended; in the copy phase a refusal ends the attempt."""
        self._last = error.message if isinstance(error, SwpksError) else str(error)
        if isinstance(error, LineLost) or error.rule in _PASSING:
            return
        if self.phase is Phase.COPYING:
            await self.give_up(f"{error.rule.id}: {error.message}")

    async def _connect(self) -> None:
        peers = self._own.peers()
        if peers is None:
            raise OperatorError(rules.MOBILITY_REACHED, "this system has no way to others")
        try:
            with in_time(DIAL_SECONDS, "the connection"):
                stream = await peers.dial(self._address)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OperatorError(rules.MOBILITY_REACHED, f"{self._address}: {reason}") from None
        try:
            channel = await open_channel(stream, self.attempt, self._own.entropy)
            await self._converse(channel)
        finally:
            await trio.aclose_forcefully(stream)

    async def _converse(self, channel: MobilityChannel) -> None:
        sent = self.phase is Phase.COPYING
        if sent and not await self._agree(channel):
            return
        await either(lambda: self._say(channel, sent), lambda: self._hear(channel))

    async def _agree(self, channel: MobilityChannel) -> bool:
        """Send NEEDS, freeze, and send FINAL.  Return whether FINAL was sent."""
        uuid, epoch = self.attempt.uuid, self.attempt.epoch
        await channel.send(NeedsMessage(self._own.needs(uuid, epoch)))
        answer = await channel.receive()
        if isinstance(answer, RefusedMessage):
            await self.give_up(f"{answer.rule}: {answer.detail}")
            return False
        if not isinstance(answer, Fits):
            raise _out_of_place(answer)
        # The size is checked before the freeze.  A partition that is too large must not be frozen for
        # nothing.
        size = len(self._own.pack(uuid).plaintext)
        if size > MAX_FINAL:
            raise PeerError(rules.MOBILITY_SIZE, f"the partition has {size} bytes")
        if not self._own.runs(uuid):
            raise OperatorError(rules.MIGRATION_POWER, "the partition was powered off meanwhile")
        return await self._freeze(channel)

    async def _freeze(self, channel: MobilityChannel) -> bool:
        """Freeze the partition, and send it while the commit runs; return whether all of it was sent.

        After the mark, nothing changes the partition.  So the bytes that are sent are those of the commit.
        """
        uuid, failures = self.attempt.uuid, list[LineLost | SwpksError]()
        marked, frozen, taken = trio.Event(), trio.Event(), None

        async def send() -> None:
            await marked.wait()
            try:
                await channel.send_final(*self._own.pack(uuid), frozen.wait)
            except (LineLost, SwpksError) as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            try:
                taken = await self._own.keeper.take(
                    uuid, Word.AGREED, self.attempt.epoch, peer=self.attempt.target, on_mark=marked.set
                )
            except SwpksError as error:
                failures.insert(0, error)
            if taken is not None and self.phase is Phase.SENDING:
                frozen.set()
            else:
                nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]
        if frozen.is_set():
            failpoints.reached("final-sent")
        return frozen.is_set()

    async def _say(self, channel: MobilityChannel, sent: bool) -> None:
        """Send the words of the phase, again after each change.  Return when no word is left to send.

        `sent` is whether FINAL was sent on this connection.
        """
        pause = FIRST_WAIT
        while True:
            phase = self.phase
            if phase is Phase.SENDING and not sent:
                await channel.send_final(*self._own.pack(self.attempt.uuid))
                failpoints.reached("final-sent")
                sent = True
            elif phase is Phase.RELEASED:
                await channel.send(WordMessage(Word.ACTIVATE, self.attempt.epoch))
                with trio.move_on_after(pause):
                    await self._while(Phase.RELEASED)
                pause = min(2 * pause, LONGEST_WAIT)
            elif phase is Phase.ABORTED:
                await channel.send(WordMessage(Word.ABORTED, self.attempt.epoch))
                self._said_aborted = True
                await trio.sleep(ABORTED_SECONDS)  # let the target read ABORTED and close first
                return
            elif phase is Phase.OVER:
                return
            else:
                await self._own.keeper.changed(self.attempt.uuid)

    async def _hear(self, channel: MobilityChannel) -> None:
        uuid, epoch, keeper = self.attempt.uuid, self.attempt.epoch, self._own.keeper
        while True:
            message = await channel.receive()
            self._heard = True
            match message:
                case WordMessage(Word.PREPARED | Word.ACTIVE as word, said, generation) if said == epoch:
                    await keeper.take(uuid, word, epoch, generation=generation, peer=self.attempt.target)
                case RefusedMessage(rule, detail):
                    await self.give_up(f"{rule}: {detail}")
                case _:
                    raise _out_of_place(message)


def _late(what: str, seconds: float, last: str) -> str:
    return f"{rules.MOBILITY_TIME.id}: {what} took longer than {seconds:g} seconds (last: {last})"


def _out_of_place(message: Message) -> PeerError:
    return PeerError(rules.MOBILITY_FORM, f"{kind_of(message)} has no place here")
