"""Arguments: each kind of fault in each argument, and the status that names the argument's register.

A server checks arguments before it looks up an object, so these calls need no object.  Each call has one
wrong argument; all other arguments are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hcall_abi.arguments import Arg, Kind
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import Access, Segment
from hcall_abi.policies import STATUS_BITS, Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.rules import updates
from hcall_abi.rules.rule import Rule
from hcall_abi.statuses import Status
from swpks.conformance.case import ConformanceCase, by_rule
from swpks.conformance.server.draft import PAGE, Draft, auth_block
from swpks.conformance.server.judged import LEAST_FLAGS, SYSTEM, Attempt, Facts, Judged

GOOD: dict[Opcode, dict[str, int | bytes]] = {
    Opcode.GET_CONFIG: {"config": 520},
    Opcode.SET_PASSWORD: {"consumer": 1, "password": b"p" * 32},
    Opcode.GEN_PASSWORD: {"consumer": 2, "password": 32},
    Opcode.GET_OBJECTLABELS: {"labels": 4096},
    Opcode.WRITE_OBJECT: {"label": b"", "data": b"data"},
    Opcode.READ_OBJECT: {"label": b"", "data": 4096},
    Opcode.REMOVE_OBJECT: {"label": b""},
    Opcode.CONFIRM_OBJECT_FLUSHED: {"label": b""},
    Opcode.GEN_KEY: {"label": b"", "key": 48},
    Opcode.WRAP_OBJECT: {"label": b"", "flags": LEAST_FLAGS, "input": b"secret", "output": 1030},
    Opcode.UNWRAP_OBJECT: {"input": b"w" * 1030, "output": 6},
    Opcode.REVOKE_OBJECT: {"label": b""},
    Opcode.UNREVOKE_OBJECT: {"label": b""},
    Opcode.SIGNED_UPDATE: {
        "label": bytes(9) + b"\2\x10" + bytes(5) + "conformance".encode("utf-16-le"),
        "policy": int(Policy.SIGNEDUPDATE),
        "data": b"u" * 64,
    },
}
"""Right arguments of each call; an empty label is replaced by a new label of this run."""


def good(judged: Judged, opcode: Opcode) -> Draft:
    """Return a call whose arguments are right."""
    values = {name: value or judged.label() for name, value in GOOD[opcode].items()}
    if any(arg.kind is Kind.AUTHORIZATION for arg in CALLS[opcode].args):
        values["authorization"] = judged.auth()
    return Draft.of(opcode, **values)


Hurt = Callable[[Draft], None]


class Damage(NamedTuple):
    """One way in which an argument can be wrong, and the rule that it breaks."""

    name: str
    hurt: Hurt
    rule: Rule


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    for opcode in GOOD:
        for arg in CALLS[opcode].args:
            if opcode not in facts.level.calls:
                continue
            for damage in damages(facts, opcode, arg):
                call = opcode.name.lower().replace("_", "-")
                name = f"arguments.{call}.{arg.name.replace('_', '-')}.{damage.name}"
                yield by_rule(name, damage.rule, _refused(opcode, arg, damage))


def _refused(opcode: Opcode, arg: Arg, damage: Damage) -> Attempt:
    def attempt(judged: Judged) -> None:
        draft = good(judged, opcode)
        damage.hurt(draft)
        send_refused(judged, draft, arg.status)

    return attempt


def send_refused(judged: Judged, draft: Draft, status: Status) -> None:
    """Make a wrong call; Deviation unless the server refuses it with this status.

    If the server accepts the call, its effects are noted before the Deviation is raised.
    """
    answer = judged.call(draft)
    if answer.status == Status.H_SUCCESS:
        _note_effects(judged, draft, answer.written)
    answer.expect(status).expect_nothing_written()


def _note_effects(judged: Judged, draft: Draft, written: bytes) -> None:
    """Note the object or the password that a wrongly accepted call has made.

    The object is then removed at the end of the case, and later cases use the password.
    """
    opcode = draft.spec.opcode
    if opcode in (Opcode.WRITE_OBJECT, Opcode.GEN_KEY) and "label" in draft.memory:
        judged.made(draft.memory["label"].data)
    if opcode is Opcode.SET_PASSWORD and "password" in draft.memory:
        judged.passwords[draft.registers["consumer"] & 0xFF] = draft.memory["password"].data
    if opcode is Opcode.GEN_PASSWORD:
        judged.passwords[draft.registers["consumer"] & 0xFF] = written


def damages(facts: Facts, opcode: Opcode, arg: Arg) -> Iterator[Damage]:
    """Yield every damage of an argument; the kind of the argument decides which."""
    if arg.kind.readable or arg.kind.writable:
        if GOOD[opcode].get(arg.name) != 0:
            yield from _memory(arg)
        if arg.kind is Kind.AUTHORIZATION:
            yield from _blocks(facts, arg)
    elif arg.kind.is_length:
        yield from (_resized(opcode, arg, length) for length in bad_lengths(facts, opcode, arg))
    else:
        yield from (_put(facts, arg, value) for value in bad_values(facts, opcode, arg))


def _memory(arg: Arg) -> Iterator[Damage]:
    """Yield the damages of a buffer: missing, wrong access, too short, late start, two parts, misplaced."""
    name, other = arg.name, Access.OUT if arg.kind.readable else Access.IN

    def nowhere(draft: Draft) -> None:
        del draft.memory[name]

    def other_access(draft: Draft) -> None:
        start, length, _, _ = draft.memory[name]
        draft.memory[name] = Segment(start, length, other, bytes(length) if other is Access.IN else b"")

    def too_short(draft: Draft) -> None:
        start, length, access, data = draft.memory[name]
        draft.memory[name] = Segment(start, length - 1, access, data[:-1])

    # The register keeps its address, so the first 16 bytes of the buffer are in no segment.
    def begins_behind(draft: Draft) -> None:
        draft.memory[name] = draft.memory[name]._replace(address=draft.memory[name].address + 16)

    # Together the two segments are the whole buffer.  The contract refuses them: a buffer must lie in one
    # segment.
    def in_two(draft: Draft) -> None:
        start, length, access, data = draft.memory[name]
        draft.memory[name] = Segment(start, length - 1, access, data[:-1])
        draft.memory[f"{name} tail"] = Segment(start + length - 1, 1, access, data[-1:])

    rule = rules.BUFFER_READABLE if arg.kind.readable else rules.BUFFER_WRITABLE
    if arg.kind is Kind.AUTHORIZATION:
        rule = rules.AUTHORIZATION_READABLE
    yield Damage("nowhere", nowhere, rule)
    yield Damage("other-access", other_access, rule)
    yield Damage("too-short", too_short, rule)
    yield Damage("begins-behind", begins_behind, rule)
    yield Damage("in-two-segments", in_two, rule)
    if arg.one_page:
        yield Damage("crosses-a-page", _moved(arg, PAGE - 16), rules.BUFFER_PLACE)
    if arg.alignment > 1:
        yield Damage("misaligned-by-1", _moved(arg, 1), rules.BUFFER_PLACE)
        yield Damage("misaligned-by-half", _moved(arg, arg.alignment // 2), rules.BUFFER_PLACE)


def _moved(arg: Arg, offset: int) -> Hurt:
    """Return the damage that moves a buffer to an offset in its page.

    Near the end of the page, the buffer is also made long enough to cross the end.
    """

    def hurt(draft: Draft) -> None:
        start, length, access, data = draft.memory[arg.name]
        if offset > PAGE // 2 and offset + length <= PAGE:
            length = 32
            data = data.ljust(length, b"x") if data else data
            if arg.length:
                draft.registers[arg.length] = length
        if arg.kind is Kind.AUTHORIZATION and offset > PAGE // 2:
            # The head and a password of 16 bytes: this block is aligned and also crosses the end of the page.
            data = auth_block(SYSTEM, b"x" * 16)
            length = len(data)
        draft.memory[arg.name] = Segment(start + offset, length, access, data)
        draft.registers[arg.name] = start + offset

    return hurt


def _blocks(facts: Facts, arg: Arg) -> Iterator[Damage]:
    """Yield the damages inside an authorization block."""
    right = auth_block(SYSTEM, b"p" * 16)
    longest = facts.config.max_password_size

    def block(name: str, data: bytes, rule: Rule = rules.AUTHORIZATION_LAYOUT) -> Damage:
        return Damage(name, lambda draft: draft.put(arg.name, data), rule)

    # Each block has one fault.  A block with two would pass on a server that checks only one of them.
    for version in (0, 2, 255):
        yield block(f"version-{version}", auth_block(SYSTEM, version=version))
    for consumer in (0, 4, 255):
        yield block(f"consumer-{consumer}", auth_block(consumer), rules.CONSUMER_KNOWN)
    for at in range(2, 14):
        yield block(f"reserved-byte-{at}", right[:at] + b"\1" + right[at + 1 :])
    too_long = auth_block(SYSTEM, b"p" * (longest + 1))
    yield block("password-too-long", too_long, rules.AUTHORIZATION_PASSWORD)
    unreadable = rules.AUTHORIZATION_READABLE
    yield block("password-beyond-the-segment", auth_block(SYSTEM, b"p" * 16, length=17), unreadable)
    yield block("head-alone", right[:16], unreadable)
    yield block("half-a-head", right[:8], unreadable)


def bad_lengths(facts: Facts, opcode: Opcode, arg: Arg) -> tuple[int, ...]:
    """Return wrong lengths for which the call returns the status of this argument."""
    config, largest = facts.config, facts.largest_object
    if arg.name == "label_length":
        return 0, config.max_label_size + 1
    lengths: dict[tuple[Opcode, str], tuple[int, ...]] = {
        (Opcode.GET_CONFIG, "config_length"): (0, 1, 23),
        (Opcode.SET_PASSWORD, "password_length"): (0, config.max_password_size + 1),
        (Opcode.GEN_PASSWORD, "password_length"): (0, 31, config.max_password_size + 1),
        # The room for a label list is checked after the password.  So chapter `labels` has these cases.
        (Opcode.GET_OBJECTLABELS, "labels_length"): (),
        (Opcode.WRITE_OBJECT, "data_length"): (0, largest + 1),
        (Opcode.GEN_KEY, "key_length"): (0, largest + 1),
        (Opcode.WRAP_OBJECT, "input_length"): (0, 0x10000),
        (Opcode.WRAP_OBJECT, "output_length"): (0, 1029),
        (Opcode.UNWRAP_OBJECT, "input_length"): (0, 1024, 0x10000 + 1024),
        (Opcode.UNWRAP_OBJECT, "output_length"): (0, 5),
        (Opcode.SIGNED_UPDATE, "data_length"): (0, config.max_object_size + 1),
        # A short buffer is no wrong argument of READ: the answer is H_TOO_BIG, which depends on the object.
        (Opcode.READ_OBJECT, "data_length"): (),
    }
    return lengths[opcode, arg.name]


def _resized(opcode: Opcode, arg: Arg, length: int) -> Damage:
    buffer = next(each for each in CALLS[opcode].args if each.length == arg.name)

    def hurt(draft: Draft) -> None:
        draft.put(buffer.name, length if buffer.kind.writable else b"x" * length)
        # A written buffer of length 0 has no segment, and `put` then sets no length.  So the length is set
        # here.
        draft.registers[arg.name] = length

    # A length with bounds breaks the rule of these bounds, any other length the rule of arguments.
    return Damage(f"length-{length}", hurt, arg.bounds.rule if arg.bounds else rules.ARGUMENT_RIGHT)


BAD_WRAP_FLAGS = {
    0: rules.WRAP_ALGORITHM,
    LEAST_FLAGS & ~0xF: rules.WRAP_ALGORITHM,
    LEAST_FLAGS + 1: rules.WRAP_ALGORITHM,
    LEAST_FLAGS + 0x10: rules.WRAP_BITS,
    LEAST_FLAGS & 0xF: rules.WRAP_PWSET,
    LEAST_FLAGS | 0x8000_0000_0000_0000: rules.WRAP_BITS,
    LEAST_FLAGS | 0x0800_0000_0000_0000: rules.WRAP_BITS,
    LEAST_FLAGS | 0x6000_0000_0000_0000: rules.WRAP_MODES,
}
"""Wrong wrap flags, and the rule that each breaks.  0 breaks several: its rule is checked first."""


def bad_values(facts: Facts, opcode: Opcode, arg: Arg) -> tuple[int, ...]:
    """Return numbers that this argument must not have."""
    if arg.kind is Kind.WRAP_FLAGS:
        return tuple(BAD_WRAP_FLAGS)
    if arg.kind is Kind.UPDATE_FLAGS:
        return 2, 3, 1 << 63
    if arg.kind is Kind.POLICY:
        return _bad_words(facts, opcode)
    return {
        # 256 + 1 is a right consumer to a server that reads only the low byte.
        Kind.CONSUMER: (0, 4, 255, 256 + 1, 1 << 63),
        Kind.RESERVED: (1, 1 << 63),
        Kind.LIST_TOKEN: (1, 99, (1 << 64) - 1),
        Kind.CONTINUE_TOKEN: (1, 99, (1 << 64) - 1),
    }[arg.kind]


def _bad_words(facts: Facts, opcode: Opcode) -> tuple[int, ...]:
    """Return policy words that a call must refuse: each bit that it does not allow, and some combinations."""
    own = {
        Opcode.WRITE_OBJECT: Policy.SIGNEDUPDATE | Policy.WRAPPINGKEY,
        Opcode.GEN_KEY: Policy.SIGNEDUPDATE,
        Opcode.SIGNED_UPDATE: Policy.WRAPPINGKEY,
    }[opcode]
    demanded = int(Policy.SIGNEDUPDATE) if opcode is Opcode.SIGNED_UPDATE else 0
    taken = facts.config.supported_policies & ~int(own)
    # SIGNED_UPDATE demands a bit.  Each word has that bit, because a word without it would have two faults.
    words = [1 << bit | demanded for bit in range(32) if not taken >> bit & 1]
    words += [1 << 32 | demanded, 1 << 63 | demanded, int(Policy.WORLDREADABLE) | 1 << 32 | demanded]
    if demanded:
        words += [0, int(Policy.WORLDREADABLE)]
    if opcode is Opcode.GEN_KEY and facts.config.supported_policies & Policy.WRAPPINGKEY:
        words.append(int(Policy.WRAPPINGKEY | Policy.WORLDREADABLE))
    return tuple(words)


def _put(facts: Facts, arg: Arg, value: int) -> Damage:
    rule = _rule_of(facts, arg, value)
    return Damage(f"value-0x{value:x}", lambda draft: draft.registers.__setitem__(arg.name, value), rule)


def _rule_of(facts: Facts, arg: Arg, value: int) -> Rule:
    """Return the rule that a wrong number breaks."""
    if value >> arg.bits:
        return rules.ARGUMENT_BITS
    if arg.kind is Kind.WRAP_FLAGS:
        return BAD_WRAP_FLAGS[value]
    if arg.kind is Kind.POLICY:
        return _rule_of_word(facts, arg, value)
    return {
        Kind.CONSUMER: rules.CONSUMER_KNOWN,
        Kind.RESERVED: rules.ARGUMENT_ZERO,
        Kind.LIST_TOKEN: rules.LIST_TOKEN,
        Kind.CONTINUE_TOKEN: rules.CONTINUE_TOKEN,
        Kind.UPDATE_FLAGS: updates.UPDATE_FLAGS,
    }[arg.kind]


def _rule_of_word(facts: Facts, arg: Arg, word: int) -> Rule:
    """Return the first rule that a policy word breaks (spec/policies.md#words-that-are-refused)."""
    if word & STATUS_BITS:
        return rules.POLICY_STATUS_BITS
    if word & ~facts.config.supported_policies:
        return rules.POLICY_SUPPORTED
    if arg.words and (word & arg.words.refused or word & arg.words.demanded != arg.words.demanded):
        return arg.words.rule
    return rules.POLICY_WORLD_KEY
