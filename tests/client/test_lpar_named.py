"""`swpks lpar NAME` with the socket or the access key of another partition: no h-call is sent."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_abi.control_views import SystemView
from swpks.cli import lpar_named
from swpks.cli.lpar_named import check_partition
from swpks.cli.lpar_values import UsageError
from tests.client.test_lpar_command import serving
from tests.console.facts import partition, system

BOTH = system(partition("a"), partition("b"))
"""A system whose control channel knows a by the id 1 and b by the id 2."""


@pytest.fixture
async def command(tmp_path, capsysbinary, monkeypatch):
    """A command against the partition lpar1, which has the id 1."""
    async with serving(tmp_path, capsysbinary, monkeypatch) as found:
        yield found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """The folder `run` of a state, with the sockets control.sock and a.sock."""
    folder = tmp_path / "s" / "run"
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as control, socket.socket(socket.AF_UNIX) as data:
        control.bind(str(folder / "control.sock"))
        data.bind(str(folder / "a.sock"))
        yield folder


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[SystemView | None]:
    """The answers of the control channel; the last one counts, and None means no answer."""
    views: list[SystemView | None] = [BOTH]
    monkeypatch.setattr(lpar_named, "system_at", lambda *_: views[-1])
    return views


def options(name: str, **given: Path) -> argparse.Namespace:
    """Return the options of a command."""
    return argparse.Namespace(
        **{"name": name, "socket": None, "state": None, "access_key_file": None, "timeout": 1.0, **given}
    )


def told(name: str, number: int, **given: Path) -> str:
    """Return the message of the refusal."""
    with pytest.raises(UsageError, match="no h-call was sent") as caught:
        check_partition(options(name, **given), number)
    assert caught.value.rule.id == "command.partition"
    return caught.value.message


async def test_no_call_reaches_the_other_partition(command):
    """A command for lpar2 with the socket of lpar1 is refused, and lpar1 stays as it is."""
    path = command.state / "run" / "lpar1.sock"
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(path.with_name("control.sock")))
        for words in (["write", "x"], ["gen-password", "--out", command.state / "pw"], ["boot"]):
            await command(*words, "--socket", path, name="lpar2", status=2, data=b"1")
            assert f"{path} is the socket of lpar1, not of lpar2" in command.err
    assert await command("ls", "--socket", path) == b""
    assert not (command.state / "pw").exists()


def test_the_control_channel_knows_the_partition(run: Path, answers: list[SystemView | None]) -> None:
    """The control channel beside the socket decides, through links and for renamed partitions as well."""
    link = run.parent.parent / "b.sock"
    link.symlink_to(run / "a.sock")
    own = f"name a, or give its socket by --socket {run}/b.sock"
    with socket.socket(socket.AF_UNIX) as data:
        data.bind(str(run / "b.sock"))
        assert told("b", 1, socket=run / "a.sock").endswith(own)
    assert told("b", 1, socket=link).startswith(f"{link} is the socket of a, not of b")
    assert told("c", 1, socket=link).endswith("--socket DIR/run/c.sock")
    check_partition(options("b", socket=run / "a.sock"), 2)  # a passed socket whose partition was renamed
    check_partition(options("a", socket=run / "a.sock"), 1)


def test_a_control_channel_that_does_not_answer(run: Path, answers: list[SystemView | None]) -> None:
    """Without an answer the layout of a state decides; in another folder nothing is known."""
    answers.append(None)
    assert "is the socket of a, not of b" in told("b", 1, socket=run / "a.sock")
    run.rename(other := run.with_name("other"))
    check_partition(options("b", socket=other / "a.sock"), 1)


def test_the_access_key_of_another_partition(tmp_path: Path) -> None:
    """Over TCP the owner of the access key is the partition, also for a copy of the key."""
    keys = tmp_path / "access-keys"
    keys.mkdir()
    for name in "ab":
        (keys / f"{name}.key").write_text(name * 64)
    (tmp_path / "copy").write_text("A" * 64)
    key = tmp_path / "copy"
    for given in ({"access_key_file": keys / "a.key"}, {"access_key_file": key, "state": tmp_path}):
        found = told("b", 1, **given)
        assert "is the access key of a, not of b" in found
        assert found.endswith(f"name a, or give its key by --access-key-file {keys}/b.key")
        check_partition(options("a", **given), 1)
    check_partition(options("b", access_key_file=key), 1)
