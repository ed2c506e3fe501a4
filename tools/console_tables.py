"""The console's attributes and the power of partitions as tables, drawn from their rows."""

from collections.abc import Iterator

from hcall_abi.calls import Opcode
from hcall_abi.console import ATTRIBUTES, SWITCH, AttributeRow
from hcall_abi.levels import LEVELS
from hcall_server.platform.power import TABLE, Objection, Power

Lines = Iterator[tuple[object, ...]]

ATTRIBUTE_HEAD = "attribute | values | at first | needs | since | in the partition record | what it does"


def attributes() -> Lines:
    """The console's attributes."""
    for name, row in ATTRIBUTES.items():
        yield (
            f"`{name}`",
            row.legend or (", ".join(map(str, row.numbers)) if row.numbers == SWITCH else row.span),
            row.shown(row.default),
            row.needs.name if isinstance(row.needs, Opcode) else f"`{row.needs}`" if row.needs else "-",
            next(n for n, level in LEVELS.items() if _call_of(row) in {None, *level.calls}),
            f"`{row.sealed}`" if isinstance(row.sealed, str) else f"bit {row.sealed}",
            row.description,
        )


def _call_of(row: AttributeRow) -> Opcode | None:
    """The h-call that an attribute needs, also by another attribute."""
    return _call_of(ATTRIBUTES[row.needs]) if isinstance(row.needs, str) else row.needs


def powers() -> Lines:
    """The effect of each power verb in each state."""
    for (power, event), found in TABLE.items():
        becomes = f"refused: `{found.rule.id}`" if isinstance(found, Objection) else found.value
        ipl = ", by an IPL" if found is Power.RUNNING else ""
        yield power.value, event.value, becomes + ipl
