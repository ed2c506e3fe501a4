"""Mutants whose passwords, policies, objects, keys or variables are wrong."""

from __future__ import annotations

from collections.abc import Iterator

from hcall_abi.calls import Opcode
from hcall_abi.frames import Frame, HCall, HReturn, Opened, Write
from tests.conformance.changes import (
    S,
    answered,
    flip,
    goodbye,
    output,
    status,
    when,
    written,
)
from tests.conformance.proxy import Mutant, Passing


def mutants() -> Iterator[Mutant]:
    """Yield the mutants of these chapters."""
    for chapter in (
        _passwords,
        _policies,
        _objects,
        _durability,
        _labels,
        _wrapping,
        _revocation,
        _updates,
        _ipl,
    ):
        yield from chapter()


def _passwords() -> Iterator[Mutant]:
    yield status("passwords", Opcode.SET_PASSWORD, S.H_IN_USE, S.H_SUCCESS)
    yield status("passwords", Opcode.GEN_PASSWORD, S.H_IN_USE, S.H_STATE)
    yield status("passwords", Opcode.READ_OBJECT, S.H_AUTHORITY, S.H_SUCCESS)
    yield status("passwords", Opcode.GET_OBJECTLABELS, S.H_AUTHORITY, S.H_SUCCESS)
    yield written("passwords", Opcode.GEN_PASSWORD, lambda data: b"p" * len(data), "the same byte throughout")
    yield written("passwords", Opcode.GEN_PASSWORD, lambda data: data[:-1], "one byte too few")
    yield written("passwords", Opcode.GEN_PASSWORD, flip(0), "another password than it sets")
    yield output(
        "passwords",
        Opcode.READ_OBJECT,
        "policy",
        lambda _: 0x1000_0000,
        "a policy with a wrong password",
        S.H_AUTHORITY,
    )


def _policies() -> Iterator[Mutant]:
    yield output(
        "policies",
        Opcode.READ_OBJECT,
        "policy",
        lambda word: word & ~0x0800_0000,
        "a policy without WORLDREADABLE",
    )
    yield output(
        "policies", Opcode.READ_OBJECT, "policy", lambda word: 0, "no policy with H_AUTHORITY", S.H_AUTHORITY
    )
    yield status("policies", Opcode.REMOVE_OBJECT, S.H_AUTHORITY, S.H_SUCCESS)
    yield status("policies", Opcode.WRITE_OBJECT, S.H_AUTHORITY, S.H_SUCCESS)
    yield status("policies", Opcode.WRITE_OBJECT, S.H_P4, S.H_SUCCESS)
    yield status("policies", Opcode.GEN_KEY, S.H_P4, S.H_AUTHORITY)
    yield Mutant("WRITE_OBJECT drops an unknown bit", "policies", calls=_drops_bit)
    yield Mutant("WRITE_OBJECT ignores OSSECBOOTENFORCE", "policies", calls=_without_enforce)


def _drops_bit(_: Passing, call: HCall) -> HCall | None:
    return _with_policy(call, call.registers[3] & ~0x1) if call.opcode == Opcode.WRITE_OBJECT else None


def _without_enforce(passing: Passing, call: HCall) -> HCall | None:
    # The judge finds the secure boot mode with the first two calls of a run. They stay unchanged, because the
    # judge needs the true mode.
    if call.opcode != Opcode.WRITE_OBJECT or b"mode" in b"".join(s[3] for s in call.segments):
        return None
    return _with_policy(call, call.registers[3] & ~0x2000_0000)


def _with_policy(call: HCall, word: int) -> HCall:
    return call._replace(registers=(*call.registers[:3], word, *call.registers[4:]))


