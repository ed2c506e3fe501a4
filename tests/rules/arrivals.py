"""Rules about custody and arriving partitions, broken at a managed system and by the bytes of a migration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hcall_abi.levels import LEVELS
from hcall_abi.rules.rule import Rule
from hcall_server.platform.arrival import Needs, demand_fit, needs_of
from hcall_server.platform.custody import Custody, Mode
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing.custody_record import decode_custody
from hcall_server.sealing.traveller import FORMATS
from tests.guest import Chance
from tests.rules.breaking import Break, Breaks, breaks, refused


def make_system(level: str = "FW1110", seed: bytes = b"target") -> ManagedSystem:
    """Return a system without partitions."""
    return ManagedSystem(LEVELS[level], bytes(16), Chance(seed), total_kbytes=100)


def _needs() -> Needs:
    """Return what a partition of another system needs from its target."""
    source = make_system(seed=b"source")
    return needs_of(source.create("a", 8), source.level, FORMATS)


def arriving(level: str = "FW1110", **changes: Any) -> Break:
    """Return a function that breaks a rule: a partition arrives that does not fit on an empty system."""
    return lambda _: refused(demand_fit, make_system(level), _needs()._replace(**changes), FORMATS, live=True)


def _owned_already(_: Path) -> Rule:
    system, wanted = make_system(), _needs()
    profile = system.create("b").profile
    system.adopt(profile._replace(uuid=wanted.uuid, name="a"))
    return refused(demand_fit, system, wanted, FORMATS)


def _name_taken(_: Path) -> Rule:
    system = make_system()
    system.create("a")
    return refused(demand_fit, system, _needs(), FORMATS)


def not_served(mode: Mode, custody: Custody, request: Callable[[ManagedSystem], object]) -> Break:
    """Return a function that breaks a rule: a request about a partition that this system does not serve."""

    def broken(_: Path) -> Rule:
        system = make_system()
        partition = system.create("a")
        partition.set_custody(custody, 7, bytes(16))
        partition.mode = mode
        return refused(request, system)

    return broken


BREAKS: Breaks = {
    "custody.owned": not_served(Mode.SETTLED, Custody.RELEASED, lambda system: system.delete("a")),
    "custody.confirmed": not_served(Mode.ASKING, Custody.OWN, lambda system: system.power_on("a")),
    "custody.record": breaks(decode_custody, b"\0\1damaged"),
    "arrival.custody": _owned_already,
    "arrival.name": _name_taken,
    "arrival.format": arriving(formats=[2]),
    "arrival.level": arriving("FW940"),
    "arrival.size": arriving(kbytes=101),
    "arrival.objects": arriving(longest_label=256),
    "arrival.password": arriving(longest_password=65),
    "arrival.calls": arriving(calls=["REVOKE_OBJECT"]),
}
