"""Two systems with one name: an order with this name is refused, and the console logs the conflict."""

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.requests import set_system
from hcall_abi.rules import hmc as rules
from hcall_server.console.systems import NoLog
from tests.console.rig import Site, running


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
