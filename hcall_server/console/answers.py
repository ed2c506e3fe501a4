"""Checks the names and ids in the answers of a system, which the console stores and prints.

A malicious program may answer in place of a system.  The console prints the name of a system in lists, and
names a folder by its serial number.  So a malformed name or id is an error (`console.answer`,
spec/console.md#systems).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hcall_abi.console import is_system_name
from hcall_abi.control_bodies import LARGEST_NUMBER
from hcall_abi.control_views import CustodyView, PartitionView, SystemView
from hcall_abi.errors import PeerError
from hcall_abi.rules import console as rules

_SERIAL = re.compile(r"[0-9A-Z]{4}-[0-9A-Z]{3}\*[0-9A-Z]{7}")
_ID = re.compile(r"[0-9a-f]{32}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LEVEL = re.compile(r"[0-9A-Za-z._-]{1,31}")
_PARTITION = re.compile(r"(unreadable:)?[0-9A-Za-z][0-9A-Za-z._-]{0,99}")
"""The name of a partition, or the placeholder of one whose own name is lost."""


def demand_form(answer: object) -> None:
    """Raise PeerError (console.answer) for a view with a malformed name or id; other answers pass."""
    if isinstance(answer, SystemView):
        _demand("name of a system", [answer.name] if not is_system_name(answer.name) else [])
        _demand_match("type, model and serial number", _SERIAL, [answer.type_model_serial])
        _demand_match("id of a system", _ID, [answer.system_id])
        _demand_match("firmware level", _LEVEL, [answer.firmware_level])
        _demand_match("name of a partition", _PARTITION, [*answer.restored, *answer.lost])
        _demand_custody(answer.custody)
    views = answer.partitions if isinstance(answer, SystemView) else [answer]
    partitions = [each for each in views if isinstance(each, PartitionView)]
    _demand_match("name of a partition", _PARTITION, [each.name for each in partitions])
    _demand_match("UUID", _UUID, [each.uuid for each in partitions])


def _demand_custody(facts: Iterable[CustodyView]) -> None:
    """Check the names, ids and numbers that the register will store.

    An empty peer id is permitted: it means that there is no peer.
    """
    facts = list(facts)
    _demand_match("name of a partition", _PARTITION, [each.name for each in facts])
    _demand_match("UUID", _UUID, [each.uuid for each in facts])
    _demand_match("id of a system", _ID, [each.peer_id for each in facts if each.peer_id])
    _demand(
        "number of an attempt", [str(each.epoch) for each in facts if not 0 <= each.epoch <= LARGEST_NUMBER]
    )


def _demand_match(what: str, form: re.Pattern[str], texts: Iterable[str]) -> None:
    _demand(what, [text for text in texts if not form.fullmatch(text)])


def _demand(what: str, wrong: list[str]) -> None:
    if wrong:
        raise PeerError(rules.CONSOLE_ANSWER, f"the system has answered with {wrong[0][:40]!a} as {what}")
