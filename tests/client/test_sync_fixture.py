"""The fixture for plain tests: the whole server in a thread, a blocking channel, and forked processes."""

import os
import threading
from typing import Any

import pytest
import trio

import swpks
from hcall_abi.errors import OperatorError
from hcall_client.errors import ConnectionLost, OpenRefused, SessionEnded
from swpks.testing import WrongOption, blocking_partition

OS = swpks.Authorization(3)
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
"""Python 3.12 warns of each fork beside threads; the child of these tests starts none."""


def in_child(function) -> int:
    """Run a function in a forked process; return its exit status.

    If the function raises, the status is 99.
    """
    child = os.fork()
    if not child:
        try:
            os._exit(function())
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_partition_is_ready_to_use(pks_partition_sync):
    """R-07: A session reads an object that another session wrote. `flush` makes the object durable."""
    pks_partition_sync.channel.call(swpks.write_object(OS, b"x", b"data"))
    with pks_partition_sync.connect() as second:
        assert second.call(swpks.read_object(OS, b"x")).data == b"data"
    assert pks_partition_sync.flush()
    assert pks_partition_sync.channel.call(swpks.confirm_object_flushed(OS, b"x")) == (True, True)
    assert pks_partition_sync.nvram.commits > 0
    assert pks_partition_sync.channel.level == "FW1110"
    assert "lpar1" in repr(pks_partition_sync)


@pytest.mark.pks_partition(level="FW950", kbytes=8, name="small", secure_boot="audit")
def test_it_reads_the_mark_of_the_other(pks_partition_sync):
    """R-74: The same mark sets the level for both fixtures."""
    channel = pks_partition_sync.channel
    assert (channel.level, channel.limits().total_size, pks_partition_sync.partition.name) == (
        "FW950",
        8192,
        "small",
    )


def test_an_ipl_ends_every_session(pks_partition_sync):
    """R-04, R-10: An IPL sends GOODBYE 2 to all sessions. The secure-boot mode may be given as a word."""
    first = pks_partition_sync.channel
    channel = pks_partition_sync.ipl("enforce")
    assert channel is pks_partition_sync.channel
    assert channel.ipl_count == first.ipl_count + 1
    channel.call(swpks.write_object(OS, b"x", b"y", swpks.Policy.OSSECBOOTENFORCE))
    with pytest.raises(SessionEnded, match="IPL"):
        first.call(swpks.get_config())
    pks_partition_sync.power_off()
    with pytest.raises(OpenRefused, match="NOT_ACTIVATED"):
        pks_partition_sync.connect()
    assert pks_partition_sync.ipl().call(swpks.read_object(OS, b"x")).data == b"y"
    with pytest.raises(swpks.HcallError, match="OSSECBOOTENFORCE"):
        pks_partition_sync.ipl(swpks.SecureBoot.AUDIT).call(swpks.read_object(OS, b"x"))


async def test_the_asynchronous_one_takes_words_too(pks_partition):
    channel = await pks_partition.ipl("enforce")
    await channel.call(swpks.write_object(OS, b"x", b"y", swpks.Policy.OSSECBOOTENFORCE))


def test_faults_on_demand(pks_partition_sync):
    """R-75: a fault plan counts from the next call, and None ends it."""
    pks_partition_sync.set_faults("GET_CONFIG=H_BUSY")
    with pytest.raises(swpks.HcallError) as caught:
        pks_partition_sync.channel.call(swpks.get_config())
    assert caught.value.status is swpks.Status.H_BUSY
    pks_partition_sync.set_faults()
    pks_partition_sync.channel.call(swpks.get_config())


def test_a_channel_may_follow_it(pks_partition_sync):
    with swpks.FollowingBlockingChannel(pks_partition_sync.locate, timeout=20) as channel:
        channel.call(swpks.write_object(OS, b"x", b"data"))
        partition = pks_partition_sync.partition
        pks_partition_sync.run(lambda: pks_partition_sync.machine.holds.leave(partition))
        assert channel.call(swpks.read_object(OS, b"x")).data == b"data"
        assert channel.moves == 1


async def test_it_works_beside_a_loop(pks_partition_sync):
    """A test on any event loop may use the fixture; each call blocks that loop."""
    pks_partition_sync.channel.call(swpks.write_object(OS, b"x", b"data"))
    await trio.lowlevel.checkpoint()
    assert pks_partition_sync.ipl().call(swpks.read_object(OS, b"x")).data == b"data"


def test_nothing_is_left_behind():
    """An exception of a block comes out; the thread and its sessions have ended."""
    before = threading.active_count()
    with pytest.raises(KeyError), blocking_partition() as partition:
        raise KeyError(partition)
    assert threading.active_count() == before
    uses: tuple[Any, ...] = (partition.connect, partition.ipl, partition.flush, lambda: partition.run(list))
    for use in uses:
        with pytest.raises(RuntimeError, match="not served any more"):
            use()
    with pytest.raises(SessionEnded):
        partition.channel.call(swpks.get_config())


