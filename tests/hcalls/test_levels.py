"""Which calls are answered, by firmware level, keystore size and power."""

from itertools import pairwise

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import HCall
from hcall_abi.levels import KEYSTORE_LEVELS, LEVELS
from hcall_server.hcalls.handlers import HANDLERS
from hcall_server.hcalls.refusals import Refusal
from hcall_server.keystore.image import StoredObject
from tests.guest import Answer, Guest, console_sets, make_partition
from tests.hcalls.damage import GOOD, KEY_OBJECT, LABEL, PASSWORD, good

H_FUNCTION, H_STATE = Answer(-2), Answer(-75)
ALL_OPCODES = [int(opcode) for opcode in CALLS]
FIRST = frozenset(range(0x41C, 0x440, 4))
SINCE = {
    "FW940": frozenset(),
    "FW950": FIRST,
    "FW1010": FIRST,
    "FW1030": FIRST | {0x454},
    "FW1050": FIRST | {0x454},
    "FW1060": FIRST | {0x454},
    "FW1110": FIRST | {0x454, 0x490, 0x494},
    "NEXT": FIRST | {0x454, 0x490, 0x494, 0x4AC, 0x4B0},
}
"""The opcodes of each level."""


def bare(opcode: int) -> HCall:
    """Return a call whose registers are 0."""
    return HCall(1, opcode, (0,) * 9, ())


@pytest.mark.parametrize("level", KEYSTORE_LEVELS)
def test_a_level_serves_the_calls_that_it_has(level: str) -> None:
    """R-74: Each call of the level succeeds.

    A call of a later level returns H_FUNCTION, whatever its arguments.
    """
    for opcode in GOOD:
        guest = Guest(make_partition(level, objects=[KEY_OBJECT, StoredObject(3, LABEL, 0, b"data")]))
        assert guest.set_password(3, PASSWORD) == Answer(0)
        expected = Answer(0) if opcode in SINCE[level] else H_FUNCTION
        for call in (
            (good(opcode).frame(), bare(opcode)) if expected == H_FUNCTION else (good(opcode).frame(),)
        ):
            assert guest.send(call).status == expected.status


def test_a_level_without_keystore_serves_no_call() -> None:
    """R-50, R-74: On a level without a keystore each call returns H_FUNCTION, whatever its arguments."""
    guest = Guest(make_partition("FW940", 0, attributes={}))
    for opcode in GOOD:
        assert guest.send(good(opcode).frame()) == guest.send(bare(opcode)) == H_FUNCTION
    assert sorted(set(LEVELS) - set(KEYSTORE_LEVELS)) == ["FW940"]


def test_each_level_has_what_the_one_before_had() -> None:
    """R-74: A level has all calls of the level before, and no smaller size.

    The table agrees with the levels.
    """
    for level, calls in SINCE.items():
        assert LEVELS[level].calls == calls
    for older, newer in pairwise(LEVELS.values()):
        assert older.calls <= newer.calls
        assert older.config_version <= newer.config_version
        assert older.max_kbytes <= newer.max_kbytes
        assert older.supported_policies & ~newer.supported_policies == 0


def test_every_call_of_the_table_is_answered() -> None:
    """R-74: The engine has a handler for each call of each level."""
    assert set(HANDLERS) == set(CALLS) == set(Opcode)
    assert set().union(*(level.calls for level in LEVELS.values())) == set(HANDLERS)


@pytest.mark.parametrize(
    "opcode", [0, 0x418, 0x41D, 0x440, 0x444, 0x498, 0x4B4, 1 << 63, (1 << 64) - 1, 0x1_0000_041C]
)
def test_unknown_opcodes(opcode: int) -> None:
    """R-74: A call with an unknown number returns H_FUNCTION, also a known number with higher bits set."""
    assert Guest(make_partition()).send(bare(opcode)) == H_FUNCTION


@pytest.mark.parametrize("opcode", [*ALL_OPCODES, 0x444])
@pytest.mark.parametrize("running", [True, False])
def test_nothing_is_answered_while_the_keystore_is_off(opcode: int, running: bool) -> None:
    """R-30, R-35: While the keystore is off, every call returns H_FUNCTION."""
    guest = Guest(make_partition(kbytes=0, running=running))
    assert guest.send(bare(opcode)) == H_FUNCTION
    assert guest.refusals[-1].rule.page.startswith("spec/")


@pytest.mark.parametrize("opcode", GOOD, ids=lambda opcode: opcode.name)
def test_a_stopped_partition_is_answered_nothing(opcode: Opcode) -> None:
    """While the partition is off, a call returns H_STATE. An unknown call still returns H_FUNCTION."""
    guest = Guest(make_partition("NEXT", running=False))
    assert guest.send(bare(opcode)) == H_STATE
    assert guest.send(bare(0x444)) == H_FUNCTION
    guest.partition.power_on()
    assert guest.send(bare(opcode)).status not in {-2, -75}
    guest.partition.power_off()
    assert guest.send(bare(opcode)) == H_STATE


def test_switching_the_keystore_on_and_off_shows_at_the_next_call() -> None:
    """R-33, R-35: If the keystore is switched off, the next call returns H_FUNCTION.

    If it is switched on again, it is new and empty.
    """
    guest = Guest(make_partition())
    guest.set_password(3, b"old")
    console_sets(guest.partition, {"keystore_kbytes": 0})
    assert guest.send(good(Opcode.GET_CONFIG).frame()) == H_FUNCTION
    guest.partition.power_off()
    console_sets(guest.partition, {"keystore_kbytes": 8})
    guest.partition.power_on()
    config = guest.config()
    assert (config.total, config.used) == (8192, 0)
    assert guest.write(3, b"label", b"data") == Answer(0)


def test_refusals_are_optional_listening() -> None:
    """If no function for the report of refusals is set, calls are answered all the same."""
    from hcall_server.hcalls.dispatch import HypervisorCalls

    assert HypervisorCalls(make_partition()).execute(bare(0)).status == -2


def test_the_log_hears_of_refusals_only() -> None:
    """H_CONTINUE and a pending CONFIRM are not reported as refusals."""
    guest = Guest(make_partition())
    for label in (b"one", b"two"):
        guest.write(3, label, b"data")
    assert guest.labels(3, room=5).status == 18
    assert guest.confirm(3, b"one") == Answer(0, 0)
    assert guest.refusals == []
    assert guest.read(3, b"three").status == -7
    assert [type(refusal) for refusal in guest.refusals] == [Refusal]
