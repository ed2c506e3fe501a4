"""Steps of a move: a partition moves to another system, and later comes back by a remote restart.

A client writes during the move.  The restart is needed because the other system is killed.
"""

# The proof of a live migration
#
# A move may not lose a confirmed write, and the client may not see an error.  Two systems may never serve the
# partition at once.  So a client writes numbers during the move.  It removes the last number, writes the next
# one, and waits until that one is durable.  After the move, the stored number has to be the last confirmed
# one.  The session follows the partition (`open_following`).
#
# A move changes neither the IPL count nor the password.  A restart that looks like a move would change both,
# so the step checks them.

from __future__ import annotations

import trio

from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy
from hcall_client.calls import Authorization, confirm_object_flushed, read_object, remove_object, write_object
from hcall_client.console import show_partition
from hcall_client.following import FollowingChannel, locate_at_async, open_following
from hcall_client.guests.kernel import Name
from swpks.demo.attaching import SYSTEM
from swpks.demo.copies import KEY
from swpks.demo.first_ipl import DISK_KEY, SOON
from swpks.demo.parts import secret_is_there
from swpks.demo.play import PARTITION, Play

SPARE = "spare"
"""The name of the other system."""
COUNTER = Name("demo", "counter")
"""The object that the client writes again and again, with the next number."""
_WHERE = "run/where.sock"
_AWAY, _CONNECTED = "system.away", "system.connected"
_BEFORE, _BEHIND = 20, 20
"""Numbers that are confirmed before the move begins, and after it has ended."""


class Writer:
    """A client that stores one number after the other, and waits until each is durable."""

    def __init__(self, owner: Authorization, channel: FollowingChannel) -> None:
        self.confirmed = 0
        self.last: int | None = None
        """The last number to write; None while the move runs."""
        self._owner = owner
        self._channel = channel
        self._beat = trio.Event()

    async def run(self) -> None:
        """Write numbers until `last` is confirmed."""
        call, label = self._channel.call, COUNTER.label
        while self.confirmed != self.last:
            number = self.confirmed + 1
            # WRITE does not replace an object, so the last number is removed first.
            if number > 1:
                await call(remove_object(self._owner, label))
            await call(write_object(self._owner, label, b"%d" % number, Policy.PWSET))
            while not (await call(confirm_object_flushed(self._owner, label))).flushed:
                await trio.lowlevel.checkpoint()
            self.confirmed = number
            self._beat.set()
            self._beat = trio.Event()

    async def until(self, number: int) -> None:
        """Wait until a number is confirmed."""
        while self.confirmed < number:
            await self._beat.wait()


async def migrate(play: Play) -> None:
    """Start another system, and move the partition there; the session and the passwords must survive."""
    shows = "The partition runs, and a client writes meanwhile. At each moment one system owns the store."
    with play.stage.step("The partition moves to another system while a client writes", shows):
        play.spare.start()
        play.line("add-system", f"{SPARE}={play.spare.control_socket}")
        play.line("chtskey", "-m", SPARE, "-o", "restore", "--newkey", str(play.folder / KEY))
        play.line("migrlpar", "-o", "v", "-m", SYSTEM, "-t", SPARE, "-p", PARTITION)
        before = play.partition(PARTITION)
        owner = Authorization(Consumer.OPERATING_SYSTEM, play.chain.kernel.password)
        # The session of the earlier steps has a fixed address.  The move would end it, so another kind of
        # session is opened.
        await play.disconnect()
        locate = locate_at_async(play.hmc.store / _WHERE, PARTITION)
        async with open_following(locate, patience=SOON) as channel, trio.open_nursery() as nursery:
            writer = Writer(owner, channel)
            nursery.start_soon(writer.run)
            await writer.until(_BEFORE)
            move = ("migrlpar", "-o", "m", "-m", SYSTEM, "-t", SPARE, "-p", PARTITION)
            # The command blocks, so it runs in a thread: the client has to write during the move.
            await trio.to_thread.run_sync(play.line, *move)
            writer.last = writer.confirmed + _BEHIND
            await writer.until(writer.last)
            play.stage.check(f"the client has followed {channel.moves} move, without an error",
                             channel.moves == 1 and channel.ended is None)  # fmt: skip
        _check_moved(play, before.ipl_count)
        async with play.spare.connect(PARTITION) as session:
            read = await session.call(read_object(owner, COUNTER.label))
        play.stage.check(f"{writer.confirmed} writes were confirmed, before and after; the last one is there",
                         read.data == b"%d" % writer.confirmed)  # fmt: skip


def _check_moved(play: Play, ipls: int) -> None:
    view = play.spare.console.call(show_partition(PARTITION))
    play.stage.check(f"the move was no IPL: the count is {view.ipl_count}, and the password is as before",
                     view.ipl_count == ipls)  # fmt: skip
    play.stage.check(
        f"the source has no socket of {PARTITION} any more", not play.server.socket(PARTITION).exists()
    )
    text = play.line("lssyscfg", "-r", "lpar", "-m", SPARE, "-F", "name,state")
    play.stage.check(f"{SPARE} serves {PARTITION}", text == f"{PARTITION},Running\n")


async def restart_remotely(play: Play) -> None:
    """Kill the system that serves the partition, and restart the partition from the console's copy."""
    shows = "The system is killed. Both systems have the same trusted system key, so the copy opens."
    with play.stage.step("The other system is killed, and the partition is restarted remotely", shows):
        play.line("backup", "-m", SPARE)
        noted = play.hmc.log.count(_AWAY)
        play.spare.kill()
        play.stage.say(f"{SPARE}: kill -9")
        play.hmc.log_lines(_AWAY, noted + 1)
        play.line("rrstartlpar", "-o", "restart", "-m", SPARE, "-t", SYSTEM, "-p", PARTITION)
        text = play.line("lssyscfg", "-r", "lpar", "-m", SYSTEM, "-F", "name,state")
        play.stage.check(f"{SYSTEM} serves {PARTITION} again", text == f"{PARTITION},Running\n")
        await secret_is_there(play)
        plain = play.disk.read(play.disk_key, len(play.note))
        play.stage.check("the disk opens and has the written data", plain == play.note)


async def clean_up(play: Play) -> None:
    """Start the killed system again, and check that it does not serve the partition.

    The system asks the console first, and the console refuses.
    """
    shows = (
        "A system asks the console first. Two systems that serve one partition would have different stores."
    )
    with play.stage.step("The killed system starts again: it asks the console, and does not serve", shows):
        noted = play.hmc.log.count(_CONNECTED)
        play.spare.start()
        play.hmc.log_lines(_CONNECTED, noted + 1)
        play.stage.check(f"{SPARE} has no socket of {PARTITION}", not play.spare.socket(PARTITION).exists())
        play.line("rrstartlpar", "-o", "cleanup", "-m", SPARE, "-p", PARTITION)
        text = play.line("lssyscfg", "-r", "lpar", "-m", SPARE)
        play.stage.check(f"after the cleanup {SPARE} has no partition", text == "No results were found.\n")
        read = await play.chain.kernel.read(DISK_KEY)
        play.stage.check(f"{SYSTEM} still serves the guest", read.data == play.disk_key)
