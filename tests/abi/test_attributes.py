"""Attributes as texts: the number of each valid text, and the rule that an invalid text breaks."""

import re

import pytest

from hcall_abi.attributes import attribute_number, parse_attributes
from hcall_abi.console import ATTRIBUTES
from hcall_abi.errors import OperatorError
from hcall_abi.rules import console as rules
from hcall_abi.rules.rule import Rule

WRONG = [
    (["secure_boot"], rules.ATTRIBUTE_FORM, "^'secure_boot' has no value$"),
    (["secure_boot=1", "secure_boot=2"], rules.ATTRIBUTE_FORM, "^secure_boot is given twice$"),
    (["colour=1"], rules.ATTRIBUTE_KNOWN, "^no attribute 'colour'; the attributes are keystore_kbytes, "),
    (["=1"], rules.ATTRIBUTE_KNOWN, "^no attribute ''"),
    (["secure_boot=3"], rules.ATTRIBUTE_RANGE, "^secure_boot "),
    (["secure_boot=1", "keystore_kbytes=many"], rules.ATTRIBUTE_RANGE, "^keystore_kbytes "),
]


@pytest.mark.parametrize("texts,rule,message", WRONG, ids=[" ".join(texts) for texts, _, _ in WRONG])
def test_a_wrong_text_names_its_rule(texts: list[str], rule: Rule, message: str) -> None:
    """R-36: the error has the rule for what is wrong: the form, the name or the value."""
    with pytest.raises(OperatorError) as caught:
        parse_attributes(texts)
    assert caught.value.rule is rule
    assert re.search(message, caught.value.message)


def test_good_texts_are_numbers_by_name() -> None:
    """R-36: a value may be a word or a number. A second equals sign belongs to the value."""
    assert parse_attributes([]) == {}
    assert parse_attributes(["keystore_kbytes=64", "secure_boot=enforce"]) == {
        "keystore_kbytes": 64,
        "secure_boot": attribute_number("secure_boot", "enforce"),
    }
    with pytest.raises(OperatorError):
        parse_attributes(["keystore_kbytes=6=4"])
    assert [attribute_number(name, row.numbers[0]) for name, row in ATTRIBUTES.items()] == [
        row.numbers[0] for row in ATTRIBUTES.values()
    ]
