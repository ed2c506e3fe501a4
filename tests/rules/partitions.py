"""Rules about names, sizes, attributes and power, broken by a console's requests to a managed system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from hcall_abi.attributes import parse_attributes
from hcall_abi.calls import Opcode
from hcall_abi.levels import LEVELS
from hcall_abi.rules.rule import Rule
from hcall_abi.variables import SIGNED_ONLY
from hcall_client import console
from hcall_server.nvram.names import partition_name
from hcall_server.platform.system import ManagedSystem
from tests.guest import SYSTEM, Answer, Chance, Guest, auth_block
from tests.hcalls.damage import PK_LABEL
from tests.hcalls.owner import first_pk
from tests.rules.breaking import Break, Breaks, breaks, refused
from tests.writeback.rig import Rig, committed, first_records, nth_record

UPDATES = "keystore_signed_updates"
LATCH = "keystore_signed_updates_without_verification"
DYNAMIC = "linux_dynamic_key_secure_boot"


def make_system(level: str = "FW1110", kbytes: int = 8) -> ManagedSystem:
    """Return a system with a partition that is powered off."""
    system = ManagedSystem(LEVELS[level], bytes(16), Chance(), total_kbytes=100)
    system.create("a", kbytes)
    return system


def asked(request: Callable[[ManagedSystem], object], **how) -> Break:
    """Return a function that breaks a rule: a request to a system with a powered-off partition."""
    return lambda _: refused(request, make_system(**how))


def asked_on(request: Callable[[ManagedSystem], object], **how) -> Break:
    """Return a function that breaks a rule: a request to a system whose partition runs."""

    def broken(_: Path) -> Rule:
        system = make_system(**how)
        system.power_on("a")
        return refused(request, system)

    return broken


def set_to(**changes: int) -> Callable[[ManagedSystem], object]:
    """Return a request that sets these attributes."""
    return lambda system: system.set_attributes("a", changes)


def _full(_: Path) -> Rule:
    system = make_system(kbytes=0)
    first = system.partitions["a"].profile
    for number in range(2, 1 << 16):
        system.adopt(first._replace(number=number, name=str(number)))
    return refused(system.create, "last")


def _holding_an_object(_: Path) -> Rule:
    system = make_system()
    system.power_on("a")
    assert Guest(system.find("a")).write(SYSTEM, b"label", b"data") == Answer(0)
    return refused(system.set_attributes, "a", {"keystore_kbytes": 0})


def _deleted_with_an_object(_: Path) -> Rule:
    system = make_system()
    system.power_on("a")
    assert Guest(system.find("a")).write(SYSTEM, b"label", b"data") == Answer(0)
    system.power_off("a")
    return refused(system.delete, "a")


def _holding_a_variable(_: Path) -> Rule:
    system = make_system()
    system.set_attributes("a", {UPDATES: 1, LATCH: 1})
    system.power_on("a")
    guest, block = Guest(system.find("a")), auth_block(SYSTEM)
    answer = guest.do(
        Opcode.SIGNED_UPDATE, authorization=block, label=PK_LABEL, policy=SIGNED_ONLY, data=first_pk()
    )
    assert answer == Answer(0)
    system.power_off("a")
    return refused(system.set_attributes, "a", {UPDATES: 0})


def _after_damage(request: Callable[[ManagedSystem], object]) -> Break:
    """Return a function that breaks a rule: a request to a system that could not open the record of lpar2."""

    def broken(_: Path) -> Rule:
        records = first_records(2, 8)
        return refused(request, Rig(0, records={**records, nth_record(records, 2): b"damaged"}).system)

    return broken


def _beside_a_stranger(_: Path) -> Rule:
    """Break a rule: a partition is created while a damaged record has no known name."""
    records = committed({**first_records(1, 8), partition_name(UUID(int=9, version=4)): b"damaged " * 20})
    return refused(Rig(0, records=records).system.create, "new")


BREAKS: Breaks = {
    "name.form": asked(lambda system: system.create("control")),
    "name.exists": asked(lambda system: system.power_on("b")),
    "name.new": asked(lambda system: system.create("a")),
    "name.unreadable": _beside_a_stranger,
    "name.path": breaks(console.power_on, ".."),
    "partition.id": _full,
    "partition.number": asked(lambda system: system.create("b", number=1)),
    "partition.off": asked_on(lambda system: system.delete("a", destroy=True)),
    "partition.empty": _deleted_with_an_object,
    "size.range": asked(lambda system: system.create("b", 3)),
    "size.total": asked(lambda system: system.create("b", 93)),
    "size.in-use": _holding_an_object,
    "size.shrinks": asked(set_to(keystore_kbytes=7)),
    "size.running": asked_on(set_to(keystore_kbytes=9)),
    "attribute.known": asked(set_to(colour=1)),
    "attribute.form": breaks(parse_attributes, ["secure_boot"]),
    "attribute.range": asked(set_to(secure_boot=3)),
    "attribute.running": asked_on(set_to(**{UPDATES: 1})),
    "attribute.idle": asked_on(set_to(simplified_remote_restart_capable=0)),
    "attribute.needs": asked(set_to(**{LATCH: 1})),
    "attribute.keystore": asked(set_to(**{UPDATES: 1}), kbytes=0),
    "attribute.in-use": _holding_a_variable,
    "power.stopped": asked_on(lambda system: system.power_on("a")),
    "power.running": asked(lambda system: system.ipl("a")),
    "power.opened": _after_damage(lambda system: system.power_on("lpar2")),
    "power.stored": _after_damage(lambda system: system.set_attributes("lpar2", {"secure_boot": 1})),
}
