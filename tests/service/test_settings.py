"""The settings of an operator: forms of the command line, the TOML file, and the two together."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from hcall_abi.errors import OperatorError
from hcall_abi.rules import console
from hcall_abi.rules import service as rules
from hcall_abi.rules.rule import Rule
from hcall_server.machine.limits import Limits
from hcall_server.service.config import read_config
from hcall_server.service.places import check_trace
from hcall_server.service.settings import PartitionSettings, Settings, parse_listen, parse_partition
from swpks.cli import serve
from tests.service.folder import assembled


def parsed(*arguments: str) -> Settings:
    """Return the settings of a command line."""
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    return serve._settings(parser.parse_args(["serve", "--state", "x", *arguments]))


@contextmanager
def refusal(rule: Rule, says: str | None = None) -> Iterator[pytest.ExceptionInfo[OperatorError]]:
    """Expect the block to be refused by this rule with this text."""
    with pytest.raises(OperatorError, match=says) as error:
        yield error
    assert error.value.rule is rule


def filed(tmp_path: Path, text: str) -> Path:
    """Write a configuration file."""
    path = tmp_path / "swpks.toml"
    path.write_text(text, "utf-8")
    return path


def entry(fields: str) -> str:
    """Return a partition with these fields, as a file has it."""
    return f'[[partition]]\nname = "a"\n{fields}\n'


@pytest.mark.parametrize(
    "text,expected",
    [
        ("tcp:localhost:80", ("localhost", 80)),
        ("tcp:127.0.0.1:0", ("127.0.0.1", 0)),
        ("tcp:[::1]:65535", ("::1", 65535)),
    ],
)
def test_listeners_are_host_and_port(text: str, expected: tuple[str, int]) -> None:
    """A listener is a host and a port. An IPv6 address is in brackets, and port 0 takes a free port."""
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    "text", ["tcp:host", "tcp::1", "tcp:::1:80", "tcp:a:65536", "udp:a:1", "tcp:a:-1", ""]
)
def test_other_listeners_are_refused(text: str) -> None:
    """A wrong form of a listener is refused; no value is guessed."""
    with refusal(rules.LISTEN_FORM) as error:
        parse_listen(text)
    assert repr(text) in error.value.message


def test_calls_are_logged_on_request(tmp_path: Path) -> None:
    """`--log-calls` or the file switches the log of calls on."""
    assert not parsed().log_calls
    assert parsed("--log-calls").log_calls
    assert parsed("--config", str(filed(tmp_path, "log_calls = true"))).log_calls


def test_partitions_have_a_name_and_perhaps_a_size() -> None:
    """R-30: Without a size, a partition's keystore stays as it is; that of a new partition is off."""
    assert parse_partition("a:64") == PartitionSettings.of("a", 64)
    assert parse_partition("a:0") == PartitionSettings.of("a", 0)
    assert parse_partition("a") == parse_partition("a:") == PartitionSettings.of("a", None)


def test_partitions_have_attributes_of_the_console() -> None:
    """R-36: After the size, a partition may have attributes by the console's names."""
    text = "a:64,keystore_signed_updates=1,linux_dynamic_key_secure_boot=1,secure_boot=enforce"
    found = parse_partition(text)
    assert found == PartitionSettings.of(
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
    "text,rule",
    [
        ("a:4,", console.ATTRIBUTE_FORM),
        ("a:4,secure_boot", console.ATTRIBUTE_FORM),
        ("a:4,secure_boot=off,secure_boot=off", console.ATTRIBUTE_FORM),
        ("a:4,x=1", console.ATTRIBUTE_KNOWN),
        ("a:4,keystore_kbytes=8", rules.PARTITION_FORM),
        ("a,keystore_kbytes=8", rules.PARTITION_FORM),
        ("a:4,secure_boot=3", console.ATTRIBUTE_RANGE),
        ("a:4,keystore_signed_updates=", console.ATTRIBUTE_RANGE),
        ("a:4,keystore_signed_updates=2", console.ATTRIBUTE_RANGE),
        ("a:4,keystore_signed_updates=on", console.ATTRIBUTE_RANGE),
    ],
)
def test_other_attributes_are_refused(text: str, rule: Rule) -> None:
    """R-36: An unknown attribute, a wrong form and a value outside its range are refused."""
    with refusal(rule) as error:
        parse_partition(text)
    assert error.value.message.startswith(f"partition {text!r}: ")


@pytest.mark.parametrize("value", ["enforce", "2"])
def test_a_word_or_its_number(tmp_path: Path, value: str) -> None:
    """R-36: Settings accept the words of `swpks hmc set`, and also the numbers of these words."""
    wish = PartitionSettings("a", {"secure_boot": 2})
    assert parse_partition(f"a,secure_boot={value}") == wish
    assert PartitionSettings.of("a", secure_boot=value) == PartitionSettings.of("a", secure_boot=2) == wish
    for written in ('"enforce"', "2"):
        path = filed(tmp_path, f'[[partition]]\nname = "a"\nsecure_boot = {written}')
        assert read_config(path).partition == (wish,)


