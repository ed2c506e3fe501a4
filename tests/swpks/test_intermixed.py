"""Options may stand between the operands of a verb."""

import pytest

from swpks.cli.main import _parsed
from swpks.cli.parser import WrongWords


@pytest.mark.parametrize(
    "words",
    [
        "hmc create web 16 secure_boot=audit -m sys2",
        "hmc create web -m sys2 16 secure_boot=audit",
        "hmc create web 16 -m sys2 secure_boot=audit",
        "hmc create -m=sys2 web 16 -- secure_boot=audit",
    ],
)
def test_each_order_is_the_same_command(words: str) -> None:
    """argparse alone would leave 16 over."""
    parsed = _parsed(words.split())
    operands = [each for each in parsed.operands if each != "--"]
    assert (parsed.name, operands, parsed.system.lstrip("=")) == ("web", ["16", "secure_boot=audit"], "sys2")


def test_words_in_doubt_stay() -> None:
    """An unknown option is named, a value that is missing too, and words behind -- are operands."""
    with pytest.raises(WrongWords, match=r"unrecognized arguments: .*--nosuch"):
        _parsed(["hmc", "create", "web", "--nosuch", "16"])
    with pytest.raises(WrongWords, match="argument -m: expected one argument"):
        _parsed(["hmc", "create", "web", "16", "-m"])
    assert _parsed(["lpar", "lpar1", "write", "--", "--label"]).label == b"--label"
