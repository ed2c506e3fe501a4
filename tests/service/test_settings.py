"""What an operator may ask for: the forms of the command line, the TOML file, and both together."""

import argparse
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_server.machine.limits import Limits
from hcall_server.service.config import read_config
from hcall_server.service.settings import PartitionSettings, Settings, parse_listen, parse_partition
from swpks.cli import serve


def parsed(*arguments: str) -> Settings:
    """The settings of a command line."""
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    return serve._settings(parser.parse_args(["serve", "--state", "x", *arguments]))


def filed(tmp_path: Path, text: str) -> Path:
    """A configuration file."""
    path = tmp_path / "swpks.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    "text,expected",
    [
        ("tcp:localhost:80", ("localhost", 80)),
        ("tcp:127.0.0.1:0", ("127.0.0.1", 0)),
        ("tcp:[::1]:65535", ("::1", 65535)),
    ],
)
def test_listeners_are_host_and_port(text: str, expected: tuple[str, int]) -> None:
    """IPv6 in brackets, port 0 for a free one."""
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    "text", ["tcp:host", "tcp::1", "tcp:::1:80", "tcp:a:65536", "udp:a:1", "tcp:a:-1", ""]
)
def test_other_listeners_are_refused(text: str) -> None:
    """A typing error is told, not guessed at."""
    with pytest.raises(ValueError, match="a listener is"):
        parse_listen(text)


def test_partitions_have_a_name_and_perhaps_a_size() -> None:
    """R-30: without a size the keystore stays as it is, which is off at first."""
    assert parse_partition("a:64") == PartitionSettings("a", 64)
    assert parse_partition("a:0") == PartitionSettings("a", 0)
    assert parse_partition("a") == parse_partition("a:") == PartitionSettings("a", None)


def test_partitions_have_attributes_of_the_console() -> None:
    """R-36: after the size, by the console's names."""
    text = "a:64,keystore_signed_updates=1,linux_dynamic_key_secure_boot=1,secure_boot=enforce"
    found = parse_partition(text)
    assert found == PartitionSettings(
        "a", 64, secure_boot="enforce", keystore_signed_updates=1, linux_dynamic_key_secure_boot=1
    )
    assert found.attributes == {
        "keystore_kbytes": 64,
        "keystore_signed_updates": 1,
        "linux_dynamic_key_secure_boot": 1,
        "secure_boot": 2,
    }
    assert parse_partition("a,keystore_signed_updates=0").attributes == {"keystore_signed_updates": 0}


@pytest.mark.parametrize(
    "text",
    ["a:4,", "a:4,x=1", "a:4,keystore_kbytes=8", "a:4,secure_boot", "a:4,secure_boot=2",
     "a:4,keystore_signed_updates=", "a:4,keystore_signed_updates=2", "a:4,keystore_signed_updates=on"],
)  # fmt: skip
def test_other_attributes_are_refused(text: str) -> None:
    """R-36: unknown names, and values that the attribute does not have."""
    with pytest.raises(ValueError, match="partition"):
        parse_partition(text)


@pytest.mark.parametrize("text", ["a:b", "a:-1", "a:1:2", "a:99999", "a:4k"])
def test_other_sizes_are_refused(text: str) -> None:
    """KiB as a number."""
    with pytest.raises(ValueError, match="partition"):
        parse_partition(text)


def test_limits_have_ranges() -> None:
    """Only an idle session may be without a limit."""
    assert Limits(idle_seconds=0).idle_seconds == 0
    for wrong in ({"open_seconds": 0}, {"max_sessions": -1}, {"send_seconds": 1e9}, {"max_unopened": 0}):
        with pytest.raises(ValueError, match=r"limits\."):
            Limits(**wrong)


