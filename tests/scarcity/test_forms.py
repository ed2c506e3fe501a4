"""Hosts, ports, timeouts and values in a configuration for which libraries would raise."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from hcall_server.data_channel.sockets import listen_tcp
from hcall_server.service.config import LARGEST_FILE, read_config
from hcall_server.service.settings import Settings, parse_listen
from swpks.cli.main import main

HOSTS = (
    "a" * 64,
    "a..b",
    ".",
    "..",
    ".a",
    "a\0b",
    "\0",
    "a b",
    " ",
    "\u2028",
    "\ud800",
    "x\n",
    f"{'b' * 64}.c",
)
"""Names that make Python's resolver raise an exception of its own, or that no terminal should show."""


@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_a_host_that_is_no_name(host: str) -> None:
    """The settings refuse an invalid host before anything is opened; the socket would refuse it too."""
    with pytest.raises(OperatorError) as refused:
        parse_listen(f"tcp:{host}:1")
    assert refused.value.rule is rules.LISTEN_FORM
    with pytest.raises(OperatorError) as refused:
        listen_tcp(host, 0)
    assert refused.value.rule is rules.SOCKET_ADDRESS


@pytest.mark.parametrize("port", ["65536", "99999", "100000", "-1", "+1", "", "0x1", "1_0", "٣", "1 "])
def test_a_port_that_is_no_port(port: str) -> None:
    """A port is accepted only if it is 0 to 65535, in plain digits."""
    with pytest.raises(OperatorError) as refused:
        parse_listen(f"tcp:localhost:{port}")
    assert refused.value.rule is rules.LISTEN_FORM


@pytest.mark.parametrize(
    "text",
    ["tcp:localhost:0", "tcp:127.0.0.1:1", "tcp:[::1]:65535", "tcp:a.example.:1", "tcp:bücher.example:1"],
)
def test_hosts_that_can_be_looked_up(text: str) -> None:
    """A host may be an address, a name, a name with a final dot, or a name that is not ASCII."""
    assert Settings(listen=(text,)).listen == (text,)


DEEP = 100_000
CONTENTS = {
    "arrays": f"firmware = {'[' * DEEP}{']' * DEEP}",
    "tables": f"firmware = {'{a=' * DEEP}1{'}' * DEEP}",
    "unclosed": f"firmware = {'[' * DEEP}",
    "dotted keys": f"{'.'.join('a' * 1000)} = 1",
    "dotted limits": f"limits.{'.'.join('a' * 1000)} = 1",
    "partition in partition": "[[partition.partition]]\nname = 'a'",
    "a long number": f"flush_delay_ms = {'9' * 5000}",
    "a large number": f"system_total_kbytes = {'9' * 4000}",
    "a large exponent": "flush_delay_ms = 1e999",
    "no number": "flush_delay_ms = nan",
    "a host without a form": f"listen = ['tcp:{'a' * 64}:1']",
    "a NUL": "firmware = 'a\0b'",
    "not UTF-8": "firmware = '\udcff'",
    "too much": "#" * (LARGEST_FILE + 1),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_file_that_breaks_its_parser(content: str, tmp_path: Path) -> None:
    """Whatever a parser raises, a clear error names the file."""
    path = tmp_path / "swpks.toml"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(OperatorError) as refused:
        read_config(path)
    assert str(path) in refused.value.message
    assert refused.value.rule.page == "spec/service.md#configuration"


@pytest.mark.parametrize(
    "options",
    [
        *(["--tcp", f"{host}:1"] for host in HOSTS),
        *(["--tcp", f"localhost:{port}"] for port in ("65536", "9" * 5000, "-1", "")),
        *(["--timeout", seconds] for seconds in ("nan", "inf", "-1", "0", "1e308", "x")),
        *(["--partition", number] for number in ("65536", "-1", "1e3", "9" * 5000)),
    ],
    ids=lambda options: ascii(options[1][:20]),
)
def test_a_client_that_is_told_nonsense(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For an invalid argument the command ends with status 2 and a message, and connects nowhere."""
    key = tmp_path / "key"
    key.write_text(bytes(32).hex())
    try:
        status = main(
            [
                "lpar",
                "a",
                "config",
                "--socket" if options[0] != "--tcp" else "--access-key-file",
                str(key),
                *options,
            ]
        )
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 2
    assert "swpks lpar" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "\n", "00", "0" * 62, "0" * 66, "g" * 64, "é" * 32], ids=ascii)
def test_a_key_that_is_no_key(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R-01: the command refuses a file with an empty or short access key, and opens no session."""
    key = tmp_path / "key"
    key.write_text(content)
    assert main(["lpar", "a", "config", "--tcp", "localhost:1", "--access-key-file", str(key)]) == 2
    output = capsys.readouterr().err
    assert "is no access key" in output
    assert len(content) < 60 or content not in output


@pytest.mark.parametrize(
    "words",
    [
        ["gen-password", "--out", "f", "--length", "4294967296"],
        ["gen-password", "--out", "f", "--length", "-1"],
        ["gen-key", "k", "--length", "-1"],
        ["read", "base", "--size", "4294967296"],
        ["write", "b", "--policy", "0x10000000000000000"],
        ["raw", "0x10000000000000000"],
        ["raw", "0x434", "--register", "r4=-1"],
        ["raw", "0x434", "--segment", "0x1000:out:4294967296"],
    ],
)
def test_a_number_that_no_register_holds(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that does not fit a register is a usage error, before any request is sent."""
    monkeypatch.chdir(tmp_path)
    assert main(["lpar", "--socket", str(tmp_path / "sock"), "a", *words]) == 2
    assert "is not between 0 and 2^" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
