"""Rules of the console's lines. A line breaks each rule, and its output has the rule's message number."""

from __future__ import annotations

from pathlib import Path

from hcall_abi.messages import message_number
from hcall_abi.rules.catalogue import RULES
from hcall_abi.rules.rule import Rule
from tests.console.stand import standing
from tests.rules.breaking import Break, Breaks, run

_PARTITION = "mksyscfg -r lpar -i name=lpar1"


def _line(line: str, *before: str) -> Break:
    """Return a function that breaks a rule: the lines in `before` succeed, then `line` is refused."""

    async def refused() -> Rule:
        async with standing("S") as stand:
            for each in before:
                await stand.done(each)
            output = (await stand.refused(line)).splitlines()
        number = next(each.split(" ")[0] for each in output if each.startswith(("HSCL", "SWPK")))
        (rule,) = (row for row in RULES.values() if message_number(row) == number)
        return rule

    def broken(_: Path) -> Rule:
        return run(refused)

    return broken


BREAKS: Breaks = {
    "line.command": _line("lsnothing"),
    "line.option": _line("lssyscfg -r lpar -z"),
    "line.needed": _line("lssyscfg -m S"),
    "line.choice": _line("lssyscfg -r nothing"),
    "line.record": _line("chsyscfg -r lpar -i name"),
    "line.size": _line(f"lssyscfg -r lpar -F {','.join(['name'] * 257)}"),
    "line.attribute": _line("chsyscfg -r lpar -i name=lpar1,uuid=0", _PARTITION),
    "line.value": _line("chsyscfg -r lpar -i name=lpar1,auto_start=2", _PARTITION),
    "line.later": _line("mkvterm -m S -p lpar1", _PARTITION),
    "line.rmc": _line("chsysstate -r lpar -n lpar1 -o osshutdown", _PARTITION),
    "line.system-on": _line("chsysstate -r sys -m S -o on"),
    "line.job": _line("chsysstate -r sys -m S -o recover", _PARTITION),
}
