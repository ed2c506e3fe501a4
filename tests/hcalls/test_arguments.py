"""Positional statuses: every argument of every call in every wrong form, alone and together (R-76)."""

import re
from itertools import groupby

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.frames import Segment
from hcall_abi.rules.rule import Positional
from hcall_server.keystore.access import Credentials
from tests.guest import BOTH, SYSTEM, Answer, Guest, make_partition
from tests.hcalls.damage import GOOD, KEY_OBJECT, LABEL, PASSWORD, Damage, damages, good

DAMAGES = list(damages())
POSITIONS = {4: -4, 5: -55, 6: -56, 7: -57, 8: -58, 9: -59, 10: -60, 11: -61, 12: -62}
CALL_NAMES = [opcode.name for opcode in GOOD]


def guest(*, strict: bool = True) -> Guest:
    """A guest whose system consumer has its password, a wrapping key and one object, all flushed."""
    found = Guest(make_partition("NEXT", 128, strict=strict, objects=[KEY_OBJECT]))
    assert found.write(SYSTEM, LABEL, b"its data") == Answer(0)
    assert found.set_password(SYSTEM, PASSWORD) == Answer(0)
    store = found.partition.keystore
    assert store is not None
    store.contents.mark_flushed(store.contents.generation)
    return found


def picture(found: Guest) -> object:
    store = found.partition.keystore
    assert store is not None
    words = [store.access.state(Credentials(consumer, b"")).is_set for consumer in Consumer]
    return store.contents.snapshot(), store.contents.used, store.contents.generation, words


@pytest.mark.parametrize("name", CALL_NAMES)
def test_the_undamaged_call_succeeds(name: str) -> None:
    """The call without damage succeeds, so each damage below is the only reason for its refusal."""
    for strict in (True, False):
        assert guest(strict=strict).send(good(Opcode[name]).frame()).status == 0


def test_every_argument_of_every_call_is_damaged() -> None:
    """R-76: Each argument in the table of calls has a damage, except the length of READ's buffer."""
    arguments = {(opcode, arg.name) for opcode in GOOD for arg in CALLS[opcode].args}
    damaged = {(damage.opcode, damage.arg.name) for damage in DAMAGES}
    assert arguments - damaged == {(Opcode.READ_OBJECT, "data_length")}
    assert len(DAMAGES) > 150


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_a_wrong_argument_is_named_by_its_position(damage: Damage) -> None:
    """R-76: A wrong argument gives its positional status (r4: H_PARAMETER, r5: H_P2 and so on).

    Nothing changes, and the log gets the rule and the page.
    """
    found = guest()
    before = picture(found)
    layout = good(damage.opcode)
    damage.hurt(layout)
    assert found.send(layout.frame()) == Answer(POSITIONS[damage.arg.register])
    assert picture(found) == before
    refusal = found.refusals[-1]
    assert refusal.argument == damage.arg.name
    assert refusal.rule.answer is Positional.ARGUMENT or refusal.rule.status == refusal.status


FIGURES = [
    (Opcode.SET_PASSWORD, "consumer", 7, r"^bad argument consumer in r4: 0x7$"),
    (
        Opcode.WRITE_OBJECT,
        "policy",
        1 << 32,
        r"^bad argument policy in r7: 0x100000000 has more than 32 bits$",
    ),
    (
        Opcode.GEN_PASSWORD,
        "password_length",
        0,
        r"^bad argument password_length in r7: 0 bytes, not 32 to 64$",
    ),
    (
        Opcode.WRITE_OBJECT,
        "authorization",
        0,
        r"^bad argument authorization in r4: its 16 bytes at 0x0 are in no segment$",
    ),
]


@pytest.mark.parametrize(
    "opcode,name,value,message", FIGURES, ids=[f"{o.name}-{n}" for o, n, _, _ in FIGURES]
)
def test_the_log_is_told_the_figures_of_a_wrong_argument(
    opcode: Opcode, name: str, value: int, message: str
) -> None:
    """R-76: the message has the argument, its register, the value, and the allowed values."""
    found, layout = guest(), good(opcode)
    layout.registers[name] = value
    found.send(layout.frame())
    assert re.search(message, found.refusals[-1].message)