def test_a_function_of_the_server_may_raise(pks_partition_sync):
    with pytest.raises(ZeroDivisionError):
        pks_partition_sync.run(lambda: 1 // 0)
    pks_partition_sync.channel.call(swpks.get_config())


def test_a_failure_of_the_server_leaves_the_block():
    """If the server fails, the test fails and does not hang. The failure is the last error."""

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("a bug of the server")

    with pytest.raises(ExceptionGroup) as caught, blocking_partition() as partition:  # noqa: PT012
        partition.run(lambda: partition.machine.run_beside(fail))
        with pytest.raises(ConnectionLost):
            partition.channel.call(swpks.get_config())
        with pytest.raises(RuntimeError, match="not served any more"):
            partition.flush()
    assert caught.value.subgroup(lambda error: "a bug of the server" in str(error))


@pytest.mark.parametrize(
    "options,message",
    [
        ({"secure_boot": "sometimes"}, "secure_boot is 0 to 2, or off, audit, enforce, not 'sometimes'"),
        ({"secure_boot": None}, "secure_boot is 0 to 2, .* not None"),
        ({"level": "FW99"}, "level='FW99': the levels are FW940, FW950"),
        ({"level": 1110}, "level=1110: it is the name of a firmware level"),
        ({"level": "FW940"}, "64 KiB is no size for a keystore: 0 alone on FW940"),
        ({"kbytes": 64.5}, "kbytes=64.5: it is a number of KiB"),
        ({"kbytes": True}, "kbytes=True: it is a number of KiB"),
        ({"kbytes": 3}, "3 KiB is no size"),
        ({"name": 5}, "name=5: it is text"),
        ({"name": "a/b"}, "'a/b' is no name for a partition"),
        ({"strict_memory": "no"}, "strict_memory='no': it is True or False"),
        ({"flush_delay": "1"}, "flush_delay='1': it is a number of seconds"),
        ({"confirm_wait": 60}, "confirm_wait=60: it is 0 to 1 second"),
        ({"attributes": ["x"]}, "attributes=.* it is a dictionary such as"),
        ({"attributes": {"nothing": 1}}, "no attribute 'nothing'; the attributes are"),
        ({"faults": "READ_OBJECT=H_BUSY"}, r'it is a list, such as faults=\["READ_OBJECT=H_BUSY,times=2"\]'),
        ({"faults": [5]}, "5 is no text"),
        ({"faults": ["READ"]}, "fault 'READ': 'READ' is no fault"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_wrong_option_is_refused_at_once(options, message):
    """Both kinds of partition raise the same error before anything runs."""
    wrong = (WrongOption, OperatorError)
    with pytest.raises(wrong, match=message), blocking_partition(**options):
        pass
    with pytest.raises(wrong, match=message):
        async with swpks.emulated_partition(**options):
            pass


@forks
def test_a_forked_process_does_not_end_the_session(pks_partition_sync):
    """The child leaves its parent's blocks, by an exception or not. The parent's session goes on."""
    channel = pks_partition_sync.channel

    def leave() -> int:
        with pytest.raises(KeyError), channel:
            raise KeyError("the test of the child has failed")
        return 0

    assert in_child(leave) == 0
    channel.call(swpks.write_object(OS, b"x", b"data"))
    assert channel.ended is None


@forks
def test_a_forked_process_does_not_stop_the_server():
    """The child leaves the block of the partition; the server's thread belongs to the parent and goes on."""
    statuses = []
    with blocking_partition() as partition:
        child = os.fork()
        if child:
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            assert partition.channel.call(swpks.get_config()).used_space == 0
    if not child:
        os._exit(7)
    assert statuses == [7]


@forks
def test_a_forked_process_is_told_to_open_its_own(pks_partition_sync):
    """A call of the child would take the parent's answer, so it is refused and nothing is sent."""

    def use() -> int:
        with pytest.raises(RuntimeError, match="opened this channel; a forked process opens one of its own"):
            pks_partition_sync.channel.call(swpks.get_config())
        with pytest.raises(RuntimeError, match="has this partition; a forked process starts one of its own"):
            pks_partition_sync.ipl()
        return 0

    assert in_child(use) == 0
    assert pks_partition_sync.channel.call(swpks.get_config()).used_space == 0


@forks
@pytest.mark.process
def test_a_forked_process_leaves_a_real_server_alone(swpks_server):
    """The child may open its own channel. The parent's channel and server process stay."""
    with swpks_server.connect_blocking() as channel:

        def leave() -> int:
            with channel, swpks_server.connect_blocking() as own:
                own.call(swpks.write_object(OS, b"x", b"data"))
            swpks_server.kill()
            return 0

        assert in_child(leave) == 0
        assert channel.call(swpks.read_object(OS, b"x")).data == b"data"
        assert swpks_server.pid is not None
