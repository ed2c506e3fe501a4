"""`swpks hmc` at a console and at a system: which of them a command reaches, and its exit status."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_server.console.lines.run import COMMANDS
from swpks.cli import hmc_line
from swpks.cli.hmc_serve import place_of
from swpks.cli.main import main
from swpks.hmc import names
from swpks.hmc.links import CLIENT, make_links
from swpks.testing import ConsoleProcess, ServerProcess

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `swpks hmc` in this process; return status, output and errors.

    The environment names neither a console nor a system.
    """
    for name in ("SWPKS_HMC", "SWPKS_STATE"):
        monkeypatch.delenv(name, raising=False)

    def command(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            status = main(["hmc", *map(str, words)])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return (status, *capfd.readouterr())

    return command


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, run: Run) -> pytest.MonkeyPatch:
    """Settings for tests in which the environment names a console or a system."""
    return monkeypatch


# Choice of the end


@pytest.mark.parametrize(
    "words",
    [
        ["--store", "/a", "--state", "/b", "status"],
        ["--store", "/a", "status", "--socket", "/b"],
        ["status", "--state", "/a", "--socket", "/b"],
        ["--store", "/a", "--state", "/b", "lssyscfg", "-r", "sys"],
        ["lssyscfg", "-r", "sys"],
        ["--state", "/a", "lssyscfg", "-r", "sys"],
        ["status"],
        ["systems", "--state", "/a"],
        ["status", "-m", "sys1", "--state", "/a"],
        ["links", "/a"],
        ["serve", "--state", "/a"],
        ["lstskey", "--store", "/a"],
        ["add-system", "=x", "--store", "/a"],
        ["--store", "/a", "--store", "/b", "status"],
        ["--store", "/a", "status", "--store=/b"],
        ["--state", "/a", "status", "--state", "/b"],
        ["--store", "/a", "--store", "/b", "lssyscfg", "-r", "sys"],
    ],
)
def test_usage_errors(run, words) -> None:
    """A usage error gives status 2 and one message; no request is sent."""
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err


@pytest.mark.parametrize(
    "words,reported",
    [
        (["--json", "lssyscfg", "-r", "sys"], "a line has no --json"),
        (["--store", "/a", "--json", "lssyscfg", "-r", "sys"], "a line has no --json"),
        (["-m", "sys1", "--store", "/a", "lssyscfg", "-r", "lpar"], "-m stands behind lssyscfg"),
        (["-m=sys1", "lstskey", "--store", "/a"], "-m stands behind lstskey"),
        (["--timeout", "5", "lssyscfg", "-r", "sys"], "a line has no --timeout"),
        (["lstskey", "--store", "/a", "--sealed", "/b"], "--sealed works with --state or --socket"),
        (["lstskey", "--store", "/a"], "at a console, lstskey is a line"),
        (["chtskey", "-o", "return", "--sealed", "/b", "--store", "/a"], "-o return and --sealed work with"),
        (["--store", "/a", "--store", "/b", "status"], "--store is given twice"),
    ],
)
def test_usage_errors_that_name_the_way_out(run, tmp_path, words, reported) -> None:
    """A usage error gives status 2, and says where the option is allowed."""
    (tmp_path / "blob").write_bytes(b"x")
    status, out, err = run(
        *[str(tmp_path / "blob") if each == "/b" and "--sealed" in words else each for each in words]
    )
    assert (status, out) == (2, "")
    assert reported in err


def test_no_console_and_no_system(run, environment, tmp_path) -> None:
    """If no console serves the store, a verb of ours has status 3, and a line has status 1.

    SWPKS_HMC has priority over SWPKS_STATE.
    """
    store, state = tmp_path / "store", tmp_path / "state"
    environment.setenv("SWPKS_STATE", str(state))
    assert f"{state}/run/control.sock" in run("status")[2]
    environment.setenv("SWPKS_HMC", str(store))
    status, out, err = run("status")
    assert (status, out) == (3, "")
    assert f"no console serves {store}" in err
    status, out, err = run("lssyscfg", "-r", "sys")
    assert (status, out) == (1, "")
    assert err.startswith(f"lssyscfg: no console serves {store}")
    assert f"{state}/run/control.sock" in run("status", "--state", state)[2]


def test_words_that_are_lines(environment, tmp_path) -> None:
    """A line is sent unchanged. At a system, chtskey and lstskey are verbs of ours and no lines."""
    store = str(tmp_path)
    line = ["lssyscfg", "-r", "lpar", "--filter", "x", "--json"]
    assert hmc_line.line_of(["--store", store, *line]) == (store, line)
    assert hmc_line.line_of([f"--store={store}", "lstskey"]) == (store, ["lstskey"])
    for words in (
        ["status"],
        [],
        ["--store"],
        ["--json", "status"],
        ["--json", "lstskey", "--state", "x"],
        ["lstskey"],
        ["lstskey", "--state", "x"],
        ["lstskey", "--socket=x"],
        ["--state", "x", "chtskey", "-o", "change"],
    ):
        assert hmc_line.line_of(words) is None
    environment.setenv("SWPKS_HMC", store)
    assert hmc_line.line_of(["lstskey"]) == (store, ["lstskey"])
    assert hmc_line.line_of(["lstskey", "--state", "x"]) is None


