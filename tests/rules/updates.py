"""Rules of signed updates, broken by SIGNED_UPDATE of the operating system.

A refused update stores nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hcall_abi.calls import Opcode
from hcall_abi.efi import StoredVariable, build_stored
from hcall_abi.rules import updates as rows
from hcall_abi.rules.rule import Rule
from hcall_client.guests import authvar
from hcall_server.keystore.image import StoredObject
from tests.guest import SYSTEM, Answer, Guest, auth_block, lay_out, make_partition
from tests.hcalls.damage import PASSWORD, PK_LABEL
from tests.rules.breaking import Break, Breaks
from tests.rules.hcalls import check
from tests.secvar.keys import BEFORE, kek, pk, update
from tests.secvar.test_rules import CASES

FIELDS = {"platform_key": "PK", "exchange_keys": "KEK"}
UPDATES = {"keystore_signed_updates": 1}


def owner(variables: dict[str, bytes], *, strict: bool = False) -> Guest:
    """Return a guest with its password set and these stored variables. It cannot skip the verification."""
    objects = [
        StoredObject(SYSTEM, authvar.variable_label(name), authvar.variable_policy(name), data)
        for name, data in variables.items()
    ]
    made = Guest(make_partition("FW1110", 128, objects=objects, attributes=UPDATES, strict_updates=strict))
    assert made.set_password(SYSTEM, PASSWORD) == Answer(0)
    return made


def refuse(guest: Guest, name: str, payload: bytes, **other: int | bytes) -> Rule:
    """Return the rule for which a guest's update is refused; check that the variable is unchanged."""
    label, policy = authvar.variable_label(name), authvar.variable_policy(name)
    before = guest.read(SYSTEM, label, password=PASSWORD)
    values: dict[str, int | bytes] = {
        "authorization": auth_block(SYSTEM, PASSWORD), "label": label, "policy": policy, "data": payload,
    }  # fmt: skip
    call = lay_out(Opcode.SIGNED_UPDATE, **{**values, **other}).frame()
    rule = check(guest, call, guest.send(call))
    assert guest.read(SYSTEM, label, password=PASSWORD) == before
    return rule


def case(rule: Rule) -> Break:
    """Return a function that breaks a rule: a guest sends the last update that breaks it in `CASES`."""
    _, name, payload, changes = next(each for each in reversed(CASES) if each[0] is rule)

    def broken(_: Path) -> Rule:
        made: dict[str, Any] = {key: value() if callable(value) else value for key, value in changes.items()}
        flags = int(made.pop("append", False))
        strict = bool(made.pop("strict", False))
        variables = {"PK": pk().variable, "KEK": kek().variable}
        variables.update({FIELDS.get(field, name): data for field, data in made.items()})
        return refuse(owner(variables, strict=strict), name, payload(), flags=flags)

    return broken


def argument(**other: int | bytes) -> Break:
    """Return a function that breaks a rule: an update with another label or other flags."""
    return lambda _: refuse(owner({}), "PK", b"never looked at", **other)


def _too_large(_: Path) -> Rule:
    stored = build_stored(StoredVariable(BEFORE, pk().lists * (65_000 // len(pk().lists))))
    variables = {"PK": pk().variable, "KEK": kek().variable, "db": stored}
    more = authvar.certificate_lists([kek().der, kek().der + b"\0"])
    return refuse(owner(variables), "db", update("db", more, append=True), flags=1)


BREAKS: Breaks = {rule.id: case(rule) for rule, *_ in CASES if rule is not rows.UPDATE_VARIABLE_FITS} | {
    "update.label": argument(label=b"p" + PK_LABEL[1:]),
    "update.name-wide": argument(label=PK_LABEL[:16]),
    "update.name-nul": argument(label=PK_LABEL + bytes(2)),
    "update.flags": argument(flags=2),
    "update.pk-append": argument(flags=1),
    "update.variable-fits": _too_large,
}
