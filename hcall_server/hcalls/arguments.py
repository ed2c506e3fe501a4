"""Argument checks, made from the table of h-calls: one checker an argument, in register order.

A checker turns what is in a register (and behind it, in guest memory) into the value that the
operation takes, or raises the status of that argument's position.  What an argument's kind
demands follows from the table; what only one call demands of one argument is in `rules`.

Guest memory is the segments that came with the call and nothing else.  A buffer has to lie inside
one segment with the right access; a buffer of length 0 needs no memory.  The strict rules
(alignment, one page) are those that PowerVM is reported to enforce (R-76); a partition can be told
to relax them.  Every call goes through this, so the searches stand where they are needed.
"""

from __future__ import annotations

from collections.abc import Callable

from hcall_abi.calls import Arg, HCallSpec, Kind, Opcode
from hcall_abi.frames import ADDRESS_SPACE, Access, Piece
from hcall_abi.layout import LayoutMismatch
from hcall_abi.structures import AUTH_LAYOUT
from hcall_server.hcalls.rules import (
    CONSUMERS,
    LABEL_PLACE,
    POLICY_PLACE,
    RULES,
    RULES_BY_NAME,
    WRAPPING,
    Context,
    Values,
    no_rule,
)
from hcall_server.keystore.refusal import Refusal
from hcall_server.secvar.names import broken_by_label

PAGE = 4096
"""Size in bytes of the page that a buffer of one page may not leave."""
_IN, _OUT = int(Access.IN), int(Access.OUT)

Registers = tuple[int, ...]
Checker = Callable[[Registers, tuple[Piece, ...], Context, Values], None]
"""Adds what the argument stands for to the values, or raises Refusal."""

Refuse = Callable[[str], Refusal]


def checkers(spec: HCallSpec) -> tuple[Checker, ...]:
    """Return the checkers of a call's arguments, in register order.

    What they add to the values: an authorization block its consumer and password, an output
    buffer its address and length, any other buffer its bytes, a number itself, a length nothing.
    An argument without any rule of its own has no checker.
    """
    made = (_checker(spec, arg) for arg in spec.args)
    return tuple(checker for checker in made if checker is not None)


def _checker(spec: HCallSpec, arg: Arg) -> Checker | None:
    section = f"spec/hcalls/{spec.opcode.name.lower()}.md#checks"

    def refuse(rule: str) -> Refusal:
        message = f"bad argument {arg.name} in r{arg.register}"
        return Refusal(arg.status, message, rule=rule, section=section, argument=arg.name)

    index = arg.register - 4
    match arg.kind:
        case Kind.VALUE:
            return _value(spec.opcode, arg, index, refuse)
        case Kind.LENGTH:
            return _length(spec.opcode, arg, index, refuse)
        case Kind.AUTHORIZATION:
            return _authorization(arg, index, refuse)
        case Kind.OUTPUT if spec.opcode is Opcode.GEN_KEY:
            return _key_output(arg, index, _length_index(spec, arg), refuse)
        case Kind.OUTPUT:
            return _output(arg, index, _length_index(spec, arg), refuse)
        case Kind.LABEL | Kind.INPUT | Kind.PASSWORD:
            plain = _input(arg, index, _length_index(spec, arg), refuse)
            of_variable = arg.kind is Kind.LABEL and spec.opcode is Opcode.SIGNED_UPDATE
            return _variable_label(plain, refuse) if of_variable else plain


def _length_index(spec: HCallSpec, arg: Arg) -> int:
    return spec.arg(arg.length or "").register - 4


def _room(arg: Arg) -> int:
    """Return how far a buffer may reach beyond the start of its page, in strict memory."""
    return PAGE if arg.one_page else ADDRESS_SPACE


def _forgiven(context: Context, alignment: int) -> bool:
    """Say whether this is a buffer of WRAP or UNWRAP, and those may lie anywhere."""
    return alignment == PAGE and not context.page_aligned


def _misplaced(arg: Arg) -> str:
    """Return the rule of strict memory about where this buffer lies."""
    rules = [f"at a multiple of {arg.alignment}"] if arg.alignment > 1 else []
    rules += ["within one 4 KiB page"] if arg.one_page else []
    return f"the buffer lies {' and '.join(rules)}"


