"""Tests of what is made from the table of h-calls: argument tuples, bounds, translations of refusals."""

from typing import get_type_hints

import pytest

from hcall_abi.arguments import Arg, Kind
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.frames import new_tuple
from hcall_abi.rules.rule import Positional, Rule
from hcall_abi.statuses import Status
from hcall_server.hcalls.arguments import field_checks
from hcall_server.hcalls.handlers import HANDLERS
from hcall_server.hcalls.memory import Place
from hcall_server.hcalls.refusals import REFUSALS, REFUSALS_OF, VERDICTS, refusal_of
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.authority import Verdict
from hcall_server.keystore.refusals import Forbidden, KeystoreRefusal, WrongKind

ROWS = [(opcode, kind) for opcode, kind in REFUSALS_OF]


def expected(arg: Arg) -> type:
    """Return the type that a field has for the kind of its argument."""
    if arg.kind is Kind.AUTHORIZATION:
        return Credentials
    if arg.kind is Kind.CONSUMER:
        return Consumer
    if arg.kind.writable:
        return Place
    return bytes if arg.kind.readable else int


@pytest.mark.parametrize("opcode", CALLS, ids=lambda opcode: opcode.name)
def test_the_tuple_of_a_call_is_its_row(opcode: Opcode) -> None:
    """The tuple of a call has a field for each argument but the lengths: name, order and type agree."""
    handler = HANDLERS[opcode]
    fields = [(arg.name, expected(arg)) for arg in CALLS[opcode].args if not arg.kind.is_length]
    assert list(get_type_hints(handler.arguments).items()) == fields
    assert list(field_checks(CALLS[opcode])) == [name for name, _ in fields]


@pytest.mark.parametrize("opcode", CALLS, ids=lambda opcode: opcode.name)
def test_a_buffer_and_its_length_stand_side_by_side(opcode: Opcode) -> None:
    """A buffer and its length are neighbours, so one check of both keeps the order of the registers."""
    spec = CALLS[opcode]
    for arg in spec.args:
        if arg.length:
            assert spec.length_of(arg).register == arg.register + 1
            assert spec.length_of(arg).kind.is_length
    assert sum(arg.kind.is_length for arg in spec.args) == sum(bool(arg.length) for arg in spec.args)


def test_the_arguments_of_a_call_hide_their_secrets() -> None:
    """R-76: The repr of a call's arguments shows no passwords, keys or data."""
    canary = b"canary"
    who = Credentials(Consumer.FIRMWARE, canary)
    values = {Credentials: who, Consumer: who.consumer, Place: Place(0, 1), bytes: canary, int: 1}
    for handler in HANDLERS.values():
        fields = get_type_hints(handler.arguments).items()
        made = [b"label" if name == "label" else values[kind] for name, kind in fields]
        assert "canary" not in repr(new_tuple(handler.arguments, made))


@pytest.mark.parametrize("opcode,kind", ROWS, ids=[f"{o.name}-{k.__name__}" for o, k in ROWS])
def test_a_translation_answers_with_a_status_of_its_call(opcode: Opcode, kind: type[KeystoreRefusal]) -> None:
    """R-76: A translation for one call returns a status and an argument that the call has in the table."""
    refusal = refusal_of(opcode, kind("found"))
    assert refusal.status in CALLS[opcode].statuses
    assert refusal.argument in {None, *(arg.name for arg in CALLS[opcode].args)}
    assert refusal.message == "found"


def test_every_refusal_of_the_keystore_has_an_answer() -> None:
    """Each kind of refusal has a translation, and each verdict has a rule."""
    kinds = set(KeystoreRefusal.__subclasses__())
    assert kinds - {Forbidden, WrongKind} == set(REFUSALS)
    assert {kind for _, kind in REFUSALS_OF} >= {WrongKind}
    assert set(VERDICTS) == set(Verdict) - {Verdict.ALLOWED}
    assert {rule.status for rule in VERDICTS.values()} == {Status.H_AUTHORITY}


def test_every_rule_of_an_argument_is_positional() -> None:
    """A rule about bounds or policy words is answered with the status of the argument's register."""
    rules: list[Rule] = [
        each.rule for spec in CALLS.values() for arg in spec.args for each in (arg.bounds, arg.words) if each
    ]
    assert len(rules) > 20
    assert {rule.answer for rule in rules} == {Positional.ARGUMENT}