@pytest.mark.parametrize(
    "segment, reason",
    [
        (None, "are in no segment"),
        (Segment.written(0x1000, 8), "are in a segment that is not readable"),
        (Segment.read(0x1000, b"abc"), "end beyond their segment of 3 bytes at 0x1000"),
        (Segment.read(0x1000, b""), "are in no segment"),
    ],
)
def test_an_unreadable_buffer_has_a_reason(segment: Segment | None, reason: str) -> None:
    """R-76: the message has the address, the length, and why no segment has the buffer."""
    found, frame = guest(), good(Opcode.READ_OBJECT).frame()
    registers = list(frame.registers)
    registers[1:3] = [0x1000, 8]
    kept = [each for each in frame.segments if each[0] != frame.registers[1]]
    found.send(frame._replace(registers=tuple(registers), segments=(*kept, *([segment] if segment else []))))
    assert found.refusals[-1].message == f"bad argument label in r5: its 8 bytes at 0x1000 {reason}"


def test_an_unwritable_buffer_has_a_reason() -> None:
    """R-76: the message for an output buffer in a segment for input."""
    found, frame = guest(), good(Opcode.READ_OBJECT).frame()
    registers = list(frame.registers)
    registers[3:5] = [0x1000, 8]
    segments = (*frame.segments, Segment.read(0x1000, bytes(8)))
    found.send(frame._replace(registers=tuple(registers), segments=segments))
    assert found.refusals[-1].message.endswith("its 8 bytes at 0x1000 are in a segment that is not writable")


@pytest.mark.parametrize("damage", [each for each in DAMAGES if each.strict], ids=str)
def test_a_wrong_place_has_one_of_two_reasons(damage: Damage) -> None:
    """R-76: the message has the address, and says whether alignment or the end of a page is the reason."""
    found, layout = guest(), good(damage.opcode)
    damage.hurt(layout)
    found.send(layout.frame())
    aligned, crossed = (
        r"the address 0x[0-9A-F]+ is no multiple of \d+$",
        r"its \d+ bytes at 0x[0-9A-F]+ cross the ",
    )
    assert re.search(crossed if "page" in damage.what else aligned, found.refusals[-1].message), damage.what


@pytest.mark.parametrize("damage", [each for each in DAMAGES if each.strict], ids=str)
def test_relaxed_memory_forgives_places(damage: Damage) -> None:
    """R-76: In relaxed memory, a wrong alignment or a crossed page is accepted."""
    layout = good(damage.opcode)
    damage.hurt(layout)
    status = guest(strict=False).send(layout.frame()).status
    allowed = {0, -59} if damage.opcode is Opcode.SIGNED_UPDATE else {0, -7}
    # Damage may make the label longer. The call then names another object, so -7 (not found) is allowed.
    assert status in allowed


@pytest.mark.parametrize("damage", [each for each in DAMAGES if not each.strict], ids=str)
def test_relaxed_memory_forgives_nothing_else(damage: Damage) -> None:
    """R-76: In relaxed memory, all other damages are refused as in strict memory."""
    layout = good(damage.opcode)
    damage.hurt(layout)
    assert guest(strict=False).send(layout.frame()) == Answer(POSITIONS[damage.arg.register])


def one_each(opcode: Opcode) -> list[Damage]:
    """Return one damage for each argument.

    For a length argument, it is the largest wrong length. The server then still checks the buffer.
    """
    own = [damage for damage in DAMAGES if damage.opcode is opcode]
    return [list(each)[-1] for _, each in groupby(own, key=lambda damage: damage.arg)]


PAIRS = [
    (first, second)
    for opcode in GOOD
    for first in one_each(opcode)
    for second in one_each(opcode)
    if first.arg.register < second.arg.register and first.arg.length != second.arg.name
]


