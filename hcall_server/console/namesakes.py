"""Equal names of systems: the console refuses an order that would make two names equal.

    view = await give_name(console.systems, system, "sys2")   # OperatorError if another system has this name

Two systems may have the same name already.  The console logs that when it connects to them.
"""

from __future__ import annotations

from collections.abc import Iterable

from hcall_abi.control_views import SystemView
from hcall_abi.errors import OperatorError
from hcall_abi.requests import set_system
from hcall_abi.rules import hmc as rules
from hcall_server.console.systems import KnownSystem


async def give_name(systems: Iterable[KnownSystem], system: KnownSystem, name: str) -> SystemView:
    """Give a system another name, for an operator; OperatorError if another system has it."""
    demand_free_name(systems, system, name)
    view = await system.call(set_system(name))
    # The name is stored at once, because the next command may use it.
    system.store_facts(system.row._replace(name=view.name))
    return view


def demand_free_name(systems: Iterable[KnownSystem], system: KnownSystem | None, name: str) -> None:
    """Raise OperatorError if another system has a name.

    `system` is the system that will get the name, None for a new system.  A system may get its present name
    again, so that a repeated script changes nothing.
    """
    if system is not None and system.name == name:
        return
    if others := namesakes(systems, system, name):
        message = f"{name!r} is the name of another system, {' and '.join(others)}"
        raise OperatorError(rules.HMC_SYSTEM_NAME_NEW, message)


def namesakes(systems: Iterable[KnownSystem], system: KnownSystem | None, name: str) -> list[str]:
    """Return type, model and serial number of each other system that has this name."""
    return [each.type_model_serial for each in systems if each is not system and each.name == name]
