"""The options of the console's commands: any order, each once, with their values."""

from __future__ import annotations

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_abi.rules.rule import Rule
from hcall_server.console.options import Option, Syntax, switch

SYNTAX = Syntax(
    "try",
    (
        Option("-r", choices=("lpar", "sys"), required=True),
        Option("-m", "SYSTEM"),
        Option("-F", "NAMES", takes="words"),
        Option("-n", "NAME"),
        Option("--id", "ID"),
        switch("--immed"),
    ),
    one_of=(("-n", "--id"),),
    ignored={"--vdisks": "nothing", "-b": "value"},
)


@pytest.mark.parametrize(
    "line",
    [
        "-r lpar -m S -n L -F name state --immed",
        "--immed -F name state -n L -m S -r lpar",
        "-b norm -F name state --vdisks -n L -m S -r lpar --immed",
    ],
)
def test_options_stand_in_any_order(line: str) -> None:
    """Options stand in any order; the words of -F end at the next option."""
    options = SYNTAX.parse(line.split())
    assert (options.needed("-r"), options.value("-m"), options.value("-n")) == ("lpar", "S", "L")
    assert options.words("-F") == ("name", "state")
    assert "--immed" in options
    assert options.value("--id") is None
    assert options.words("--id") == ()


def test_an_option_of_words_may_have_none() -> None:
    """`-F` without words means all attributes."""
    options = SYNTAX.parse(["-r", "lpar", "-n", "L", "-F"])
    assert "-F" in options
    assert options.words("-F") == ()


@pytest.mark.parametrize(
    "line,rule,output",
    [
        ("-n L", rules.LINE_NEEDED, "the option -r is missing"),
        ("-r lpar", rules.LINE_NEEDED, "one of them is missing"),
        ("-r lpar -n L --id 3", rules.LINE_NEEDED, "-n and --id exclude each other"),
        ("-r lpar -n L -z", rules.LINE_OPTION, "'-z' is not one of its options"),
        ("-r lpar -n L word", rules.LINE_OPTION, "'word' is not one of its options"),
        ("-r lpar -n L -F x -z", rules.LINE_OPTION, "'-z' is not one of its options"),
        ("-r lpar -n L -n L", rules.LINE_OPTION, "given twice"),
        ("-r lpar -n", rules.LINE_OPTION, "-n needs a value"),
        ("-r lpar -n --immed", rules.LINE_OPTION, "-n needs a value"),
        (
            "-r lpar -n L --imed",
            rules.LINE_OPTION,
            "'--imed' is not one of its options (did you mean --immed?)",
        ),
        ("-r lpr -n L", rules.LINE_CHOICE, "-r takes lpar, sys, not 'lpr' (did you mean lpar?)"),
        ("-r prof -n L", rules.LINE_CHOICE, "-r takes lpar, sys, not 'prof'"),
    ],
)
def test_a_wrong_line_is_refused(line: str, rule: Rule, output: str) -> None:
    """The refusal of a wrong line names the mistake, and shows the usage."""
    with pytest.raises(OperatorError) as caught:
        SYNTAX.parse(line.split())
    assert caught.value.rule is rule
    assert caught.value.message.startswith("try: ")
    assert output in caught.value.message
    usage = "\nUsage: try -r {lpar | sys} [-m SYSTEM] [-F NAMES] [-n NAME] [--id ID] [--immed]"
    assert caught.value.message.endswith(usage)
