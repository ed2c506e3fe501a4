"""An error of `swpks hmc VERB` has one remedy: its own, or else that of its rule."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from hcall_abi.control import JSON, PROBLEM_JSON
from hcall_abi.control_views import Problem
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.messages import message
from hcall_abi.problems import problem_of
from hcall_abi.remedies import REMEDIES
from hcall_abi.rules import console as rules
from hcall_abi.rules.catalogue import RULES
from hcall_client import console
from hcall_client.console import Console, ConsoleRefused
from hcall_server.control_channel.app import make_app
from hcall_server.platform.custody import Custody
from hcall_server.platform.system_state import SystemState
from swpks.cli.main import main
from swpks.hmc.verb_remedies import Asked, with_remedy_for
from tests.control_channel.rig import make_machine
from tests.hmc.fake import FakeConsole
from tests.swpks.commands import takes

QUOTED = re.compile("`([^`]+)`")
ENDS = {
    "a console": Asked("/a b", "sys1", "lpar1"),
    "a console of one system": Asked("/a b", "", "lpar1"),
    "a system": Asked(partition="lpar1", end="--state s1"),
}


def travelled(error: SwpksError) -> ConsoleRefused:
    """Return the error as a command receives it, after the JSON of a problem."""
    return ConsoleRefused(msgspec.json.decode(msgspec.json.encode(problem_of(error)), type=Problem))


@pytest.mark.parametrize("rule_id", REMEDIES)
def test_each_number_of_ours_has_its_remedy_once(rule_id: str) -> None:
    """Each message with a number of ours gets its remedy once.

    The commands in a remedy fit the console, or the system, that refused. An error that has its own advice
    gets no second remedy.
    """
    for name, asked in ENDS.items():
        told = with_remedy_for(travelled(OperatorError(RULES[rule_id], "finding")), asked)
        assert told.message.startswith("finding; ")
        assert len(told.message) > len("finding; ") + 8
        assert with_remedy_for(told, asked) is told
        at_its_console = "; at its console: " in told.message
        assert at_its_console <= (name == "a system")
        for words in map(shlex.split, QUOTED.findall(told.message)):
            if words[0] in ("head", "COMMAND"):
                continue
            ours = at_its_console and words[1] == "hmc" and "--state" not in words
            end = ["--store", "DIR"] if ours else []
            assert takes([*words[:2], *end, *words[2:]])
            named = {"--state", "--store", "--help"} & set(words) or words[1] == "asmi"
            assert at_its_console or (named and not (name == "a system" and "-m" in words))
    own = travelled(OperatorError(RULES[rule_id], "finding; do this", advised=True))
    assert with_remedy_for(own, ENDS["a console"]).message == "finding; do this"
    # A console sends this message on as a line. The advice must be in it.
    assert message(own).endswith(" finding; do this")


def test_words_of_the_command_stand_in_its_remedy() -> None:
    """A remedy has the -m, the partition and the store or state of the command.

    A number of the real console has no remedy.
    """
    running = OperatorError(rules.PARTITION_OFF, "lpar1 is running")
    told = {name: with_remedy_for(travelled(running), asked).message for name, asked in ENDS.items()}
    off = "-n lpar1 -o shutdown --immed` powers it off"
    assert told == {
        "a console": f"lpar1 is running; `swpks hmc --store '/a b' chsysstate -r lpar -m sys1 {off}",
        "a console of one system": f"lpar1 is running; `swpks hmc --store '/a b' chsysstate -r lpar {off}",
        "a system": "lpar1 is running; `swpks hmc --state s1 power lpar1 off` powers it off",
    }
    real = travelled(OperatorError(rules.NAME_EXISTS, "no lpar9"))
    assert with_remedy_for(real, ENDS["a console"]) is real


async def test_a_system_says_which_of_its_errors_have_a_remedy() -> None:
    """A system marks the errors whose text has a remedy: about custody, Recovery, and a missing key."""
    machine = make_machine()
    system = Console(httpx.ASGITransport(make_app(machine)))
    await system.call(console.create_partition("a", 0))
    partition = machine.system.find("a")

    async def refused(request: console.ConsoleRequest[Any]) -> ConsoleRefused:
        with pytest.raises(ConsoleRefused) as caught:
            await system.call(request)
        return caught.value

    assert (await refused(console.show_copy("a"))).advised
    assert not (await refused(console.set_attributes("a", {"keystore_kbytes": 1}))).advised
    partition.set_custody(Custody.GONE, 1, bytes(16))
    assert (await refused(console.power_on("a"))).advised
    partition.set_custody(Custody.OWN, 0, bytes(16))
    await system.call(console.delete_partition("a"))
    machine.system.begin_recovery()
    assert (await refused(console.create_partition("b", 0))).advised
    assert (await refused(console.end_recovery())).advised


def answer(error: SwpksError) -> dict[str, object]:
    """Return the last message of a console for a verb that it refused."""
    problem = problem_of(error)
    content = msgspec.json.encode(problem).decode()
    return {"answer": {"status": problem.status, "type": PROBLEM_JSON, "content": content}}


@pytest.mark.parametrize(
    "error, status, told",
    [
        (OperatorError(rules.PARTITION_OFF, "it runs"), 1, ": it runs; `swpks hmc --store {} chsysstate "),
        (OperatorError(rules.PARTITION_OFF, "it runs: stop it", advised=True), 1, ": it runs: stop it ["),
        (OperatorError(rules.CONSOLE_SERVED, "s is away"), 3, ": s is away; start that system (`swpks "),
        (OperatorError(rules.CONSOLE_SERVED, "start s", advised=True), 3, ": start s ["),
    ],
)
def test_the_line_of_the_error(
    fake: FakeConsole, capfd: pytest.CaptureFixture[str], error: SwpksError, status: int, told: str
) -> None:
    """A remedy is printed after the message and before the rule."""
    with fake.saying(answer(error)):
        assert main(["hmc", "--store", str(fake.store), "power", "lpar1", "off"]) == status
    err = capfd.readouterr().err
    assert err.startswith(f"swpks hmc power{told.format(fake.store)}")
    assert err.count("\n") == 1


JOB = {"number": 4, "kind": "backup", "system": "sys 1", "done": 0, "total": 2, "state": "failed"}
ENDED: dict[str, tuple[dict[str, object], str]] = {
    "a remedy of the rule": (
        {"lines": ["kept", "it runs"], "rule_id": "copy.idle"},
        "it runs; `swpks hmc --store {} chsysstate -r lpar -m 'sys 1' -n NAME -o shutdown --immed` powers it "
        "off [operator fault; rule copy.idle: ",
    ),
    "a remedy of the reason": (
        {"lines": ["it runs: stop it"], "rule_id": "copy.idle", "advised": True},
        "it runs: stop it [operator fault; rule copy.idle: ",
    ),
    "no rule": (
        {"lines": ["sys 1 was removed from the console"]},
        "sys 1 was removed from the console; remove the cause, and repeat the command; "
        "`swpks hmc --store {} jobs` shows the job [operator fault; rule line.job: ",
    ),
    "a rule of a later console, and no line": (
        {"lines": [], "rule_id": "of.tomorrow"},
        "no reason is known; remove the cause, and repeat the command; ",
    ),
}
"""Fields of a failed job, and the end of the error of the command that has followed it."""


def followed(fake: FakeConsole, fields: dict[str, object], *words: str) -> int:
    """Follow a job that fails; return the exit status."""
    ended = {**JOB, **fields}
    last = {"answer": {"status": 200, "type": JSON, "content": json.dumps(ended)}}
    with fake.saying({"progress": ended}, last):
        return main(["hmc", "--store", str(fake.store), *words])


@pytest.mark.parametrize("words", [["backup"], ["recover", "-m", "4"], ["jobs", "4"]], ids=" ".join)
@pytest.mark.parametrize("case", ENDED)
def test_a_job_that_fails_has_its_remedy(
    fake: FakeConsole, capfd: pytest.CaptureFixture[str], case: str, words: list[str]
) -> None:
    """The command that follows a failed job reports it as a verb reports an error.

    The line has the reason, the remedy and the rule.
    """
    fields, told = ENDED[case]
    assert followed(fake, fields, *words) == 1
    out, err = capfd.readouterr()
    assert out.endswith("job 4 (backup sys 1): failed, 0 of 2\n")
    assert err.startswith(f"swpks hmc {words[0]}: job 4 (backup) failed: {told.format(fake.store)}")
    assert err.count("\n") == 1


def test_a_failed_job_as_json_is_its_last_line(fake: FakeConsole, capfd: pytest.CaptureFixture[str]) -> None:
    """With --json, a failed job is the last line of output, and standard error is empty.

    A program reads the rule in the job.
    """
    assert followed(fake, {"lines": ["it runs"], "rule_id": "copy.idle"}, "backup", "--json") == 1
    out, err = capfd.readouterr()
    assert (json.loads(out.splitlines()[-1])["rule_id"], err) == ("copy.idle", "")


def test_a_console_without_systems_names_the_command_that_adds_one(
    fake: FakeConsole, capfd: pytest.CaptureFixture[str]
) -> None:
    """If the console has no systems, the command prints how to add one.

    The printed command names the store, because SWPKS_HMC may not be set in the next shell.
    """
    with fake.saying({"answer": {"status": 200, "type": JSON, "content": "[]"}}):
        assert main(["hmc", "--store", str(fake.store), "systems"]) == 0
    out = capfd.readouterr().out
    assert out == f"no systems; add one: `swpks hmc --store {fake.store} add-system [NAME=]WHERE`\n"


@pytest.mark.parametrize(
    "end", [["--state", "my lab"], ["--store", "hmc", "-m", "sys 1"], ["--socket", "c.sock"]]
)
def test_a_name_behind_its_value(capfd: pytest.CaptureFixture[str], end: list[str]) -> None:
    """If name and value are exchanged, the error has the command in the right order.

    That command has the same console or system as the wrong one.
    """
    assert main(["hmc", *end, "keystore", "64", "lpar1"]) == 2
    (told,) = QUOTED.findall(capfd.readouterr().err)
    assert shlex.split(told) == ["swpks", "hmc", *end, "keystore", "lpar1", "64"]


def test_json_has_no_remedy(fake: FakeConsole, capfd: pytest.CaptureFixture[str]) -> None:
    """With --json, the problem is printed unchanged, without a remedy."""
    with fake.saying(answer(OperatorError(rules.PARTITION_OFF, "it runs"))):
        assert main(["hmc", "--json", "--store", str(fake.store), "power", "lpar1", "off"]) == 1
    assert '"detail": "it runs"' in capfd.readouterr().err


def test_an_error_before_any_request_has_one_as_well(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error before any request has a remedy as well, unless its text already names one."""
    (tmp_path / "key").write_bytes(b"short")
    words = ["--state", str(tmp_path), "chtskey", "-o", "change", "--newkey", str(tmp_path / "key")]
    assert main(["hmc", *words]) == 2
    assert "has 5 bytes, not 32; name a file of exactly 32 bytes, such as" in capfd.readouterr().err
    assert main(["hmc", "jobs", "--state", str(tmp_path)]) == 2
    assert "only a console does this: --store DIR (or SWPKS_HMC) [" in capfd.readouterr().err