@pytest.mark.parametrize("text", ["a:b", "a:-1", "a:1:2", "a:99999", "a:4k"])
def test_other_sizes_are_refused(text: str) -> None:
    """A size that is not a number of KiB is refused."""
    with refusal(console.ATTRIBUTE_RANGE) as error:
        parse_partition(text)
    assert "keystore_kbytes is 0, or 4 to 64 or 128 as the firmware level allows" in error.value.message


def test_limits_have_ranges() -> None:
    """Each limit has a range; only the limit of idle sessions may be 0, for none."""
    assert Limits(idle_seconds=0).idle_seconds == 0
    for wrong in ({"open_seconds": 0}, {"max_sessions": -1}, {"send_seconds": 1e9}, {"max_unopened": 0}):
        with refusal(rules.LIMIT_RANGE) as error:
            Limits(**wrong)
        assert error.value.message.startswith("limits.")


@pytest.mark.parametrize(
    "text,rule,where",
    [
        ("x = 1", rules.CONFIG_FILE, "unknown field x"),
        ("[limits]\nidle = 1", rules.CONFIG_FILE, "unknown field limits.idle"),
        (entry("kbytes = 1"), rules.CONFIG_FILE, "unknown field partition.kbytes"),
        (entry('keystore_kbytes = "4"'), rules.CONFIG_FILE, "$.partition[0].keystore_kbytes"),
        (entry("keystore_signed_updates = true"), rules.CONFIG_FILE, "keystore_signed_updates"),
        ("[[partition]]\nkeystore_kbytes = 4", rules.CONFIG_FILE, "missing required field `name`"),
        ("limits = 3", rules.CONFIG_FILE, "$.limits"),
        ("[limits]\nidle_seconds = true", rules.CONFIG_FILE, "$.limits.idle_seconds"),
        ("partition = [3]", rules.CONFIG_FILE, "$.partition[0]"),
        ("= 1", rules.CONFIG_FILE, "Invalid statement"),
        (
            entry('secure_boot = "on"'),
            console.ATTRIBUTE_RANGE,
            "partition a: secure_boot is 0 to 2, or off, audit, enforce, not 'on'",
        ),
        (entry("secure_boot = 3"), console.ATTRIBUTE_RANGE, "secure_boot is 0 to 2, or off, audit, enforce"),
        (entry("keystore_signed_updates = 2"), console.ATTRIBUTE_RANGE, "keystore_signed_updates is 0 to 1"),
        (
            entry("keystore_kbytes = -1"),
            console.ATTRIBUTE_RANGE,
            "keystore_kbytes is 0, or 4 to 64 or 128 as the firmware level allows, not -1",
        ),
        (entry('faults = ["READ_OBJECT=H_STATE"]'), console.FAULT_STATUS, "never answers H_STATE"),
        (entry('faults = ["x"]'), console.FAULT_FORM, "partition a: fault 'x': "),
        (entry('faults = ["READ_OBJECT=H_BUSY,nth=0"]'), console.FAULT_COUNT, "nth=0"),
        (entry(f"faults = {['READ_OBJECT=H_BUSY'] * 65}"), console.FAULT_PLAN, "partition a: 65 faults"),
        (entry("") + entry(""), rules.PARTITION_TWICE, "the partitions are a, a"),
        (
            'firmware = "FW1"',
            rules.FIRMWARE_KNOWN,
            "firmware = 'FW1'; the levels are FW940, FW950, FW1010, FW1030, FW1050, FW1060, FW1110, NEXT",
        ),
        ("flush_delay_ms = -1", rules.FLUSH_DELAY_RANGE, "flush_delay_ms = -1"),
        ("confirm_wait_ms = -1", rules.CONFIRM_WAIT_RANGE, "confirm_wait_ms = -1"),
        ("confirm_wait_ms = 1000.5", rules.CONFIRM_WAIT_RANGE, "confirm_wait_ms = 1000.5"),
        ("copy_interval_s = 0", rules.COPY_INTERVAL_RANGE, "copy_interval_s = 0"),
        ("copy_interval_s = 86400.5", rules.COPY_INTERVAL_RANGE, "copy_interval_s = 86400.5"),
        ("system_total_kbytes = 0", rules.TOTAL_RANGE, "system_total_kbytes = 0"),
        ("system_total_kbytes = 1048577", rules.TOTAL_RANGE, "system_total_kbytes = 1048577"),
        ('listen = ["tcp:x"]', rules.LISTEN_FORM, "listen: 'tcp:x' is no tcp:HOST:PORT"),
        ('mobility = "tcp:x"', rules.LISTEN_FORM, "mobility: 'tcp:x' is no tcp:HOST:PORT"),
        ('mobility = "none"', rules.LISTEN_FORM, "mobility: 'none' is no tcp:HOST:PORT"),
        ("[limits]\nmax_sessions = 0", rules.LIMIT_RANGE, "limits.max_sessions = 0"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, rule: Rule, where: str) -> None:
    """A mistake in a file is an operator's error with file, place and rule."""
    path = filed(tmp_path, text)
    with refusal(rule) as error:
        read_config(path)
    assert where in error.value.message
    assert error.value.message.startswith(f"{path}: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A file that is missing or not text is an operator's error."""
    with refusal(rules.CONFIG_FILE, "No such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with refusal(rules.CONFIG_FILE, "binary"):
        read_config(tmp_path / "binary")


def test_the_command_line_adds_and_wins(tmp_path: Path) -> None:
    """Partitions and listeners of file and command line are merged.

    Other options of the command line replace the file's.
    """
    path = filed(
        tmp_path,
        'firmware = "FW950"\nflush_delay_ms = 1\nconfirm_wait_ms = 30\nlisten = ["tcp:a:1"]\n'
        '[[partition]]\nname = "one"\nkeystore_kbytes = 4\nsecure_boot = "audit"\n'
        "keystore_signed_updates = 1\n"
        '[[partition]]\nname = "two"\n',
    )
    settings = parsed(
        "--config", str(path), "--firmware", "FW1110", "--listen", "tcp:b:2", "--partition", "one:8",
        "--partition", "three:16,secure_boot=off", "--relaxed-memory", "--relaxed-wrapping",
        "--strict-updates",
        "--flush-delay", "2.5", "--confirm-wait", "1000", "--copy-interval", "0.01",
    )  # fmt: skip
    assert settings == Settings(
        first_name="x",
        firmware="FW1110",
        strict_memory=False,
        strict_wrapping=False,
        strict_updates=True,
        flush_delay_ms=2.5,
        confirm_wait_ms=1000,
        copy_interval_s=0.01,
        listen=("tcp:a:1", "tcp:b:2"),
        partition=(
            PartitionSettings.of("one", 8, secure_boot="audit", keystore_signed_updates=1),
            PartitionSettings.of("two"),
            PartitionSettings.of("three", 16, secure_boot="off"),
        ),
    )


def test_a_name_alone_does_not_take_the_size_of_the_file_away(tmp_path: Path) -> None:
    """`--partition one` requires the partition and leaves its size as it is."""
    path = filed(tmp_path, '[[partition]]\nname = "one"\nkeystore_kbytes = 4\n')
    assert parsed("--config", str(path), "--partition", "one").partition == (PartitionSettings.of("one", 4),)


def test_nonsense_on_the_command_line_is_an_operators_error() -> None:
    """The error for a wrong option has the same form as an error in the file."""
    for wrong, rule in (
        (["--partition=a:b"], console.ATTRIBUTE_RANGE),
        (["--listen=x"], rules.LISTEN_FORM),
        (["--flush-delay=-1"], rules.FLUSH_DELAY_RANGE),
        (["--flush-delay=nan"], rules.FLUSH_DELAY_RANGE),
        (["--confirm-wait=-1"], rules.CONFIRM_WAIT_RANGE),
        (["--confirm-wait=nan"], rules.CONFIRM_WAIT_RANGE),
        (["--copy-interval=nan"], rules.COPY_INTERVAL_RANGE),
        (["--copy-interval=0"], rules.COPY_INTERVAL_RANGE),
        (["--partition=a:4", "--partition=a:4"], rules.PARTITION_TWICE),
    ):
        with refusal(rule):
            parsed(*wrong)


def test_a_size_that_a_start_refuses_has_a_remedy(tmp_path: Path) -> None:
    """A stored size can be kept, also by `swpks qemu --partition NAME`; a new partition takes another one."""
    with assembled(tmp_path, Settings(partition=(PartitionSettings.of("a", 16),))) as machine:
        assert trio.run(machine.encryptor.flush)
    kept = "; `--partition a` without a size keeps its 16 KiB"
    for name, kbytes, remedy in (("a", 8, kept), ("a", 60000, kept), ("b", 60000, "; choose ")):
        wish = PartitionSettings.of(name, kbytes)
        with pytest.raises(OperatorError) as caught, assembled(tmp_path, Settings(partition=(wish,))):
            pass
        assert remedy in caught.value.message, wish


def test_the_file_of_a_trace(tmp_path: Path) -> None:
    """FILE of `--trace` has a name, and is not in the state, but for its folder `traces`."""
    state = tmp_path / "state"
    (state / "traces").mkdir(parents=True)
    (tmp_path / "link").symlink_to(state)
    for file in (tmp_path / "a.pcapng", state / "traces" / "a.pcapng", tmp_path / "link/traces/a.pcapng"):
        check_trace(state, Settings(trace=str(file), trace_secrets=True))
    for file in (state / "presence", state / "traces", state, tmp_path / "link" / "presence"):
        with refusal(rules.TRACE_FILE, "is in the state folder"):
            check_trace(state, Settings(trace=str(file)))
    for text in ("", "a\0b"):
        with refusal(rules.TRACE_FILE, "no name of a file"):
            check_trace(state, Settings(trace=text))


def test_secrets_without_a_trace(tmp_path: Path) -> None:
    """`--trace-secrets` without `--trace` is refused with the way for one partition."""
    check_trace(tmp_path, Settings())
    with refusal(rules.TRACE_SECRETS, "swpks hmc trace NAME on --secrets"):
        check_trace(tmp_path, parsed("--trace-secrets"))
