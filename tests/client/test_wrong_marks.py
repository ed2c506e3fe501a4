"""Wrong marks: the error names the option that the test's author wrote, not a field of the server."""

import math
from typing import Any

import pytest

from hcall_abi.errors import OperatorError
from swpks.testing import WrongOption, blocking_partition, emulated_console
from swpks.testing.option_trials import reason_against

MARKS: list[tuple[str, dict[str, Any], str]] = [
    ("pks_partition", {"flush_delay": 61}, "flush_delay=61: it is 0 to 60 seconds [operator fault; "),
    ("pks_partition", {"flush_delay": -1}, "flush_delay=-1: it is 0 to 60 seconds"),
    ("pks_partition", {"flush_delay": math.nan}, "flush_delay=nan: it is 0 to 60 seconds"),
    ("pks_partition", {"confirm_wait": 2}, "confirm_wait=2: it is 0 to 1 second"),
    ("pks_partition", {"kbytes": 3}, "kbytes=3: 3 KiB is no size for a keystore: 0, or 4 to 128 KiB"),
    ("pks_partition", {"kbytes": -1}, "kbytes=-1: it is 0 to 65535, not -1"),
    ("pks_partition", {"name": "a/b"}, "name='a/b': 'a/b' is no name for a partition"),
    ("pks_partition", {"attributes": {5: 1}}, "attributes={5: 1}: the name of an attribute is text, not 5"),
    (
        "pks_partition",
        {"name": "FW950", "level": "lpar1"},
        "level='lpar1': the levels are FW940, FW950, FW1010, FW1030, FW1050, FW1060, FW1110, NEXT; "
        "name='FW950' is a level: write level='FW950'",
    ),
    (
        "pks_partition",
        {"level": 64, "kbytes": "FW950"},
        "level=64: it is the name of a firmware level; kbytes='FW950' is a level: write level='FW950'",
    ),
    ("pks_partition", {"level": "enforce", "secure_boot": "FW950"}, "level='enforce': the levels are"),
    ("pks_console", {"copy_interval": 0}, "copy_interval=0: it is 0.01 to 86400 seconds"),
    ("pks_console", {"kbytes": 3}, "kbytes=3: 3 KiB is no size"),
    (
        "swpks_server",
        {"partitions": ["64:lpar1"]},
        "partitions=['64:lpar1']: '64:lpar1' is KBYTES:NAME; write 'lpar1:64'",
    ),
    (
        "swpks_server",
        {"partitions": ["--firmware"], "options": ["lpar1:64"]},
        "partitions=['--firmware']: '--firmware' is an option: write options=['--firmware']",
    ),
    (
        "swpks_server",
        {"partitions": ["lpar1:x"]},
        "partitions=['lpar1:x']: partition 'lpar1:x': KBYTES is 0 to 65535, not 'x'; write NAME:KBYTES",
    ),
    (
        "swpks_server",
        {"options": ["--firmware FW950"]},
        "options=['--firmware FW950']: '--firmware FW950' is several words: write ['--firmware', 'FW950']",
    ),
]
FIELDS = ("_ms", "_interval_s", "keystore_kbytes")


@pytest.mark.parametrize("mark,options,message", MARKS, ids=[f"{row[0]}-{[*row[1]]}" for row in MARKS])
async def test_a_wrong_mark(mark: str, options: dict[str, Any], message: str) -> None:
    """The mark and the function without pytest name the same option."""
    reason = reason_against(mark, (), options)
    assert reason is not None
    assert reason.startswith(message)
    assert not any(field in reason for field in FIELDS)
    with pytest.raises((WrongOption, OperatorError)) as caught:  # noqa: PT012
        if mark == "pks_console":
            await emulated_console(**options).__aenter__()
        elif mark == "pks_partition":
            blocking_partition(**options).__enter__()
        else:
            raise WrongOption(reason)  # the server process itself refuses these words at its start
    assert str(caught.value).startswith(message)


def test_right_marks() -> None:
    """Values at the ends of their ranges are taken."""
    assert (
        reason_against("pks_partition", (), {"flush_delay": 60, "confirm_wait": 1, "name": "FW950"}) is None
    )
    assert reason_against("pks_console", (), {"copy_interval": 0.01}) is None
    right = {"partitions": ["1:64", "lpar1", "two:8,secure_boot=audit"], "options": ["--name=my system"]}
    assert reason_against("swpks_server", (), right) is None
