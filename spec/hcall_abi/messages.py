"""Message numbers of the management console (spec/console.md#message-numbers).

A refusal of a line begins with a number: that of the real console (HSCL) where it is public, otherwise one of
ours (SWPK).  A number never changes its rule, and a rule that is gone leaves its number unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hcall_abi.errors import SwpksError
from hcall_abi.remedies import with_remedy
from hcall_abi.rules.rule import Rule

PUBLIC: Mapping[str, str] = MappingProxyType(
    {
        "name.exists": "HSCL8012",
        "power.stopped": "HSCL3681",
        "power.running": "HSCL1558",
    }
)
"""Public numbers that only lines show, by the id of the rule.  Others are in the rows of the rules."""

NO_NUMBER = "SWPK0000"
"""The number of every rule that no line is expected to break."""

# The number follows from the place in the group. So a row is only appended, and never moved or removed:
# scripts of operators compare the numbers.
_GROUPS: Mapping[int, tuple[str, ...]] = {
    100: (
        "line.command",
        "line.option",
        "line.needed",
        "line.choice",
        "line.record",
        "line.attribute",
        "line.value",
        "line.later",
        "line.system-on",
        "line.job",
        "line.size",
    ),
    200: (
        "hmc.system-known",
        "hmc.system-named",
        "hmc.file",
        "console.served",
        "console.answer",
        "console.timeout",
        "system.operating",
        "recovery.state",
        "recovery.complete",
        "system.name-form",
        "hmc.system-own-name",
        "hmc.system-place",
        "hmc.store-file",
        "hmc.store-level",
        "hmc.store-owner",
        "hmc.store-written",
        "hmc.job-known",
        "hmc.job-alone",
        "hmc.recovery-empty",
        "hmc.recovery-copies",
        "hmc.profile-file",
        "hmc.profile-level",
        "hmc.profile-name",
        "hmc.profile-state",
        "hmc.profile-idle",
        "hmc.profile-forced",
        "console.attached",
        "console.known",
        "console.copy",
        "console.stored",
        "events.streams",
        "console.layout",
        "console.place",
        "hmc.wire",
        "hmc.operation",
        "hmc.store-folder",
        "hmc.target",
        "hmc.links",
        "hmc.stopped",
        "system.identity",
        "hmc.where",
        "hmc.system-name-new",
        "hmc.watchers",
        "hmc.page-place",
        "hmc.page-loopback",
        "hmc.page-packages",
        "hmc.page-host",
    ),
    300: (
        "name.form",
        "name.new",
        "name.unreadable",
        "name.path",
        "partition.id",
        "size.range",
        "size.total",
        "size.shrinks",
        "size.running",
        "attribute.known",
        "attribute.form",
        "attribute.range",
        "attribute.running",
        "attribute.keystore",
        "attribute.needs",
        "power.counted",
        "power.opened",
        "power.stored",
        "partition.number",
        "partition.off",
        "partition.empty",
        "partition.stored",
        "attribute.idle",
    ),
    400: (
        "trusted-key.file",
        "trusted-key.layout",
        "trusted-key.sealed",
        "trusted-key.set",
        "trusted-key.operation",
        "trusted-key.old",
        "trusted-key.idle",
        "copy.header",
        "copy.level",
        "copy.length",
        "copy.key",
        "copy.authentic",
        "copy.contents",
        "copy.counters",
        "backup.file",
        "copy.idle",
        "backup.stored",
        "copy.behind",
    ),
    500: (
        "request.form",
        "request.path",
        "request.method",
        "request.time",
        "request.size",
        "request.json",
        "request.answered",
    ),
    600: (
        "nvram.commit",
        "access-key.stored",
        "flush.finished",
        "scarce.descriptors",
        "scarce.memory",
        "scarce.threads",
        "scarce.entropy",
        "scarce.space",
    ),
    700: (
        "custody.owned",
        "custody.confirmed",
        "custody.idle",
        "custody.epoch",
        "custody.stored",
        "custody.uuid",
        "arrival.level",
        "arrival.size",
        "arrival.objects",
        "arrival.password",
        "arrival.calls",
        "arrival.name",
        "arrival.format",
        "arrival.custody",
        "mobility.listens",
        "mobility.reached",
        "mobility.proven",
        "mobility.form",
        "mobility.size",
        "mobility.time",
        "migration.systems",
        "migration.power",
        "migration.running",
        "migration.decided",
        "migration.force",
        "migration.failed",
        "restart.capable",
        "restart.source",
        "restart.copy",
        "restart.key",
        "restart.target",
        "restart.cleanup",
        "custody.barred",
    ),
}
"""Rules by the first number of their group.  A new rule goes to the end of its group."""

OWN: Mapping[str, str] = MappingProxyType(
    {
        rule: f"SWPK{number:04}"
        for first, rules in _GROUPS.items()
        for number, rule in enumerate(rules, start=first + 1)
    }
)
"""Our numbers by the id of the rule."""


def message_number(rule: Rule) -> str:
    """Return the message number of a rule."""
    # The real console's number comes first. A script that was written for that console finds the same number
    # here.
    return rule.code or PUBLIC.get(rule.id) or OWN.get(rule.id, NO_NUMBER)


def message(error: SwpksError) -> str:
    """Return a refusal as a line prints it: the number, the finding, and the remedy."""
    text = error.message if error.advised else with_remedy(error.message, error.rule.id)
    return f"{message_number(error.rule)} {text}"
