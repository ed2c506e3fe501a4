"""Words that a user copies from another place: an address with its kind, or --version behind a command."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hcall_abi.frames import OpenStatus
from hcall_client.errors import OpenRefused
from swpks.cli.main import COMMANDS, main
from swpks.conformance.server import plan
from tests.swpks.commands import parser

PLACES = {
    "lpar lpar1 config --socket": "socket",
    "lpar --socket unix:other lpar1 ls --socket": "socket",
    "hmc status --socket": "socket",
    "bench --socket": "socket",
    "qemu --partition a --kernel b --where": "where",
}


@pytest.mark.parametrize("words", PLACES)
def test_a_socket_with_its_kind(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each option of a Unix socket takes unix:PATH, as --connect demands it; a TCP address is named."""
    found = parser().parse_args([*words.split(), "unix:lab/run/lpar1.sock"])
    assert vars(found)[PLACES[words]] == Path("lab/run/lpar1.sock")
    assert main([*words.split(), "tcp:h:1"]) == 2
    assert "'tcp:h:1' is a TCP address, and a Unix socket is needed" in capsys.readouterr().err


def test_a_tcp_address_with_its_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--tcp tcp:HOST:PORT` is the address, so the first fault is the missing key."""
    assert (
        main(["lpar", "a", "ls", "--tcp", "tcp:localhost:1", "--access-key-file", str(tmp_path / "k")]) == 2
    )
    assert "is not HOST:PORT" not in capsys.readouterr().err


def test_a_path_without_its_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--connect PATH` names unix:PATH if a socket is there."""
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert main(["conformance", "server", "--connect", str(path)]) == 2
    assert f"did you mean unix:{path}?" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_version_behind_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All commands have the version of swpks."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("swpks 0")


def test_no_word_is_its_own_correction(capsys: pytest.CaptureFixture[str]) -> None:
    """An option of another place is not proposed as a correction of itself."""
    assert main(["conformance", "--xfail=f", "server", "--connect", "unix:a"]) == 2
    said = capsys.readouterr().err
    assert "did you mean --xfail?" not in said
    assert "it is an option of `swpks conformance server`" in said


def test_the_key_file_of_the_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The judge passes the file of --access-key-file on, so a refused OPEN can say whose key it is."""

    def refuse(*_: object) -> None:
        raise OpenRefused(OpenStatus.NOT_AUTHORISED)

    keys = tmp_path / "access-keys"
    keys.mkdir()
    (keys / "b.key").write_text("bb" * 32)
    place = ["--connect", f"unix:{tmp_path}/run/a.sock", "--access-key-file", str(keys / "b.key")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "facts_of", refuse)
        main(["conformance", "server", *place])
    assert f"{keys}/b.key is the access key of b, and this is the socket of a" in capsys.readouterr().err
