"""Errors of all commands have the same form: the command, the message, the fault, the rule and its page."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_abi.rules.catalogue import RULES
from hcall_server.machine import logs
from swpks.cli.main import COMMANDS, main
from swpks.cli.parser import CommandParser
from swpks.testing import ServerProcess

SHAPE = re.compile(
    r"swpks(?P<words>[^:\n]*): [^\n]+ \[(?P<fault>\w+) fault; rule (?P<rule>[^:]+): [^\n]+; see [^\n]+\]\n"
)


def rule_named(
    words: list[str], capsys: pytest.CaptureFixture[str], *, statuses: tuple[int, ...] = (2,)
) -> str:
    """Run a command that must fail with an error in the common form; return the id of its rule."""
    try:
        assert main(words) in statuses
    finally:
        logs.configure(level="warning")
    out, err = capsys.readouterr()
    assert out == ""
    found = SHAPE.fullmatch(err)
    assert found, err
    rule = RULES[found["rule"]]
    assert found["fault"] == rule.fault.value
    assert err.endswith(f"{rule.sentence}; see {rule.page}]\n")
    assert found["words"].split()[:1] == words[:1] or words[:1] not in [[name] for name in COMMANDS]
    return rule.id


def subcommands() -> Iterator[list[str]]:
    """Return every command with each of its verbs; `lpar` has the name of a partition before the verb."""
    for command in COMMANDS:
        parser = CommandParser(prog="swpks")
        module = importlib.import_module(f"swpks.cli.{command.replace('-', '_')}")
        made = module.add_parser(parser.add_subparsers())
        yield [command]
        name = ["lpar1"] if command == "lpar" else []
        for action in made._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from ([command, *name, verb] for verb in action.choices)


EVERY = list(subcommands())


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each test in an empty folder, without SWPKS_STATE and SWPKS_HMC."""
    monkeypatch.delenv("SWPKS_STATE", raising=False)
    monkeypatch.delenv("SWPKS_HMC", raising=False)
    monkeypatch.chdir(tmp_path)


