"""Two systems with one name: an order with this name is refused, and the console logs the conflict."""

from typing import Any

import msgspec
import pytest

from hcall_abi.control_bodies import SystemChanges
from hcall_abi.errors import OperatorError
from hcall_abi.requests import set_system, show_system
from hcall_abi.rules import hmc as rules
from hcall_server.console.systems import NoLog
from swpks.hmc import wire
from swpks.hmc.orders import ConsoleHandler
from tests.console.rig import Rig, Site, running


class WarningLog(NoLog):
    """A log that stores the fields of its warnings by their event."""

    def __init__(self) -> None:
        self.warned: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, **fields: object) -> None:
        """Store a warning."""
        self.warned.append((event, fields))


async def test_a_name_found_at_a_contact_is_logged_with_serial_numbers(autojump_clock) -> None:
    """If a system reports the name of another system, the name is stored and one warning is logged.

    A command that uses the name is refused with both serial numbers.
    """
    lab, other = Site("lab"), Site("other", "c")
    async with running(lab, other) as rig:
        log = rig.console._watcher._log = WarningLog()
        serials = [rig.console.find(each).type_model_serial for each in ("lab", "other")]
        await rig.ask(set_system("lab"), other)
        await rig.until(lambda: [each.name for each in rig.console.systems] == ["lab", "lab"])
        await rig.ask(set_system("lab"), other)
        fields = {"system": "lab", "before": "other", "own": serials[1], "others": [serials[0]]}
        assert [each for each in log.warned if each[0] == "system.name_taken"] == [
            ("system.name_taken", fields)
        ]
        with pytest.raises(OperatorError) as caught:
            rig.console.find("lab")
        assert all(each in caught.value.message for each in serials)


async def test_a_system_with_the_name_of_another_one_is_not_added(autojump_clock) -> None:
    """A system with the name of a known system is refused. After a rename it can be added."""
    lab, other = Site("lab"), Site("other", "c")
    async with running(lab, other) as rig:
        assert await rig.console.remove_system("other") == ""
        await rig.ask(set_system("lab"), other)
        with pytest.raises(OperatorError) as caught:
            await rig.console.add_system("/other")
        assert caught.value.rule is rules.HMC_SYSTEM_NAME_NEW
        await rig.ask(set_system("other"), other)
        assert (await rig.console.add_system("/other")).name == "other"


async def named(rig: Rig, system: str, name: str) -> dict[str, Any]:
    """Return the answer to `swpks hmc name` at the console: a view, or a problem."""
    body = msgspec.Raw(msgspec.json.encode(SystemChanges(name=name)))
    asked = wire.Forwarded(operation="setSystem", system=system, body=body)
    handler = ConsoleHandler(rig.console)
    message = await handler.handle(wire.WireRequest(ask=asked), None)  # type: ignore[arg-type]
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.decode(message)["answer"]["content"])
    return found


async def test_a_name_by_the_console(autojump_clock) -> None:
    """If a system is renamed through the console, the next command finds it by the new name.

    Its old name is free then.
    """
    lab, other = Site("lab"), Site("other", "c")
    async with running(lab, other) as rig:
        assert (await named(rig, "lab", "new name"))["name"] == "new name"
        assert rig.console.find("new name").where == "/lab"
        assert (await rig.ask(show_system(), lab)).name == "new name"
        assert (await named(rig, "new name", "new name"))["name"] == "new name"
        assert (await named(rig, "other", "lab"))["name"] == "lab"
        assert rig.console.find("lab").where == "/other"


async def test_a_refused_name_by_the_console(autojump_clock) -> None:
    """A taken name, a malformed one, and an unknown system: each has its own rule, and nothing changes."""
    async with running(lab := Site("lab"), Site("other", "c")) as rig:
        serial = rig.console.find("other").type_model_serial
        taken = await named(rig, "lab", "other")
        assert taken["rule_id"] == rules.HMC_SYSTEM_NAME_NEW.id
        assert f"'other' is the name of another system, {serial}" in taken["detail"]
        # The schema of the request excludes an empty name, so the console does not send it to the system.
        malformed = {"a/b": "system.name-form", "x" * 32: "system.name-form", "": "hmc.operation"}
        for name, rule in malformed.items():
            assert (await named(rig, "lab", name))["rule_id"] == rule
        unknown = await named(rig, "third", "fourth")
        assert unknown["rule_id"] == rules.HMC_SYSTEM_KNOWN.id
        assert "no system 'third'" in unknown["detail"]
        assert [each.name for each in rig.console.systems] == ["lab", "other"]
        assert (await rig.ask(show_system(), lab)).name == "lab"
