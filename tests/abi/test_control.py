"""The console's contract: the variables in paths, and the limits of numbers and names in bodies."""

import re
from typing import Any

import msgspec
import pytest

from hcall_abi.bounds import LONGEST_NAME, MAX_COUNT
from hcall_abi.control import PARAMETERS, VERBS
from hcall_abi.control_bodies import LARGEST_NUMBER, Count, Counter, Kbytes, Name

BOUNDS = [
    # a type, its least and its largest value, and values that it refuses
    (Kbytes, 0, 65535, [-1, 65536, "4"]),
    (Count, 1, MAX_COUNT, [0, -1, None, MAX_COUNT + 1, 1.5]),
    (Counter, 0, LARGEST_NUMBER, [-1, None, LARGEST_NUMBER + 1]),
    (Name, "a", "a" * LONGEST_NAME, ["", "a" * (LONGEST_NAME + 1), 1]),
]


@pytest.mark.parametrize("kind,least,most,wrong", BOUNDS, ids=["Kbytes", "Count", "Counter", "Name"])
def test_a_value_beyond_its_bounds_is_malformed(kind: Any, least: Any, most: Any, wrong: list[Any]) -> None:
    """R-36: a value beyond a limit is malformed, and so is a text in place of a number."""
    assert [msgspec.convert(value, kind) for value in (least, most)] == [least, most]
    for value in wrong:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(value, kind)


def test_every_part_of_a_path_is_described() -> None:
    """Each variable in a path has a description, and each description belongs to a variable."""
    assert {name for verb in VERBS for name in re.findall(r"\{(\w+)\}", verb.path)} == PARAMETERS.keys()
    for parameter in PARAMETERS.values():
        assert parameter.description
        assert parameter.schema == {"type": "string", "minLength": 1}
