"""Registers and buffers of every call: random, truncated, or good with flipped bits (hypothesis).

For any input, the answer is one of the call's documented statuses. A refusal has changed nothing and written
nothing. Writes lie in memory that the call may write.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import HCall, HReturn, Segment
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.platform.partition import Partition
from tests.guest import ALL_CALLS, IN, OUT, SYSTEM, Guest, Layout, console_sets, make_partition
from tests.hcalls.damage import KEY_OBJECT, LABEL, PASSWORD, good
from tests.wrapping.second import LEAST_FLAGS

pytestmark = pytest.mark.usefixtures("not_measured")

DONE = {0, 18}

Change = Callable[[Layout], None]


def partition() -> Partition:
    """A partition of the newest level with a password, a wrapping key and a plain object, all durable."""
    made = make_partition("NEXT", 128, objects=[KEY_OBJECT])
    guest = Guest(made)
    assert guest.set_password(SYSTEM, PASSWORD).status == 0
    assert guest.write(SYSTEM, LABEL, b"its data", password=PASSWORD).status == 0
    guest.flush()
    return made


def picture(made: Partition) -> object:
    """Return all state that a call could change and that outlives it."""
    store = made.keystore
    assert store is not None
    words = dict(store.access.passwords._passwords)
    return (
        store.contents.snapshot(),
        store.contents.used,
        store.contents.generation,
        store.contents.object_count,
        words,
        made.attributes,
    )


def register(name: str, value: int) -> Change:
    """Put a number into a register."""
    return lambda layout: layout.registers.__setitem__(name, value)


def flipped(name: str, bits: list[int]) -> Change:
    """Flip bits in a buffer."""

    def change(layout: Layout) -> None:
        start, length, access, data = layout.memory[name]
        spoilt = bytearray(data)
        for bit in bits if data else ():
            spoilt[bit // 8 % length] ^= 1 << bit % 8
        layout.memory[name] = Segment(start, length, access, bytes(spoilt))

    return change


def replaced(name: str, data: bytes, *, resized: bool) -> Change:
    """Replace the bytes of a buffer. Its length register changes with it, or stays."""

    def change(layout: Layout) -> None:
        start = layout.memory[name].address
        layout.memory[name] = Segment(start, len(data), IN, data)
        length = layout.places[name].length
        if length and resized:
            layout.registers[length] = len(data)

    return change


def cut(name: str, size: int, *, resized: bool) -> Change:
    """Truncate a buffer."""

    def change(layout: Layout) -> None:
        start, length, access, data = layout.memory[name]
        kept = size % (length + 1)
        layout.memory[name] = Segment(start, kept, access, data[:kept])
        register_of_length = layout.places[name].length
        if register_of_length and resized:
            layout.registers[register_of_length] = kept

    return change


NUMBERS = st.sampled_from(
    [0, 1, 3, 16, 32, 1024, 4096, 0xFFFF, 0x1_0000, LEAST_FLAGS, 1 << 63]
) | st.integers(0, (1 << 64) - 1)


@st.composite
def changes(draw: st.DrawFn, opcode: Opcode) -> list[Change]:
    """One to three changes of a call."""
    layout = good(opcode)
    buffers = list(layout.memory)
    readable = [name for name, segment in layout.memory.items() if segment.access == IN] or buffers

    def one() -> Change:
        resized = draw(st.booleans())
        match draw(st.integers(0, 3)):
            case 0:
                return register(draw(st.sampled_from(list(layout.registers))), draw(NUMBERS))
            case 1:
                bits = draw(st.lists(st.integers(0, 20_000), min_size=1, max_size=4))
                return flipped(draw(st.sampled_from(readable)), bits)
            case 2:
                return replaced(
                    draw(st.sampled_from(readable)), draw(st.binary(max_size=1500)), resized=resized
                )
        return cut(draw(st.sampled_from(buffers)), draw(st.integers(0, 5000)), resized=resized)

    return [one() for _ in range(draw(st.integers(1, 3)))]


def judge(made: Partition, call: HCall, answer: HReturn, before: object) -> None:
    """Check an answer against its row of the table, and the store against its state before the call."""
    row = CALLS[Opcode(call.opcode)]
    assert answer.status in row.statuses if call.opcode in made.level.calls else answer.status == -2
    if answer.status not in DONE or not row.modifies:
        assert picture(made) == before
    if answer.status not in DONE:
        assert answer.writes == ()
    for address, data in answer.writes:
        assert any(
            access & OUT and start <= address and address + len(data) <= start + length
            for start, length, access, _ in call.segments
        )


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "relaxed"])
@pytest.mark.parametrize("opcode", Opcode, ids=[opcode.name for opcode in Opcode])
def test_spoilt_calls(opcode: Opcode, strict: bool) -> None:
    """R-17, R-71, R-72, R-76: Nearly good calls, a hundred of them on one store, keep all promises.

    The latch is armed for each call, because the good signed update needs it.
    """
    made = partition()
    made.strict_memory = strict
    engine = HypervisorCalls(made)
    succeeded = 0

    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(spoilt=changes(opcode))
    @example(spoilt=[])
    def spoil(spoilt: list[Change]) -> None:
        nonlocal succeeded
        console_sets(made, ALL_CALLS)
        layout = good(opcode)
        for change in spoilt:
            change(layout)
        call, before = layout.frame(), picture(made)
        answer = engine.execute(call)
        judge(made, call, answer, before)
        succeeded += answer.status in DONE

    spoil()
    assert succeeded


SEGMENTS = st.lists(
    st.tuples(st.integers(1, 8), st.binary(max_size=300), st.sampled_from([1, 2, 3])), max_size=5
).map(lambda found: tuple(Segment(at << 12, len(data), access, data) for at, data, access in found))


@pytest.mark.parametrize("opcode", Opcode, ids=[opcode.name for opcode in Opcode])
def test_random_calls(opcode: Opcode) -> None:
    """R-17: Calls whose registers point at pages with any contents, or nowhere, keep all promises."""
    made = partition()
    engine = HypervisorCalls(made)
    pages = st.integers(0, 9).map(lambda page: page << 12)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.lists(pages | st.integers(0, 300) | NUMBERS, min_size=9, max_size=9), SEGMENTS)
    def send(registers: list[int], segments: tuple[Segment, ...]) -> None:
        console_sets(made, ALL_CALLS)
        call, before = HCall(1, int(opcode), tuple(registers), segments), picture(made)
        judge(made, call, engine.execute(call), before)

    send()
