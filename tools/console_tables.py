"""Tables of the console's attributes, power, messages and lines, generated from their rows."""

from collections.abc import Iterable, Iterator

from hcall_abi.calls import Opcode
from hcall_abi.console import ATTRIBUTES, SWITCH, AttributeRow
from hcall_abi.levels import KEYSTORE_LEVELS, LEVELS
from hcall_abi.messages import NO_NUMBER, message_number
from hcall_abi.remedies import REMEDIES
from hcall_abi.rules.catalogue import RULES
from hcall_server.console.lines import changes, ignored, keys, lists, moves, preludes
from hcall_server.console.lines.run import COMMANDS
from hcall_server.platform.power import TABLE, Objection, Power, PowerEvent

Lines = Iterator[tuple[object, ...]]

ATTRIBUTE_HEAD = "attribute | values | at first | needs | since | in the partition record | effect"


def attributes() -> Lines:
    """Yield the rows of the console's attributes."""
    for name, row in ATTRIBUTES.items():
        yield (
            f"`{name}`",
            row.legend or (", ".join(map(str, row.numbers)) if row.numbers == SWITCH else row.span),
            row.shown(row.default),
            row.needs.name if isinstance(row.needs, Opcode) else f"`{row.needs}`" if row.needs else "-",
            _since(name, row),
            f"`{row.sealed}`" if isinstance(row.sealed, str) else f"bit {row.sealed}",
            row.description,
        )


def _since(name: str, row: AttributeRow) -> str:
    """Return the first firmware level that has an attribute."""
    levels = KEYSTORE_LEVELS if name.startswith("keystore") else LEVELS
    # The first level with the h-call that the attribute needs also has the attribute.
    return next(n for n, level in levels.items() if _call_of(row) in {None, *level.calls})


def _call_of(row: AttributeRow) -> Opcode | None:
    """Return the h-call that an attribute needs, None if it needs none.

    If an attribute needs another attribute, it needs that one's h-call.
    """
    return _call_of(ATTRIBUTES[row.needs]) if isinstance(row.needs, str) else row.needs


def powers() -> Lines:
    """Yield the effect of each power event in each power state."""
    for (power, event), found in TABLE.items():
        becomes = f"refused: `{found.rule.id}`" if isinstance(found, Objection) else found.value
        way = ", without an IPL" if event is PowerEvent.ARRIVE else ", by an IPL"
        yield power.value, event.value, becomes + (way if found is Power.RUNNING else "")


MESSAGE_HEAD = "number | rule | sentence | remedy"


def messages() -> Lines:
    """Yield the message numbers of the console's refusals, the public numbers first."""
    numbers = {rule: message_number(row) for rule, row in RULES.items()}
    for rule, number in sorted(numbers.items(), key=lambda item: item[1]):
        if number != NO_NUMBER:
            yield number, f"`{rule}`", RULES[rule].sentence, REMEDIES.get(rule, "-")


LINE_HEAD = "command | options | accepted, and without effect"


def line_commands() -> Lines:
    """Yield the console's commands, with their options."""
    for name, command in COMMANDS.items():
        options = " ".join(option.usage for option in command.syntax.options)
        ignored = [f"{flag} {_TAKEN[takes]}".rstrip() for flag, takes in command.syntax.ignored.items()]
        yield f"`{name}`", _code(options), _code(", ".join(ignored))


LINE_LIST_HEAD = "list | attributes, in this order"


def line_lists() -> Lines:
    """Yield the attributes that each listing command can print."""
    listed = {
        "lssyscfg -r lpar": lists.PARTITIONS,
        "lssyscfg -r prof": lists.PROFILES,
        "lssyscfg -r sys": lists.SYSTEMS,
        "lstskey": keys.ATTRIBUTES,
        **preludes.LISTS,
        "lslparmigr -r lpar": moves.PARTITIONS,
        "lslparmigr -r sys": moves.SYSTEMS,
        "lslparmigr -r manager": moves.MANAGERS,
    }
    for title, getters in listed.items():
        yield f"`{title}`", _names(getters)


LINE_RECORD_HEAD = "record of | attributes with an effect | accepted, and without effect"
_TAKEN = {"nothing": "", "value": "VALUE", "number": "N"}
_IGNORED = {"partitions": ignored.OF_PARTITIONS, "profiles": ignored.OF_PROFILES}


def line_records() -> Lines:
    """Yield the attributes that the operator can give in each kind of record."""
    for title, words in changes.VOCABULARIES.items():
        groups = [
            name
            for name, of in _IGNORED.items()
            if of - set(words.texts) - {"new_name"} <= set(words.ignored)
        ]
        needed = f"those of {' and of '.join(groups)}" if groups else "-"
        yield f"`{title}`", _names([*words.texts, *words.numbers]), needed


LINE_IGNORED_HEAD = "attributes of | names"


def line_ignored() -> Lines:
    """Yield the attributes that a record may have, but that have no effect."""
    for name, of in _IGNORED.items():
        yield name, _names(sorted(of))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _code(text: str) -> str:
    """Return text as code for a cell of a table, "-" for no text."""
    return f"`{text}`".replace("|", "\\|") if text else "-"
