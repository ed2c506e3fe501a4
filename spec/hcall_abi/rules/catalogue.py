"""All rules by chapter and by id: for pages, for clients that show a rule by its id, and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from hcall_abi.rules import (
    backup,
    cluster,
    console,
    door,
    hcalls,
    hmc,
    migration,
    protocol,
    service,
    snapshot,
    storage,
    updates,
)
from hcall_abi.rules.rule import Rule


def rows_of(chapter: ModuleType) -> tuple[Rule, ...]:
    """Return the rules of a module of this package, in the order of the module."""
    # The rules are in the order of the module, because `vars` keeps it. So no list has to name a new rule.
    return tuple(row for row in vars(chapter).values() if isinstance(row, Rule))


# All chapters are loaded here, so a client imports this module only when it shows a refusal.
CHAPTERS = (
    *(protocol, hcalls, updates, console, storage, backup, snapshot),
    *(service, cluster, hmc, door, migration),
)
"""The modules of rules, in the order of spec/rules.md."""

RULES: Mapping[str, Rule] = MappingProxyType(
    {rule.id: rule for chapter in CHAPTERS for rule in rows_of(chapter)}
)
"""Every rule by its id."""