def _authorization(arg: Arg, index: int, refuse: Refuse) -> Checker:
    size, alignment = AUTH_LAYOUT.size, arg.alignment
    unpack = AUTH_LAYOUT.unpack

    def check(registers: Registers, segments: tuple[Piece, ...], context: Context, values: Values) -> None:
        address = registers[index]
        block = _readable_from(segments, address)
        if context.strict and address % alignment:
            raise refuse(_misplaced(arg))
        if len(block) < size:
            raise refuse("the authorization block lies in one readable segment")
        try:
            consumer, length = unpack(block)
        except LayoutMismatch:
            raise refuse("an authorization block has version 1 and reserved bytes 0") from None
        if consumer not in CONSUMERS:
            raise refuse("the consumer is 1, 2 or 3")
        if length > context.limits.max_password_size:
            raise refuse("the password is no longer than the maximum")
        end = size + length
        if context.strict and address % PAGE + end > PAGE:
            raise refuse(_misplaced(arg))
        if len(block) < end:
            raise refuse("the authorization block lies in one readable segment")
        values += (CONSUMERS[consumer], block[size:end])

    return check


def _readable_from(segments: tuple[Piece, ...], address: int) -> bytes:
    """Return the bytes from `address` to the end of the readable segment around it, if there is one."""
    for start, extent, access, data in segments:
        if start <= address < start + extent and access & _IN:
            return data[address - start :]
    return b""


def _input(arg: Arg, index: int, length_index: int, refuse: Refuse) -> Checker:
    alignment, room = arg.alignment, _room(arg)

    def check(registers: Registers, segments: tuple[Piece, ...], context: Context, values: Values) -> None:
        address, length = registers[index], registers[length_index]
        if not length:
            values.append(b"")  # a buffer without bytes needs no memory
            return
        for start, extent, access, data in segments:
            if start <= address and address + length <= start + extent and access & _IN:
                values.append(data[address - start : address - start + length])
                break
        else:
            raise refuse("the buffer lies in one readable segment")
        misplaced = context.strict and (address % alignment or address % PAGE + length > room)
        if misplaced and not _forgiven(context, alignment):
            raise refuse(_misplaced(arg))

    return check


def _variable_label(plain: Checker, refuse: Refuse) -> Checker:
    """Return the checker of a variable's label; one of a wrong length is left to its length to blame."""

    def check(registers: Registers, segments: tuple[Piece, ...], context: Context, values: Values) -> None:
        plain(registers, segments, context, values)
        label = values[LABEL_PLACE]
        if 0 < len(label) <= context.limits.max_label_size and (rule := broken_by_label(label)):
            raise refuse(rule.sentence)

    return check


def _output(arg: Arg, index: int, length_index: int, refuse: Refuse) -> Checker:
    alignment, room = arg.alignment, _room(arg)

    def check(registers: Registers, segments: tuple[Piece, ...], context: Context, values: Values) -> None:
        address, length = registers[index], registers[length_index]
        for start, extent, access, _ in segments:
            if start <= address and address + length <= start + extent and access & _OUT:
                break
        else:
            if length:
                raise refuse("the buffer lies in one writable segment")
        misplaced = context.strict and length and (address % alignment or address % PAGE + length > room)
        if misplaced and not _forgiven(context, alignment):
            raise refuse(_misplaced(arg))
        values += (address, length)

    return check


def _key_output(arg: Arg, index: int, length_index: int, refuse: Refuse) -> Checker:
    """Return the checker of GEN_KEY's buffer: a wrapping key has none, as it never leaves the hypervisor."""
    plain = _output(arg, index, length_index, refuse)

    def check(registers: Registers, segments: tuple[Piece, ...], context: Context, values: Values) -> None:
        if not values[POLICY_PLACE] & WRAPPING:
            plain(registers, segments, context, values)
        elif registers[index]:
            raise refuse("a wrapping key is not written to memory: the address is 0")
        else:
            values += (0, registers[length_index])

    return check


def _value(opcode: Opcode, arg: Arg, index: int, refuse: Refuse) -> Checker:
    broken = RULES.get((opcode, arg.name), no_rule)
    top = 1 << arg.bits

    def check(registers: Registers, segments: tuple[Piece, ...], context: Context, values: Values) -> None:
        value = registers[index]
        if value >= top:
            raise refuse(f"the value has {arg.bits} bits")
        if rule := broken(value, context, values):
            raise refuse(rule)
        values.append(value)

    return check


def _length(opcode: Opcode, arg: Arg, index: int, refuse: Refuse) -> Checker | None:
    broken = RULES.get((opcode, arg.name)) or RULES_BY_NAME.get(arg.name)
    if broken is None:
        return None

    def check(registers: Registers, segments: tuple[Piece, ...], context: Context, values: Values) -> None:
        if rule := broken(registers[index], context, values):
            raise refuse(rule)

    return check