def test_every_verb_is_walked() -> None:
    """The list of commands for these tests has the verbs of `swpks lpar` and `swpks hmc`."""
    assert {"read", "gen-password", "raw"} < {words[-1] for words in EVERY if words[0] == "lpar"}
    assert {"power", "replace", "serve"} < {words[-1] for words in EVERY if words[0] == "hmc"}


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_an_option_that_does_not_exist(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An error that argparse itself finds has the common form: an unknown option, or a missing operand."""
    assert rule_named([*words, "--no-such-option"], capsys) in {"command.usage", "partition.form"}


@pytest.mark.parametrize(
    "line,rule",
    [
        ("", "command.usage"),
        ("lpr", "command.usage"),
        ("--bogus", "command.usage"),
        ("serve", "command.usage"),
        ("serve --state s --firmware FW1", "command.usage"),
        ("serve --state s --ready-fd x", "command.usage"),
        ("serve --state s --config none", "config.file"),
        ("lpar lpar1 config", "command.usage"),
        ("lpar lpar1 config --socket s --tcp h:1", "command.usage"),
        ("lpar lpar1 config --socket s --timeout 0", "command.usage"),
        ("lpar lpar1 config --socket s --access-key-file none", "command.file"),
        ("lpar lpar1 config --socket s --access-key-file empty", "access-key.content"),
        ("lpar lpar1 config --state none", "console.served"),
        ("lpar lpar1 boot --state none", "console.served"),
        ("lpar lpar1 write x --socket s --in none", "console.served"),
        ("hmc status --socket s", "console.served"),
        ("lpar lpar1 config --tcp 127.0.0.1:1 --access-key-file key", "open.place"),
        ("hmc status", "hmc.target"),
        ("hmc systems --state s", "hmc.target"),
        ("hmc status --state s", "console.served"),
        ("hmc status --store s", "console.served"),
        ("hmc status --state s --store s", "hmc.target"),
        ("hmc create p x --state s", None),
        ("hmc set p foo=1 --state s", "attribute.known"),
        ("hmc copy p no/f --state s", "backup.file"),
        ("hmc links d", "hmc.target"),
        ("hmc serve", "hmc.target"),
        ("hmc replace tpm", "hmc.target"),
        ("hmc replace tpm --state none", "state.exists"),
        ("hmc lssyscfg -r lpar", "hmc.target"),
        ("asmi clear-all", "command.usage"),
        ("asmi clear-all --state none", "state.exists"),
        ("qemu --partition a --kernel none --state s", "kernel.image"),
        ("simulate", "command.usage"),
        ("simulate --seed x", "command.usage"),
        ("bench --socket none", "console.served"),
        ("bench --json no/f", "command.file"),
        ("demo --state key", None),
    ],
)
def test_wrong_words_and_places(line: str, rule: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Each wrong word, file or socket in a command line gives the rule for it, and no traceback."""
    Path("key").write_text("00" * 32)
    Path("empty").write_text("")
    found = rule_named(shlex.split(line), capsys, statuses=(1, 2, 3))
    assert rule in (None, found)


@pytest.mark.parametrize(
    "line",
    [
        "lpar lpar1 config --json --state none",
        "lpar lpar1 read --json",
        "lpar --json --state none lpar1 config",
        "hmc status --json",
        "hmc status --json --state none",
        "hmc set p foo=1 --json --state none",
        "hmc replace tpm --json --state none",
        "asmi clear-all --json --state none",
    ],
)
def test_a_refusal_as_json(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json a refusal is one line with the fields of a problem, even if the command line is wrong."""
    assert main(shlex.split(line)) in {1, 2, 3}
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    problem = json.loads(err)
    rule = RULES[problem["rule_id"]]
    assert (problem["rule"], problem["section"], problem["fault"]) == (
        rule.sentence,
        rule.page,
        rule.fault.value,
    )
    assert problem["detail"]


@pytest.mark.parametrize(
    "line,near",
    [
        ("migrlpar -o m -m sys1 -p lpar1", "did you mean swpks hmc migrlpar?"),
        ("migrlpr -o m", "did you mean swpks hmc migrlpar"),
        ("hmc lsyscfg -r lpar -m sys1", "did you mean swpks hmc lssyscfg or "),
        ("hmc --store s lsyscfg", "did you mean swpks hmc lssyscfg or "),
        ("hmc statsu", "did you mean swpks hmc status?"),
        ("hmc bogus", "and the lines of the management console: lssyscfg, chsyscfg, "),
        ("lpar lpar1 raed", "did you mean swpks lpar read?"),
        ("serv --state s", "did you mean swpks serve?"),
        ("serve --state s --firmware FW111", "did you mean FW1110"),
        ("hmc power lpar1 onn --state s", "did you mean on?"),
        ("lpar a write x --policy pwst", "did you mean pwset?"),
        ("lpar a write x --policy worldreadable,immutabel", "did you mean immutable?"),
        ("lpar a wrap x --flags ossecbotaudit", "did you mean ossecbootaudit"),
        ("lpar a ls --consumer boot_loader", "did you mean boot-loader?"),
        ("lpar a read --os-label a:b --os-flag lnux", "did you mean linux?"),
        ("lpar a raw H_PKS_GET_CONFG", "did you mean GET_CONFIG?"),
        ("lpar a raw 1 --segment 0x1000:inn:hex:00", "did you mean in?"),
        ("lpar a write x --polcy=pwset --state s", "did you mean --policy?"),
        ("serve --state s --bogus --firmware-level FW1110", "did you mean --firmware?"),
        ("qemu --partition a --kernel k --initrdd i", "did you mean --initrd?"),
        ("serve --state s --tpm embeded", "did you mean embedded?"),
        ("serve --state s --config wrong.toml", "unknown field firmwre (did you mean firmware?)"),
        (
            "serve --state s --partition a:64,secure_bot=1",
            "no attribute 'secure_bot'; did you mean secure_boot?",
        ),
        ("hmc set a secure_boot=enforec --state s", "not 'enforec'; did you mean enforce?"),
        ("hmc secure-boot a Audit --state s", "did you mean audit?"),
        ("hmc faults a read_object=H_BUSY --state s", "no h-call 'read_object'; did you mean READ_OBJECT?"),
        ("hmc faults a H_PKS_READ_OBJECT=H_BUSY --state s", "did you mean READ_OBJECT?"),
        ("hmc faults a READ_OBJECT=H_BUSY,nht=2 --state s", "is no fault; did you mean nth?"),
        ("hmc faults a READ_OBJECT=H_BUSSY --state s", "did you mean H_BUSY"),
    ],
)
def test_a_word_that_is_near_another(line: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For a misspelt word the error proposes similar names, each as a word or command that can be copied."""
    Path("wrong.toml").write_text('firmwre = "FW1110"\n')
    try:
        assert main(shlex.split(line)) == 2
    finally:
        logs.configure(level="warning")
    assert near in capsys.readouterr().err


def test_a_word_that_is_near_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """If no name is similar, the error proposes nothing."""
    for line in (
        "hmc zzzz",
        "lpar a raw zzzz",
        "hmc faults a x --state s",
        "serve --zzzz --state s",
        "lpar a ls --as os",
    ):
        assert main(line.split()) == 2
        assert "did you mean" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A system with a running partition, a powered-off one, and a TCP listener for all partitions."""
    folder = tmp_path_factory.mktemp("shape")
    server = ServerProcess(
        folder / "state", ["lpar1:64", "lpar2:64"], ["--listen", "tcp:127.0.0.1:0"]
    ).start()
    assert server.run("hmc", "power", "lpar2", "off").returncode == 0
    yield server
    server.kill()


@pytest.mark.parametrize("name", ["control", "../lpar1", "", "a/b"])
def test_a_word_that_is_no_name_of_a_partition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """If NAME cannot be a partition's name, `swpks lpar` opens no socket, and the error cites `name.form`."""
    assert main(["lpar", "--state", str(tmp_path), name, "config"]) == 3
    err = capsys.readouterr().err
    assert SHAPE.fullmatch(err)
    assert "rule name.form: " in err


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_why_a_partition_is_not_there(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name, a partition that is off, and a missing server give different messages."""
    state = str(server.state)

    def message(name: str, *where: str) -> str:
        assert main(["lpar", name, "config", *where]) == 3
        err = capsys.readouterr().err
        assert SHAPE.fullmatch(err)
        return err

    for where in (["--state", state], ["--socket", f"{state}/run/NAME.sock"]):
        unknown = message("lparX", *(word.replace("NAME", "lparX") for word in where))
        assert f"no partition 'lparX' at {state}/run/lparX.sock" in unknown
        assert "has lpar1, lpar2 [" in unknown
        off = message("lpar2", *(word.replace("NAME", "lpar2") for word in where))
        assert f"lpar2 is powered off (nothing listens at {state}/run/lpar2.sock)" in off
        assert f"swpks hmc --state {state} power lpar2 on" in off
    Path("other/run").mkdir(parents=True)
    stopped = message("lpar1", "--state", "other")
    assert "nothing listens at other/run/lpar1.sock" in stopped
    assert "start one: swpks serve --state other" in stopped
    assert "there is no folder nowhere" in message("lpar1", "--state", "nowhere")
    assert main(["hmc", "status", "--state", "other"]) == 3
    err = capsys.readouterr().err
    assert err.partition(": ")[2] == stopped.partition(": ")[2].replace("lpar1.sock", "control.sock")


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_tcp_takes_the_id_of_the_name(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """For a TCP listener of several partitions, `swpks lpar` finds the id of NAME in the state.

    Without --state, the refusal asks for --partition.
    """
    tcp, state = f"127.0.0.1:{server.ready['tcp_port']}", str(server.state)
    assert main(["lpar", "lpar1", "config", "--tcp", tcp, "--state", state, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["partition"] == 1
    assert main(["lpar", "lpar2", "config", "--tcp", tcp, "--state", state]) == 3
    assert f"or about to move: swpks hmc --state {state} power lpar2 on" in capsys.readouterr().err
    key = f"{state}/access-keys/lpar1.key"
    assert main(["lpar", "lpar1", "config", "--tcp", tcp, "--access-key-file", key]) == 3
    assert "add --partition N; swpks hmc status shows the ids" in capsys.readouterr().err
    assert main(["lpar", "lparX", "config", "--tcp", tcp, "--state", state, "--access-key-file", key]) == 2
    assert "has lpar1, lpar2" in capsys.readouterr().err


def unread(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command whose standard output nobody reads; return its exit status and its standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    with monkeypatch.context() as patched, os.fdopen(writer, "w") as output:
        patched.setattr("sys.stdout", output)
        try:
            status = main(shlex.split(line))
        except SystemExit as end:
            status = int(end.code or 0)
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    "line", ["--help", "--version", "simulate --seed 7 --trace", "hmc lssyscfg --help", "lpar --help"]
)
def test_output_that_nobody_reads(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If no program reads its output, the command ends with status 1 and no message."""
    assert unread(line, monkeypatch, capsys) == (1, "")


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_a_reader_that_has_left(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If no program reads its output, a command never reports an error of the server or the partition.

    A command that makes a secret fails before it sends the request.
    """
    monkeypatch.setenv("SWPKS_STATE", str(server.state))
    Path("data").write_bytes(b"data")
    assert main(["lpar", "lpar1", "write", "x", "--in", "data"]) == 0
    for line in (
        "lpar lpar1 config",
        "lpar lpar1 read x",
        "lpar lpar1 ls --json",
        "hmc status",
        "hmc metrics",
    ):
        assert unread(line, monkeypatch, capsys) == (1, "")
    status, err = unread("hmc copy lpar1 -", monkeypatch, capsys)
    assert (status, "rule backup.file: " in err) == (2, True)
    for line in ("gen-password --out -", "gen-key key --length 32 --policy worldreadable"):
        status, err = unread(f"lpar lpar1 {line}", monkeypatch, capsys)
        assert (status, "cannot write" in err) == (2, True)
    assert main(["lpar", "lpar1", "gen-key", "key", "--length", "32", "--out", "key"]) == 0
    assert main(["lpar", "lpar1", "gen-password", "--out", "password"]) == 0
    assert main(["lpar", "lpar1", "gen-password", "--out", "again"]) == 1
    assert not Path("again").exists()


def test_no_message_shows_none_for_an_error_without_words() -> None:
    """An OSError that Python raises itself has no `strerror`; each message has another text then."""
    root = Path(main.__code__.co_filename).resolve().parents[2]
    files = [
        path for room in ("swpks", "hcall_client", "hcall_server") for path in (root / room).rglob("*.py")
    ]
    bare = re.compile(r"\{\w+\.strerror\}|reason=\w+\.strerror[,)]|str\(\w+\.strerror\)")
    # swpks/qemu is left out, because it has tests of its own.
    found = [
        path.name for path in files if path.parent.name != "qemu" and bare.search(path.read_text("utf-8"))
    ]
    assert (found, len(files) > 100) == ([], True)


@pytest.mark.parametrize(
    "words,advice",
    [
        ("lpar lpar1 ls --firmware FW950", "; it is an option of `swpks serve`; for the usage"),
        (
            "serve --password-file F",
            "; it is an option of `swpks lpar`, `swpks hmc sshd`, `swpks bench`; for the usage",
        ),
        ("bench --json-lines", "; did you mean --json?; for the usage"),
        ("demo --nonsense", "unrecognized arguments: --nonsense; for the usage"),
    ],
)
def test_an_option_of_another_command(capsys: pytest.CaptureFixture[str], words: str, advice: str) -> None:
    """The error names the commands that have the option; a near option of this command comes first."""
    assert main(words.split()) == 2
    assert advice in capsys.readouterr().err