def _objects() -> Iterator[Mutant]:
    yield written("objects", Opcode.READ_OBJECT, flip(0), "another first byte")
    yield written("objects", Opcode.READ_OBJECT, lambda data: data + b"\0", "one byte too many")
    yield written("objects", Opcode.READ_OBJECT, lambda data: data[:-1], "one byte too few")
    yield output("objects", Opcode.READ_OBJECT, "size", lambda size: size + 1, "a size that is 1 too large")
    yield output("objects", Opcode.READ_OBJECT, "size", lambda size: 0, "no size with H_TOO_BIG", S.H_TOO_BIG)
    yield output(
        "objects", Opcode.READ_OBJECT, "policy", lambda word: 0, "no policy with H_TOO_BIG", S.H_TOO_BIG
    )
    yield status("objects", Opcode.READ_OBJECT, S.H_TOO_BIG, S.H_PARTIAL)
    yield status("objects", Opcode.WRITE_OBJECT, S.H_RESOURCE, S.H_SUCCESS)
    yield status("objects", Opcode.WRITE_OBJECT, S.H_NO_MEM, S.H_RESOURCE)
    yield status("objects", Opcode.REMOVE_OBJECT, S.H_NOT_FOUND, S.H_SUCCESS)
    yield written("objects", Opcode.GEN_KEY, lambda data: b"k" * len(data), "a constant key")
    yield written("objects", Opcode.GET_CONFIG, _unused_store, "used space 0 always")
    yield Mutant("a label ends at a zero byte", "objects", calls=_cut_label)
    yield Mutant(
        "READ_OBJECT writes behind its buffer", "objects", answered(Opcode.READ_OBJECT, S.H_SUCCESS, _behind)
    )
    yield Mutant("all consumers share their labels", "objects", calls=_shared_names)


def _unused_store(data: bytes) -> bytes:
    return data[:16] + bytes(4) + data[20:]


def _cut_label(_: Passing, call: HCall) -> HCall | None:
    if call.opcode not in (Opcode.WRITE_OBJECT, Opcode.READ_OBJECT):
        return None
    label = next((s for s in call.segments if s[0] == call.registers[1]), None)
    if label is None or b"\0" not in label[3] or label[3].startswith(b"\0"):
        return None
    cut = label[3].partition(b"\0")[0]
    segments = tuple((s[0], len(cut), s[2], cut) if s is label else s for s in call.segments)
    return call._replace(registers=(*call.registers[:2], len(cut), *call.registers[3:]), segments=segments)


def _behind(_: Passing, frame: HReturn) -> HReturn | None:
    if not frame.writes:
        return None
    return frame._replace(writes=(*frame.writes, Write(frame.writes[0].address + 0x10_0000, b"x")))


def _shared_names(_: Passing, call: HCall) -> HCall | None:
    """Change calls about the boot loader's objects into calls about those of the operating system."""
    if call.opcode not in (Opcode.WRITE_OBJECT, Opcode.READ_OBJECT, Opcode.REMOVE_OBJECT):
        return None
    segments = tuple(
        (s[0], s[1], s[2], b"\1\3" + s[3][2:]) if s[0] == call.registers[0] and s[3][:2] == b"\1\2" else s
        for s in call.segments
    )
    return call._replace(segments=segments)


def _durability() -> Iterator[Mutant]:
    confirm = Opcode.CONFIRM_OBJECT_FLUSHED
    yield status("durability", confirm, S.H_NOT_FOUND, S.H_SUCCESS)
    yield status("durability", confirm, S.H_SUCCESS, S.H_BUSY)
    yield output("durability", confirm, "flushed", lambda _: 0, "0 with H_NOT_FOUND", S.H_NOT_FOUND)
    yield output("durability", confirm, "flushed", lambda value: value + 2, "another number than 0 or 1")
    yield status("durability", confirm, S.H_AUTHORITY, S.H_SUCCESS)
    yield Mutant("a TRANSIENT object is pending", "durability", _pending, _remember_transient)


def _remember_transient(passing: Passing, call: HCall) -> None:
    """Note the label of each TRANSIENT object."""
    if call.opcode == Opcode.WRITE_OBJECT and call.registers[3] & 0x0200_0000:
        passing.shared["transient"] = label_of(call)


def _pending(passing: Passing, frame: Frame) -> list[Frame | bytes] | None:
    """Answer a CONFIRM of a TRANSIENT object with 0 in r4."""
    if not isinstance(frame, HReturn) or passing.call is None:
        return None
    if passing.call.opcode != Opcode.CONFIRM_OBJECT_FLUSHED:
        return None
    known = label_of(passing.call) == passing.shared.get("transient")
    return [frame._replace(registers=(0, *frame.registers[1:]))] if known else None


def label_of(call: HCall) -> bytes:
    """Return the label of a call about an object."""
    return next((s[3] for s in call.segments if s[0] == call.registers[1]), b"")


def _labels() -> Iterator[Mutant]:
    lists = Opcode.GET_OBJECTLABELS
    yield output("labels", lists, "count", lambda count: count + 1, "a count that is 1 too large")
    yield output("labels", lists, "count", lambda count: 0, "no count with H_CONTINUE", S.H_CONTINUE)
    yield output("labels", lists, "token", lambda token: 7, "a token with the last part")
    yield output("labels", lists, "token", lambda token: 0, "no token with H_CONTINUE", S.H_CONTINUE)
    yield status("labels", lists, S.H_CONTINUE, S.H_SUCCESS)
    yield status("labels", lists, S.H_P2, S.H_SUCCESS)
    yield status("labels", lists, S.H_P4, S.H_SUCCESS)
    yield written("labels", lists, flip(5), "another label")
    yield written("labels", lists, lambda data: data[:-1], "one byte too few")


