"""Wrong marks: the error names the option that the test's author wrote, not a field of the server."""

import math
import re
from types import SimpleNamespace
from typing import Any

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.mistakes import WrongType, WrongValue
from swpks.testing import ServerProcess, WrongOption, blocking_partition, emulated_console, pytest_plugin
from swpks.testing.console_process import ConsoleProcess
from swpks.testing.option_trials import reason_against

MARKS: list[tuple[str, dict[str, Any], str]] = [
    ("pks_partition", {"flush_delay": 61}, "flush_delay=61: it is 0 to 60 seconds [operator fault; "),
    ("pks_partition", {"flush_delay": -1}, "flush_delay=-1: it is 0 to 60 seconds"),
    ("pks_partition", {"flush_delay": math.nan}, "flush_delay=nan: it is 0 to 60 seconds"),
    ("pks_partition", {"confirm_wait": 2}, "confirm_wait=2: it is 0 to 1 second"),
    ("pks_partition", {"kbytes": 3}, "kbytes=3: 3 KiB is no size for a keystore: 0, or 4 to 128 KiB"),
    (
        "pks_partition",
        {"kbytes": -1},
        "kbytes=-1: it is 0, or 4 to 64 or 128 as the firmware level allows, not -1",
    ),
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
        "partitions=['lpar1:x']: partition 'lpar1:x': KBYTES is 0, or 4 to 64 or 128 as the firmware "
        "level allows, not 'x'; write NAME:KBYTES",
    ),
    (
        "swpks_server",
        {"options": ["--firmware FW950"]},
        "options=['--firmware FW950']: '--firmware FW950' is several words: write ['--firmware', 'FW950']",
    ),
    (
        "swpks_server",
        {"snapshot": 5},
        "snapshot=5: it is the path of a file, such as snapshot=Path(__file__)",
    ),
    ("swpks_server", {"snapshot": "none.portable"}, "snapshot='none.portable': there is no such file in /"),
    ("swpks_server", {"snapshot": __file__}, f"snapshot={__file__!r}: its passphrase is text: write pass"),
    ("swpks_server", {"passphrase": "a secret of a test"}, "passphrase is given without its snapshot: write"),
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


POSITIONAL: list[tuple[str, Any, str]] = [
    ("pks_partition", "FW950", "level='FW950'"),
    ("pks_partition", "enforce", "secure_boot='enforce'"),
    ("pks_partition", 64, "kbytes=64"),
    ("pks_partition", ["READ_OBJECT=H_BUSY"], "faults=['READ_OBJECT=H_BUSY']"),
    ("pks_partition", "lpar2", "name='lpar2'"),
    ("pks_partition", None, "NAME=None"),
    ("pks_console", {"a": []}, "partitions={'a': []}"),
    ("pks_console", "FW950", "level='FW950'"),
    ("swpks_server", ["a:4"], "partitions=['a:4']"),
]


@pytest.mark.parametrize("mark,value,right", POSITIONAL)
def test_an_option_without_a_name(mark: str, value: Any, right: str) -> None:
    assert f"has no name: write {right}; the names are" in str(reason_against(mark, (value,), {}))


def test_a_fault_that_the_level_never_answers() -> None:
    options = {"level": "FW950", "faults": ["SIGNED_UPDATE=H_BUSY"]}
    message = r"faults=.*: the firmware level FW950 lacks SIGNED_UPDATE.*: write level='FW\d+'$"
    assert re.match(message, str(reason_against("pks_partition", (), options)))


@pytest.mark.parametrize("options", [["--state", "x"], ["--state=x"], ["--ready-fd", "5"]])
def test_options_that_the_process_sets(options: list[str], tmp_path) -> None:
    message = rf"options=.*: {options[0].partition('=')[0]} is set by the process object: .* the member `"
    assert re.match(message, str(reason_against("swpks_server", (), {"options": options})))
    with pytest.raises(WrongOption, match="--store is set by the process object"):
        ConsoleProcess(tmp_path / "store", options=["--store", "x"])


async def test_other_wrong_calls(tmp_path) -> None:
    wrong: Any = emulated_console
    with pytest.raises(WrongType, match=r"emulated_console .*'faults'\); their names are partitions, level"):
        wrong(faults=[])
    with pytest.raises(WrongValue, match=r"/none/dir does not exist: make it first, such as by PATH.mkdir\("):
        ServerProcess(tmp_path / "none" / "dir" / "state").start()


def test_a_mark_of_another_runner() -> None:
    """The remedy is not empty if the configuration is right."""
    for mark, remedy in (("anyio", "remove the mark anyio"), ("other", "run it by pytest-trio")):
        node = SimpleNamespace(get_closest_marker=lambda name, mark=mark: name == mark or None)
        assert pytest_plugin._other_runner(SimpleNamespace(node=node)).startswith(remedy)  # type: ignore[arg-type]