def test_the_command_knows_every_line_of_the_console() -> None:
    """The command has its own list of the console's lines, and both lists are equal.

    So the command need not load the modules of the console.
    """
    assert set(names.LINES) == {*COMMANDS}


def test_places(monkeypatch, tmp_path) -> None:
    """A relative path of a system becomes absolute, because the console has another working directory."""
    monkeypatch.chdir(tmp_path)
    assert place_of("a/b") == (None, f"{tmp_path}/a/b")
    assert place_of("sys1=/a=b") == ("sys1", "/a=b")
    assert place_of("/a/b=c") == (None, "/a/b=c")
    assert place_of("sys1=https://h:1") == ("sys1", "https://h:1")
    for wrong in ("", "sys1=", "=x"):
        with pytest.raises(OperatorError) as caught:
            place_of(wrong)
        assert caught.value.rule is rules.HMC_SYSTEM_PLACE


# Links


def test_a_folder_of_links(tmp_path) -> None:
    """The folder gets one file and a link for each line. A second call renews it, and other files stay."""
    folder = tmp_path / "links"
    assert make_links(folder, tmp_path / "store") == names.LINES
    (folder / "lssyscfg").unlink()
    make_links(folder, tmp_path / "other")
    assert {path.name for path in folder.iterdir()} == {CLIENT, *names.LINES}
    assert all(str((folder / name).readlink()) == CLIENT for name in names.LINES)
    assert stat.S_IMODE((folder / CLIENT).stat().st_mode) == 0o755
    program = (folder / CLIENT).read_text()
    assert program.startswith(f"#!{sys.executable} -IS\n")
    assert f"\nSTORE = '{tmp_path}/other'\n" in program
    for name in ("letter", "lshmc"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text("mine")
        with pytest.raises(OperatorError) as caught:
            make_links(folder, tmp_path / "store")
        assert caught.value.rule is rules.HMC_LINKS
        assert (folder / name).read_text() == "mine"
        (folder / name).unlink()


def test_a_folder_that_cannot_be_made(tmp_path) -> None:
    """If the folder of links can't be made, the refusal has the reason and the rule."""
    (tmp_path / "file").touch()
    with pytest.raises(OperatorError) as caught:
        make_links(tmp_path / "file" / "links", tmp_path)
    assert caught.value.rule is rules.HMC_LINKS


# A console with systems


@pytest.fixture
def two(console: ConsoleProcess, systems: list[ServerProcess]) -> ConsoleProcess:
    """A running console with two systems."""
    console.systems = [f"{each.state.name}={each.start().control_socket}" for each in systems]
    # On a busy machine `start` may return before both systems are added.
    console.start().log_lines("system.added", least=2)
    return console


@pytest.mark.process
def test_a_console_of_two_systems(two, systems, run, environment, tmp_path) -> None:
    """With two systems, -m selects the system of a verb. The console also has its own verbs.

    Each exit status but 4 occurs.
    """
    environment.setenv("SWPKS_HMC", str(two.store))
    status, out, _ = run("status")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["sys1", "sys2"]
    # "20" begins the year of the last contact.
    assert "20" in out.splitlines()[1]
    listed = json.loads(run("systems", "--json")[1])
    assert [each["where"] for each in listed] == [str(each.control_socket) for each in systems]
    serial = listed[1]["type_model_serial"]

    status, out, err = run("create", "lpar2", "8")
    assert (status, out) == (1, "")
    assert "name one with -m" in err
    assert run("create", "lpar2", "8", "-m", serial)[0] == 0
    assert run("status", "lpar2", "-m", "sys2")[0] == 0
    status, _, err = run("status", "lpar2", "-m", "sys1", "--json")
    assert (status, json.loads(err)["rule_id"]) == (1, "name.exists")
    assert run("rename", "lpar2", "lpar3", "-m", "sys2")[0] == 0
    assert "64 KiB" in run("status", "-m", "sys1")[1]
    assert "no system 'sys3'" in run("status", "-m", "sys3")[2]
    assert run("health", "-m", "sys1")[0] == 0
    assert run("metrics", "-m", "sys1")[1].startswith("# HELP")
    assert run("nvram", "stall", "-m", "sys1", "--timeout", "20")[0] == 0
    assert run("nvram", "none", "-m", "sys1")[0] == 0
    assert json.loads(run("jobs", "--json")[1]) == []
    assert "there is no job 7" in run("jobs", "7")[2]

    two.log_lines("system.connected", least=2)
    assert run("create", "bare", "8", "-m", "sys2")[0] == 0
    assert "bare" in json.loads(run("systems", "--json")[1])[1]["without_copy"]
    assert run("delete", "bare", "-m", "sys2")[0] == 0
    _jobs_and_copies(run)
    assert "connected since 20" in run("status", "-m", "sys2")[1]
    # A system with a partition needs no recovery, so the order fails.
    assert run("recover", "-m", "sys1")[0] == 1
    status, out, _ = run("recover", "-m", "sys1", "--json")
    assert (status, [json.loads(line)["state"] for line in out.splitlines()]) == (1, ["running", "failed"])
    systems[1].kill()
    two.log_lines("system.away")
    _away_and_removed(run)


def _jobs_and_copies(run) -> None:
    status, out, _ = run("backup", "-m", "sys2")
    assert status == 0
    assert out.splitlines()[-1] == "job 1 (backup sys2): done, 2 of 2"
    status, out, _ = run("backup", "-m", "sys2", "--json")
    first, last = map(json.loads, out.splitlines())
    assert (status, first["number"], first["state"], last["number"], last["state"]) == (
        0,
        2,
        "running",
        2,
        "done",
    )
    status, out, _ = run("jobs", "2", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [last]
    assert run("jobs", "1")[1].endswith("job 1 (backup sys2): done, 2 of 2\n")
    assert [line.split()[:4] for line in run("jobs")[1].splitlines()[1:]] == [
        [number, "backup", "sys2", "done"] for number in "12"
    ]
    copies = json.loads(run("copies", "-m", "sys2", "--json")[1])
    assert {each["partition"] for each in copies} == {"lpar1", "lpar3"}
    assert len({each["trusted_key_id"] for each in copies}) == 1
    assert "lpar3" in run("copies", "-m", "sys2")[1]
    sys2 = json.loads(run("systems", "--json")[1])[1]
    assert (sys2["without_copy"], sys2["age"] < 600) == ([], True)
    assert "; oldest copy " in run("status", "-m", "sys2")[1].splitlines()[-1]


def _away_and_removed(run) -> None:
    status, _, err = run("health", "-m", "sys2", "--timeout", "20")
    assert status == 3
    assert "sys2 is away since 20" in err
    assert "No Connection (Operating)" in run("systems")[1]
    status, out, _ = run("remove-system", "sys2")
    assert status == 0
    assert "sys2 still has the id of this console" in out
    status, out, _ = run("status")
    assert status == 0
    assert "console: " in out.splitlines()[-1]
    assert run("remove-system", "sys1")[0] == 0
    assert run("status")[1].startswith("no systems; add one")


@pytest.mark.process
def test_lines_through_the_links(two, run, tmp_path) -> None:
    """Scripts of the real console run with the folder of links in PATH and without other changes."""
    folder = tmp_path / "links"
    assert run("links", folder, "--store", two.store)[0] == 0
    for words in (["links", folder, "--json"], ["--json", "links", folder]):
        reported = json.loads(run("--store", two.store, *words)[1])
        assert (reported["folder"], sorted(reported["commands"])) == (str(folder), sorted(names.LINES))

    def shell(line: str) -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/sh", "-c", line], env={"PATH": str(folder)}, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    assert shell("lssyscfg -r sys -F name") == (0, "sys1\nsys2\n")
    assert shell("lssyscfg -r lpar -m sys1 -F name lpar_id") == (0, "lpar1 1\n")
    status, out = shell("lssyscfg -r lpar -m nobody")
    assert (status, "nobody" in out) == (1, True)
    key = tmp_path / "key"
    key.write_bytes(bytes(31))
    status, out = shell(f"chtskey -m sys1 -o change --newkey {key}")
    assert status == 1
    key.write_bytes(bytes(range(32)))
    assert shell(f"chtskey -m sys1 -o change --newkey {key}")[0] == 0
    status, out = shell(f"chtskey -m sys1 -o change --newkey {key}.gone")
    assert (status, "No such file" in out) == (1, True)
    assert list(Path(folder).glob("*.pyc")) == []


@pytest.mark.process
def test_a_job_outlives_its_console(console, systems, run, environment) -> None:
    """A stop of the console ends the command that follows a job. The job continues at the next start."""
    environment.setenv("SWPKS_HMC", str(console.store))
    console.systems = [str(systems[0].start().control_socket)]
    console.start().log_lines("system.added")
    systems[0].kill()
    console.log_lines("system.away")
    command = [sys.executable, "-m", "swpks", "hmc", "recover"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stdout
        assert follower.stderr
        while "waits: " not in follower.stdout.readline():
            pass
        assert "job 1 (recover) of sys1 runs" in run("backup")[2]
        assert console.stop() == 0
        assert ": a console that stops" in follower.stderr.read()
        assert follower.wait(20) == 1
    console.start()
    assert json.loads(run("jobs", "--json")[1])[0]["state"] == "running"
    systems[0].start()
    status, out, err = run("jobs", "1")
    assert status == 1, err
    assert "job 1 (recover sys1): failed" in out.splitlines()[-1]


@pytest.mark.process
def test_verbs_of_the_system_stay_as_they_were(systems, run) -> None:
    """Verbs about keys go to a system's control socket without any console."""
    state = systems[0].start().state
    assert run("--state", state, "lstskey")[0] == 0
    assert run("status", "--socket", systems[0].control_socket)[0] == 0
    assert run("delete", "lpar1", "--state", state)[0] == 1