@pytest.mark.parametrize(
    "text,where",
    [
        ("x = 1", "unknown field x"),
        ("[limits]\nidle = 1", "unknown field limits.idle"),
        ('[[partition]]\nname = "a"\nkbytes = 1', "unknown field partition.kbytes"),
        ('[[partition]]\nname = "a"\nkeystore_kbytes = "4"', "$.partition[0].keystore_kbytes"),
        ('[[partition]]\nname = "a"\nsecure_boot = "on"', "secure_boot is one of off, audit, enforce"),
        ('[[partition]]\nname = "a"\nkeystore_signed_updates = 2', "keystore_signed_updates is 0 to 1"),
        ('[[partition]]\nname = "a"\nkeystore_signed_updates = true', "keystore_signed_updates"),
        ('[[partition]]\nname = "a"\nfaults = ["READ_OBJECT=H_STATE"]', "never answers H_STATE"),
        ("[[partition]]\nkeystore_kbytes = 4", "missing required field `name`"),
        ('[[partition]]\nname = "a"\n[[partition]]\nname = "a"', "named twice"),
        ('firmware = "FW1"', "known levels are FW950, FW1010, FW1030, FW1050, FW1060, FW1110, NEXT"),
        ("flush_delay_ms = -1", "a delay is 0 to 60000 ms"),
        ("system_total_kbytes = 0", "is no size"),
        ('listen = ["tcp:x"]', "a listener is tcp:HOST:PORT"),
        ("[limits]\nmax_sessions = 0", "limits.max_sessions = 0"),
        ("limits = 3", "$.limits"),
        ("partition = [3]", "$.partition[0]"),
        ("= 1", "Invalid statement"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, where: str) -> None:
    """An operator's error: file, place, rule."""
    path = filed(tmp_path, text)
    with pytest.raises(OperatorError) as caught:
        read_config(path)
    assert where in caught.value.message
    assert str(path) in caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """And one that is not text."""
    with pytest.raises(OperatorError, match="No such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(OperatorError, match="binary"):
        read_config(tmp_path / "binary")


def test_the_command_line_adds_and_wins(tmp_path: Path) -> None:
    """Sizes by partition; everything else as a whole."""
    path = filed(
        tmp_path,
        'firmware = "FW950"\nflush_delay_ms = 1\nlisten = ["tcp:a:1"]\n'
        '[[partition]]\nname = "one"\nkeystore_kbytes = 4\nsecure_boot = "audit"\n'
        "keystore_signed_updates = 1\n"
        '[[partition]]\nname = "two"\n',
    )
    settings = parsed(
        "--config", str(path), "--firmware", "FW1110", "--listen", "tcp:b:2", "--partition", "one:8",
        "--partition", "three:16,secure_boot=off", "--relaxed-memory", "--relaxed-wrapping",
        "--flush-delay", "2.5",
    )  # fmt: skip
    assert settings == Settings(
        firmware="FW1110",
        strict_memory=False,
        strict_wrapping=False,
        flush_delay_ms=2.5,
        listen=("tcp:a:1", "tcp:b:2"),
        partition=(
            PartitionSettings("one", 8, secure_boot="audit", keystore_signed_updates=1),
            PartitionSettings("two"),
            PartitionSettings("three", 16, secure_boot="off"),
        ),
    )


def test_a_name_alone_does_not_take_the_size_of_the_file_away(tmp_path: Path) -> None:
    """`--partition one` says that it shall exist, and nothing of its size."""
    path = filed(tmp_path, '[[partition]]\nname = "one"\nkeystore_kbytes = 4\n')
    assert parsed("--config", str(path), "--partition", "one").partition == (PartitionSettings("one", 4),)


def test_nonsense_on_the_command_line_is_an_operators_error() -> None:
    """The same shape of error as from the file."""
    for wrong in ("--partition=a:b", "--listen=x", "--flush-delay=-1"):
        with pytest.raises(OperatorError):
            parsed(wrong)
    with pytest.raises(OperatorError):
        parsed("--partition=a:4", "--partition=a:4")