def _wrapping() -> Iterator[Mutant]:
    wrap, unwrap = Opcode.WRAP_OBJECT, Opcode.UNWRAP_OBJECT
    yield written("wrapping", unwrap, flip(0), "another first byte")
    yield written("wrapping", wrap, flip(1024), "a damaged object")
    yield output("wrapping", wrap, "size", lambda size: size - 1, "a size that is 1 too small")
    yield output("wrapping", unwrap, "size", lambda size: size + 1, "a size that is 1 too large")
    yield output("wrapping", wrap, "token", lambda _: 3, "a token with H_SUCCESS")
    yield status("wrapping", unwrap, S.H_BAD_DATA, S.H_SUCCESS)
    yield status("wrapping", unwrap, S.H_UNSUPPORTED, S.H_BAD_DATA)
    yield status("wrapping", unwrap, S.H_NOT_FOUND, S.H_SUCCESS)
    yield status("wrapping", unwrap, S.H_AUTHORITY, S.H_SUCCESS)
    yield status("wrapping", wrap, S.H_INVALID_KEY, S.H_SUCCESS)
    yield status("wrapping", Opcode.READ_OBJECT, S.H_AUTHORITY, S.H_SUCCESS)
    yield status("wrapping", Opcode.GEN_KEY, S.H_P6, S.H_SUCCESS)


def _revocation() -> Iterator[Mutant]:
    revoke, unrevoke = Opcode.REVOKE_OBJECT, Opcode.UNREVOKE_OBJECT
    yield output("revocation", revoke, "policy", lambda word: word & ~2, "a policy without REVOKED")
    yield output("revocation", unrevoke, "policy", lambda word: word | 2, "a policy with REVOKED")
    yield output("revocation", revoke, "policy", lambda _: 0, "no policy with H_AUTHORITY", S.H_AUTHORITY)
    yield status("revocation", revoke, S.H_AUTHORITY, S.H_SUCCESS)
    yield status("revocation", unrevoke, S.H_NOT_FOUND, S.H_SUCCESS)
    yield status("revocation", Opcode.WRAP_OBJECT, S.H_AUTHORITY, S.H_SUCCESS)
    yield status("revocation", Opcode.UNWRAP_OBJECT, S.H_AUTHORITY, S.H_INVALID_KEY)


def _updates() -> Iterator[Mutant]:
    update = Opcode.SIGNED_UPDATE
    yield status("updates", update, S.H_AUTHORITY, S.H_SUCCESS)
    yield status("updates", update, S.H_P6, S.H_AUTHORITY)
    yield status("updates", update, S.H_P2, S.H_SUCCESS)
    yield status("updates", update, S.H_P4, S.H_SUCCESS)
    yield status("updates", update, S.H_P5, S.H_P6)
    yield output("updates", update, "token", lambda _: 9, "a token with H_SUCCESS")
    yield written("updates", Opcode.READ_OBJECT, flip(1), "another time")
    yield written("updates", Opcode.READ_OBJECT, lambda data: data[8:], "no header of the stored form")


def _ipl() -> Iterator[Mutant]:
    yield goodbye("an IPL ends sessions with GOODBYE 4", "ipl", lambda frame: [frame._replace(reason=4)])
    yield goodbye("an IPL ends sessions without GOODBYE", "ipl", lambda frame: [])
    yield Mutant("the IPL count stays", "ipl", when(Opened, _same_count))
    yield status("ipl", Opcode.READ_OBJECT, S.H_NOT_FOUND, S.H_SUCCESS)
    yield status("ipl", Opcode.READ_OBJECT, S.H_AUTHORITY, S.H_NOT_FOUND)
    yield status("ipl", Opcode.GET_OBJECTLABELS, S.H_P2, S.H_SUCCESS)
    yield written("ipl", Opcode.READ_OBJECT, flip(0), "another byte after the IPL")
    yield status("ipl", Opcode.SET_PASSWORD, S.H_SUCCESS, S.H_IN_USE)


def _same_count(_: Passing, frame: Frame) -> list[Frame | bytes]:
    assert isinstance(frame, Opened)
    return [frame._replace(ipl_count=1)]
