"""`swpks lpar` when the server refuses a session: the error names the right partition id or access key."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_abi.control_views import SystemView
from hcall_abi.frames import OpenStatus
from hcall_client.errors import OpenRefused
from swpks.cli import lpar_reach
from swpks.cli.lpar_reach import refused_open
from swpks.cli.lpar_sought import Sought
from tests.console.facts import partition, system

BOTH = system(partition("a"), partition("b"))
TCP = ("host", 1)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with the access keys of two partitions: a has the id 1, b the id 2."""
    folder = tmp_path / "s" / "access-keys"
    folder.mkdir(parents=True)
    for name, key in (("a", "aa" * 32), ("b", "bb" * 32)):
        (folder / f"{name}.key").write_text(f"{key}\n")
    return folder.parent


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[SystemView | None]:
    """The answers of the control socket about the system; the last one counts, and None means no answer."""
    views: list[SystemView | None] = [BOTH]
    monkeypatch.setattr(lpar_reach, "system_at", lambda *_: views[-1])
    return views


def told(status: OpenStatus, sought: Sought) -> str:
    """Return the message for a refused session, after a check of its first words."""
    message = refused_open(sought, OpenRefused(status, "for a program"), numbered=bool(sought.number)).message
    assert message.startswith(f"the server refused OPEN: {status.name}: ")
    return message


def key_told(sought: Sought) -> str:
    return told(OpenStatus.NOT_AUTHORISED, sought)


def test_a_wrong_key_from_elsewhere(tmp_path: Path) -> None:
    """If only the command line is known, the message names the option, the right file and likely reasons."""
    message = key_told(Sought(TCP, "a", 1.0, None, 1, tmp_path / "k"))
    for words in (
        f"{tmp_path}/k is not the access key of partition 1",
        "--access-key-file",
        "DIR/access-keys/NAME.key",
        "if --partition is right, the file belongs to another partition",
    ):
        assert words in message
    assert "of the partition:" in key_told(Sought(TCP, "a", 1.0, None, 0, tmp_path / "k"))


def test_a_wrong_key_beside_the_state(state: Path, known: list[SystemView | None]) -> None:
    """If the state is known, the message says whose key it is. It shows no part of a key."""
    other = state / "copy"
    other.write_text("BB" * 32)
    right = f"--access-key-file {state}/access-keys/a.key"
    assert f"{other} is the access key of b: {right}" in key_told(Sought(TCP, "a", 1.0, state, 1, other))
    other.write_text("cc" * 32)
    message = key_told(Sought(TCP, "a", 1.0, state, 1, other))
    assert f"a copy of {state}/access-keys/a.key of the server" in message
    assert "cc" not in message.replace("access", "")
    known.append(None)
    message = key_told(Sought(TCP, "a", 1.0, state, 0, state / "none"))
    assert f"{state}/none is not the access key of the partition" in message


def test_a_key_by_the_name_and_another_id(state: Path, known: list[SystemView | None]) -> None:
    """If the key follows from NAME and --partition names another partition, the message says so."""
    message = key_told(Sought(TCP, "a", 1.0, state, 2))
    assert "2 is the id of b, and the access key is that of a: leave --partition out" in message
    known.append(None)
    message = key_told(Sought(TCP, "a", 1.0, state, 2))
    assert f"if --tcp names another system than {state}" in message


def test_a_key_for_a_unix_socket(state: Path, known: list[SystemView | None]) -> None:
    """A Unix socket needs no access key, so the message says: leave --access-key-file out."""
    assert "leave --access-key-file out" in key_told(
        Sought(state / "run" / "a.sock", "a", 1.0, state, 0, Path("k"))
    )


def test_the_owner_of_a_wrong_key_at_a_unix_socket(state: Path, known: list[SystemView | None]) -> None:
    """At a Unix socket too, the message says whose key it is, or that the file has none of this system."""
    path, file = state / "run" / "a.sock", state / "access-keys" / "b.key"
    message = key_told(Sought(path, "a", 1.0, None, 0, file))
    assert f"{file} is the access key of b, and this is the socket of a; a Unix socket" in message
    file.write_text("cc" * 32)
    message = key_told(Sought(path, "a", 1.0, None, 0, state / "copy"))
    assert f"{state}/copy is not the access key of a, or is older than its last rotate-key" in message


@pytest.mark.parametrize("number, wrong", [(9, "there is no partition 9"), (2, "2 is the id of b")])
def test_an_id_of_another_partition(known: list[SystemView | None], number: int, wrong: str) -> None:
    """If the state is known, the message lists the ids that exist, for a socket and for TCP."""
    listed = f"{wrong}: the system lab has a (1), b (2); "
    by_socket = told(OpenStatus.NO_SUCH_PARTITION, Sought(Path("s/run/a.sock"), "a", 1.0, None, number))
    assert f"{listed}leave --partition out" in by_socket
    by_tcp = told(OpenStatus.NO_SUCH_PARTITION, Sought(TCP, "a", 1.0, Path("s"), number))
    assert by_tcp.endswith(f"{listed}correct --partition")
    known.append(None)
    by_tcp = told(OpenStatus.NO_SUCH_PARTITION, Sought(TCP, "a", 1.0, Path("s"), number))
    assert f"{number} is not served there; swpks hmc --state s status shows the ids" in by_tcp


def test_no_id_at_all(known: list[SystemView | None]) -> None:
    """Without an id, a TCP listener asks for --partition.

    At a partition's own socket, the message says that the partition is not served there any more.
    """
    assert "add --partition N; swpks hmc status" in told(OpenStatus.NO_SUCH_PARTITION, Sought(TCP, "a", 1.0))
    gone = told(OpenStatus.NO_SUCH_PARTITION, Sought(Path("s/run/a.sock"), "a", 1.0))
    assert "not served there any more" in gone
