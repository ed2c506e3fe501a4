"""The rules of spec/rules.md and of signed updates as tables, generated from `hcall_abi.rules`."""

from collections.abc import Iterator

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import OpenStatus
from hcall_abi.rules import updates
from hcall_abi.rules.catalogue import CHAPTERS, rows_of
from hcall_abi.rules.rule import Positional, Rule
from hcall_abi.statuses import Status

_UPDATE = CALLS[Opcode.SIGNED_UPDATE]
_CHAPTERS = {each.__name__.rpartition(".")[2]: each for each in CHAPTERS}

Lines = Iterator[tuple[object, ...]]


def of_updates() -> Lines:
    """Yield the rules of a signed update, each with its status."""
    for rule in rows_of(updates):
        status = _UPDATE.arg(rule.argument).status.name if rule.argument else _broken(rule)
        yield status, f"`{rule.id}`", rule.sentence


def of_chapter(chapter: str) -> Lines:
    """Yield the rules of one chapter: id, sentence, answer, page."""
    for rule in rows_of(_CHAPTERS[chapter]):
        target = rule.page.removeprefix("spec/")
        yield f"`{rule.id}`", rule.sentence, _broken(rule), f"[{target.partition('#')[2]}]({target})"


def _broken(rule: Rule) -> str:
    match rule.answer:
        case Status():
            return rule.answer.name
        case OpenStatus():
            return f"OPENED {rule.answer.value}"
        case Positional():
            return "positional"
        case _:
            return f"{rule.fault.value} fault"