@pytest.mark.parametrize("first,second", PAIRS, ids=[f"{a}+{b.arg.name}" for a, b in PAIRS])
def test_of_two_wrong_arguments_the_first_is_named(first: Damage, second: Damage) -> None:
    """Arguments are checked in the order of their registers, not in the order of the damages."""
    for order in ((first, second), (second, first)):
        layout = good(first.opcode)
        for damage in order:
            damage.hurt(layout)
        assert guest().send(layout.frame()) == Answer(POSITIONS[first.arg.register])


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d.arg.register > 4], ids=str)
def test_shapes_are_judged_before_the_password(damage: Damage) -> None:
    """The password is checked only if every argument has a valid form."""
    if "authorization" in good(damage.opcode).registers and damage.arg.name != "labels_length":
        layout = good(damage.opcode, password=b"wrong")
        damage.hurt(layout)
        assert guest().send(layout.frame()) == Answer(POSITIONS[damage.arg.register])


def test_the_room_for_one_label_is_judged_after_the_password() -> None:
    """The size of the list buffer is checked after the password.

    So a caller without the password does not learn the length of the labels.
    """
    assert guest().labels(SYSTEM, room=1, password=b"wrong") == Answer(-10)
    assert guest().labels(SYSTEM, room=1, password=PASSWORD) == Answer(-57)


def test_a_bad_address_of_nothing_is_no_bad_address() -> None:
    """A buffer of length 0 needs no memory. So with a wrong address, the refused argument is the length."""
    for opcode, name in ((Opcode.WRITE_OBJECT, "label"), (Opcode.WRITE_OBJECT, "data")):
        layout = good(opcode)
        layout.readable(name, b"", address=0xDEAD_0000)
        blamed = CALLS[opcode].arg(f"{name}_length")
        assert guest().send(layout.frame()) == Answer(POSITIONS[blamed.register])


def test_addresses_and_lengths_of_64_bits_wrap_nowhere() -> None:
    """If address and length sum to more than 64 bits, the buffer is in no segment and is refused."""
    top = (1 << 64) - 1
    for opcode in GOOD:
        for name, place in good(opcode).places.items():
            if name in good(opcode).memory:
                layout = good(opcode)
                layout.registers[name] = top
                register = CALLS[opcode].arg(name).register
                assert guest().send(layout.frame()) == Answer(POSITIONS[register])
                if place.length is not None:
                    layout = good(opcode)
                    layout.registers[place.length] = top
                    assert guest().send(layout.frame()) == Answer(POSITIONS[register])


@pytest.mark.parametrize("name", CALL_NAMES)
def test_one_segment_may_serve_every_argument(name: str) -> None:
    """One large readable and writable segment may contain all buffers of a call."""
    layout = good(Opcode[name])
    if not layout.memory:
        return
    memory, offset = bytearray(65536), 0
    for argument, segment in list(layout.memory.items()):
        layout.registers[argument] = 0x10_0000 + offset
        memory[offset : offset + len(segment.data)] = segment.data
        offset += 8192
    frame = layout.frame()._replace(segments=(_whole(bytes(memory)),))
    assert guest().send(frame).status == 0


def _whole(memory: bytes) -> Segment:
    return Segment(0x10_0000, len(memory), BOTH, memory)


def test_data_may_cross_pages() -> None:
    """R-76: only auth block, label, password and config must lie in one page. Data needs no alignment."""
    data = bytes(range(256)) * 40
    for offset in (0, 1, 4095):
        found = guest()
        layout = good(Opcode.WRITE_OBJECT)
        layout.readable("data", data, 0x5000 + offset)
        assert found.send(layout.frame()) == Answer(0)
        layout = good(Opcode.READ_OBJECT)
        layout.readable("label", b"new")
        layout.writable("data", len(data), 0x5000 + offset)
        assert found.send(layout.frame()) == Answer(0, len(data), 0, data)


def test_memory_rules_can_be_switched_while_the_guest_runs() -> None:
    """R-76: If the partition's memory rules are switched, the next call follows the new rules."""
    found = guest()
    crossing = next(d for d in DAMAGES if d.strict and d.opcode is Opcode.CONFIRM_OBJECT_FLUSHED)
    layout = good(crossing.opcode)
    crossing.hurt(layout)
    for strict, status in ((True, -4), (False, 0), (True, -4)):
        found.partition.strict_memory = strict
        assert found.send(layout.frame()).status == status