IDLE = {
    "copy.idle": ("partition lpar2 runs: power it off first", ["lpar2"]),
    "trusted-key.idle": ("running, with a keystore: a, b; power off each of them first", ["a", "b"]),
    "partition.off": ("b is running", ["b"]),
}


@pytest.mark.parametrize("rule_id", IDLE)
def test_a_refusal_names_the_partitions_of_its_remedy(rule_id: str) -> None:
    """If the command has no partition, the remedy has those of the refusal, a command for each."""
    finding, names = IDLE[rule_id]
    refused = travelled(OperatorError(RULES[rule_id], finding))
    at_system = with_remedy_for(refused, Asked(end="--state s1")).message
    assert QUOTED.findall(at_system) == [f"swpks hmc --state s1 power {each} off" for each in names]
    at_console = with_remedy_for(refused, Asked("/c", "sys1")).message
    off = [f"swpks hmc --store /c chsysstate -r lpar -m sys1 -n {each} -o shutdown --immed" for each in names]
    assert QUOTED.findall(at_console) == off


@pytest.mark.parametrize(
    "rule_id, finding, commands",
    [
        ("power.running", "lpar1 is powered off", ["power lpar1 on -m sys1"]),
        ("power.stopped", "lpar1 is running", ["ipl lpar1 -m sys1", "power lpar1 off -m sys1"]),
        ("hmc.recovery-empty", "nothing to recover", ["health -m sys1", "restore FILE -m sys1"]),
        ("recovery.state", "nothing to recover", ["status -m sys1", "restore FILE -m sys1"]),
        ("system.operating", "in the state Recovery", ["status -m sys1", "recover -m sys1"]),
    ],
)
def test_a_power_state_or_a_healthy_system(rule_id: str, finding: str, commands: list[str]) -> None:
    """A refusal because of the present state has the command that changes it, for each end."""
    refused = travelled(OperatorError(RULES[rule_id], finding))
    told = with_remedy_for(refused, ENDS["a console"]).message
    assert QUOTED.findall(told) == [f"swpks hmc --store '/a b' {each}" for each in commands]
    told = with_remedy_for(refused, ENDS["a system"]).message
    assert QUOTED.findall(told) == [
        f"swpks hmc --state s1 {each.removesuffix(' -m sys1')}" for each in commands
    ]
    told = with_remedy_for(refused, ENDS["a console of one system"]).message
    assert "SYSTEM" not in told


def test_a_system_that_is_away_has_its_folder() -> None:
    """The start of a system that is away names the state folder of its place."""
    away = OperatorError(rules.CONSOLE_SERVED, "sys1: cannot reach the server at /a/run/control.sock: gone")
    assert "(`swpks serve --state /a`)" in with_remedy_for(travelled(away), ENDS["a console"]).message


async def test_a_recovery_in_another_state() -> None:
    """In the state Reset pending, the beginning and the end of a recovery are refused with the way out."""
    machine = make_machine()
    system = Console(httpx.ASGITransport(make_app(machine)))
    with pytest.raises(ConsoleRefused, match="there is nothing to recover: the state is Operating") as caught:
        await system.call(console.end_recovery())
    assert not caught.value.advised
    machine.system.state = SystemState.RESET_PENDING
    requests: list[console.ConsoleRequest[Any]] = [console.end_recovery(), console.begin_recovery()]
    for request in requests:
        with pytest.raises(ConsoleRefused, match="state Reset pending: swpks hmc stop, and then") as caught:
            await system.call(request)
        assert caught.value.advised
