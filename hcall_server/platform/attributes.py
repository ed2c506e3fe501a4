"""The console's attributes of a partition, and the rules about changing them (R-36).

`ConsoleAttributes` has them all under the real console's names and numbers; `Attributes` are those
about signed updates, as the rest of the code asks for them.  The rules are rows of `RULES`: each says
when it is broken and what the console answers then.  Nothing here changes a partition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hcall_abi.calls import Opcode
from hcall_abi.console import ATTRIBUTES, IN_USE_CODE
from hcall_abi.levels import FirmwareLevel
from hcall_server.platform.refusal import ConsoleRefusal

SECTION = "spec/control.md#attributes"


class Attributes(NamedTuple):
    """What the console has set about signed updates; all off for a new partition.

    `signed_updates`: SIGNED_UPDATE is answered.  `without_verification`: a PK is taken without a
    signature check, once (`Partition.disarm_without_verification`).  `dynamic_keys`: guest secure
    boot takes its keys from the keystore, which SB_VERSION tells the guest.
    """

    signed_updates: bool = False
    without_verification: bool = False
    dynamic_keys: bool = False


class ConsoleAttributes(NamedTuple):
    """Every attribute by the console's name, in the console's numbers: KiB, 0 or 1, and 0 to 2."""

    keystore_kbytes: int
    keystore_signed_updates: int
    keystore_signed_updates_without_verification: int
    linux_dynamic_key_secure_boot: int
    secure_boot: int

    @property
    def signed(self) -> Attributes:
        """Those about signed updates."""
        return Attributes(*map(bool, self[1:4]))


class Change(NamedTuple):
    """A change that is asked for, and what of the partition it depends on.

    `signed_objects` is how many objects in the keystore may be changed by SIGNED_UPDATE only.
    """

    level: FirmwareLevel
    running: bool
    signed_objects: int
    before: ConsoleAttributes
    after: ConsoleAttributes


class Rule(NamedTuple):
    """One rule: when a change breaks it, and the refusal's message, rule and number."""

    broken: Callable[[Change], bool]
    message: str
    rule: str
    code: str | None = None


def _zeroed(change: Change) -> bool:
    """Whether an attribute is switched off that signed objects depend on."""
    before, after = change.before.signed, change.after.signed
    return (before.signed_updates and not after.signed_updates) or (
        before.dynamic_keys and not after.dynamic_keys
    )


RULES: tuple[Rule, ...] = (
    Rule(
        # Disabling is allowed to a running partition, and takes these attributes with it.
        lambda it: it.running and bool(it.after.keystore_kbytes) and it.before.signed != it.after.signed,
        "the partition is running",
        "attributes of signed updates change while the partition is powered off",
    ),
    Rule(
        lambda it: it.after.signed.signed_updates and Opcode.SIGNED_UPDATE not in it.level.calls,
        "the firmware has no signed updates",
        "keystore_signed_updates needs a firmware level with SIGNED_UPDATE",
    ),
    Rule(
        lambda it: any(it.after.signed) and not it.after.keystore_kbytes,
        "the partition has no keystore",
        "attributes of signed updates need a keystore_kbytes above 0",
    ),
    Rule(
        lambda it: it.after.signed.without_verification and not it.after.signed.signed_updates,
        "signed updates are off",
        "keystore_signed_updates_without_verification needs keystore_signed_updates",
    ),
    Rule(
        lambda it: it.after.signed.dynamic_keys and not it.after.signed.signed_updates,
        "signed updates are off",
        "linux_dynamic_key_secure_boot needs keystore_signed_updates",
    ),
    Rule(
        lambda it: bool(it.signed_objects) and _zeroed(it),
        "the keystore is in use: it holds objects of signed updates",
        "signed updates and dynamic keys are switched off while no object of signed updates exists",
        IN_USE_CODE,
    ),
)
"""In the order in which they are asked; the first that is broken decides."""


def wished(before: ConsoleAttributes, changes: Mapping[str, int]) -> ConsoleAttributes:
    """Return the attributes that `changes` lead to; ConsoleRefusal for an unknown name or value.

    Switching the keystore off takes the attributes of signed updates with it, unless they are named.
    """
    for name, value in changes.items():
        if name not in ATTRIBUTES:
            rule = f"the attributes are {', '.join(ATTRIBUTES)}"
            raise ConsoleRefusal(f"no attribute {name!r}", rule=rule, section=SECTION)
        if value not in ATTRIBUTES[name]:
            rule = f"{name} is 0 to {ATTRIBUTES[name][-1]}"
            raise ConsoleRefusal(f"{name} cannot be {value}", rule=rule, section=SECTION)
    after = before._replace(**changes)
    if before.keystore_kbytes and not after.keystore_kbytes:
        after = ConsoleAttributes(0, 0, 0, 0, before.secure_boot)._replace(**changes)
    return after


def check(change: Change) -> None:
    """Hold a change against the rules; ConsoleRefusal for the first that is broken."""
    for broken, message, rule, code in RULES:
        if broken(change):
            raise ConsoleRefusal(message, rule=rule, section=SECTION, code=code)


def effective_level(level: FirmwareLevel, attributes: Attributes) -> FirmwareLevel:
    """Return what a partition sees of its system's level: with signed updates off, nothing of them."""
    if attributes.signed_updates:
        return level
    calls = level.calls - {Opcode.SIGNED_UPDATE}
    return dataclasses.replace(level, calls=calls, signed_update_algorithms=0)
