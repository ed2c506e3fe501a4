"""The console as a process: start, lock, socket, stop, kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_server import __version__
from swpks.cli.main import main
from swpks.hmc.line_client import NoConsole, Wire
from swpks.hmc.store_folder import StoreFolder
from swpks.hmc.views import KnownSystemView
from swpks.testing import ConsoleProcess, ServerFailed
from swpks.testing.own_process import run_swpks
from tests.hmc.plant import until
from tests.service.folder import assembled

pytestmark = pytest.mark.process


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.lstat().st_mode)


def failed(console: ConsoleProcess) -> str:
    """Start a console that must fail; return its log."""
    with pytest.raises(ServerFailed):
        console.start()
    return console.log


def test_a_start_makes_a_private_store(console) -> None:
    """The ready line has all that a script needs, and no other user may enter the folder."""
    ready = console.start().ready
    assert set(ready) == {"version", "pid", "store", "socket", "console", "systems", "away"}
    assert (ready["version"], ready["pid"]) == (__version__, console.pid)
    assert (ready["store"], ready["socket"]) == (str(console.store), str(console.socket))
    assert (ready["systems"], ready["away"]) == ([], [])
    assert {mode(console.store / name) for name in ("", "run", "profiles")} == {0o700}
    assert {mode(console.store / name) for name in ("console.sqlite", "run/console.sock")} == {0o600}
    assert f"console {ready['console']} is ready at {console.socket}: no system yet" in console.log
    assert console.stop() == 0
    assert not console.socket.exists()


def test_the_identity_survives_a_kill(console, systems) -> None:
    """After a kill the console has its identity and its systems, and replaces its old socket."""
    first = console.start().ready["console"]
    systems[0].start()
    order = console.console().order
    order(KnownSystemView, "add-system", where=str(systems[0].control_socket), name="sys1")
    console.kill()
    assert console.socket.exists()
    assert console.start().ready["console"] == first
    assert console.ready["systems"] == ["sys1"]
    console.console().order(object, "remove-system", name="sys1")
    console.kill()
    assert console.start().ready["systems"] == []


def test_one_console_uses_a_store(console) -> None:
    """The error of a second console names the first process. The first one keeps its socket."""
    console.start()
    other = ConsoleProcess(console.store)
    other.log_path = console.store.with_name("other.log")
    reported = failed(other)
    assert f"process {console.pid} uses {console.store}" in reported
    assert "rule hmc.store-owner" in reported
    assert console.hmc("systems").startswith("no systems")


def test_a_folder_of_other_things_is_no_store(console) -> None:
    """The console accepts no folder with foreign files as its store: it names the rule, and exits with 2."""
    console.store.mkdir(0o755)
    (console.store / "letter").touch()
    reported = failed(console)
    assert "holds other things" in reported
    assert "rule hmc.store-folder" in reported
    assert console.wait() == 2


def refused_folder(folder: Path) -> str:
    """Return the reason why a folder is refused as a store."""
    with pytest.raises(OperatorError) as caught:
        StoreFolder(folder)
    assert caught.value.rule is rules.HMC_STORE_FOLDER
    return caught.value.message


def test_folders_that_are_no_store(tmp_path) -> None:
    """A state, a link and a folder that others may enter are refused as a store, before the start."""
    store, state, link = tmp_path / "hmc", tmp_path / "state", tmp_path / "link"
    with StoreFolder(store):
        pass
    store.chmod(0o755)
    assert "has mode 0755" in refused_folder(store)
    with assembled(state):
        pass
    assert "is the state folder of a system" in refused_folder(state)
    link.symlink_to(store)
    assert "is a symbolic link" in refused_folder(link)


def test_another_file_in_the_socket_s_place_is_left_alone(console) -> None:
    """A file that is no socket, at the path of the socket, stays; the start is refused."""
    console.start()
    console.stop()
    console.socket.write_text("letter")
    assert "is in the way" in failed(console)
    assert console.socket.read_text() == "letter"


def test_a_damaged_store_says_so(console) -> None:
    """A damaged store gives exit status 3 and a message with the remedy."""
    console.start()
    console.stop()
    (console.store / "console.sqlite").write_bytes(b"x" * 8192)
    reported = failed(console)
    assert "rule hmc.store-file" in reported
    assert console.wait() == 3


def waiting(console: ConsoleProcess, folder: Path) -> Wire:
    """Return a command whose line waits for a file."""
    key = str(folder / "key")
    wire = Wire(str(console.store), 20)
    wire.send({"line": ["chtskey", "-m", "sys1", "-o", "change", "--newkey", key]})
    assert wire.receive()["read"] == key
    return wire


def accepts(console: ConsoleProcess) -> bool:
    """Return whether the console's socket accepts a new command."""
    try:
        Wire(str(console.store)).close()
    except NoConsole:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_tells_a_command_that_waits(console, systems, tmp_path, number) -> None:
    """A stop tells a waiting command that the console stops. A second signal ends the command at once.

    The exit status of the console is 0.
    """
    console.systems = [f"sys1={systems[0].start().control_socket}"]
    console.start().log_lines("system.added")
    wire = waiting(console, tmp_path)
    os.kill(console.pid, number)
    console.log_lines("console.stopping")
    # The console may write the log line before it closes the socket.
    until(lambda: not accepts(console))
    os.kill(console.pid, number)
    assert "the console stops" in wire.receive()["say"]
    assert wire.receive() == {"exit": 1}
    wire.close()
    assert console.wait() == 0
    assert console.log_lines("console.stopped")
    assert console.log_lines("console.stops_at_once")


def test_a_kill_leaves_a_command_with_a_clear_line(console, systems, tmp_path) -> None:
    """A kill of the console ends the command with one clear line."""
    console.systems = [f"sys1={systems[0].start().control_socket}"]
    console.start().log_lines("system.added")
    os.mkfifo(tmp_path / "key")
    with (tmp_path / "key").open("r+b", buffering=0) as pipe:
        words = ["hmc", "chtskey", "-m", "sys1", "-o", "change", "--newkey", str(tmp_path / "key")]
        command = subprocess.Popen(
            [sys.executable, "-m", "swpks", *words],
            env=os.environ | {"SWPKS_HMC": str(console.store)},
            stderr=subprocess.PIPE,
        )
        # This client connects second. The console has then accepted the command's connection.
        wire = waiting(console, tmp_path)
        console.kill()
        pipe.write(b"\n" * 32)
        wire.close()
        _, reported = command.communicate(timeout=20)
    assert command.returncode == 1
    assert b"Traceback" not in reported


def test_a_system_that_is_away_does_not_hinder_the_start(console, systems) -> None:
    """The console starts while a system is absent, and connects to it when it answers."""
    place = systems[0].control_socket
    console.systems = [f"sys1={place}"]
    assert console.start().ready["systems"] == []
    advice = f"start it: `swpks serve --state {systems[0].state}`"
    (away,) = console.ready["away"]
    assert (away["name"], away["place"], away["advice"]) == ("sys1", str(place), advice)
    reported = (
        f"sys1 at {place} is not connected: {away['trouble']}; {advice}; the console goes on dialling\n"
    )
    # The console prints both lines on standard output.
    assert f"console.sock: no system yet\n{reported}" in console.log
    shown = console.hmc("status").splitlines()
    assert shown[-1] == f"sys1 was not reached yet: {away['trouble']}; {advice}"
    console.log_lines("system.not_reached")
    systems[0].start()
    console.log_lines("system.added")
    assert [each.name for each in known(console)] == ["sys1"]
    systems[0].kill()
    assert console.restart().ready["systems"] == ["sys1"]
    assert [(each["name"], each["advice"]) for each in console.ready["away"]] == [("sys1", advice)]
    (system,) = known(console)
    assert (system.connected, system.trouble != "", system.advice) == (False, True, advice)
    listed = console.hmc("lssyscfg", "-r", "sys", "-F", "name,state,trouble").strip()
    assert listed == f"sys1,No Connection,{system.trouble}; {advice}"


def known(console: ConsoleProcess) -> list[KnownSystemView]:
    """Return the systems that a console shows."""
    return console.console().order(list[KnownSystemView], "systems")


def test_a_wrong_name_of_a_system_ends_the_start(console, systems) -> None:
    """If a system does not have the name of the option, the start fails."""
    console.systems = [f"other={systems[0].start().control_socket}"]
    reported = failed(console)
    assert "is called 'sys1', not 'other'" in reported
    assert console.wait() == 2


@pytest.mark.parametrize(
    "options,text",
    [
        (["--system", "="], "is not [NAME=]WHERE"),
        (["--tls-cert", "a"], "go together"),
        (["--keep-copies", "0"], "is no number of copies"),
        (["--ready-fd", "999"], "rule ready.descriptor"),
        (["--insecure-listen"], "there is no --page"),
    ],
)
def test_options_that_make_no_sense(tmp_path, capfd, options, text) -> None:
    """Options that make no sense give exit status 2 and the reason, and nothing is made.

    The command runs in this process, because it does not start a console.
    """
    try:
        status = main(["hmc", "serve", "--store", str(tmp_path / "s"), *options])
    except SystemExit as ended:
        status = int(ended.code or 0)
    reported = capfd.readouterr()
    assert (status, reported.out) == (2, "")
    assert text in reported.err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "where,text",
    [
        ("sys1=https://nowhere", "neither a path nor https://HOST:PORT"),
        ("https://localhost:1", "needs a certificate"),
    ],
)
def test_places_that_make_no_sense(console, where, text) -> None:
    """Addresses that only a start can check give exit status 2 too."""
    console.systems = [where]
    assert text in failed(console)
    assert console.wait() == 2


def test_its_memory_is_not_for_others(console) -> None:
    """The process of the console allows no core dump."""
    console.start()
    limits = Path(f"/proc/{console.pid}/limits").read_text()
    (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core[4] == "0"
    assert Path(f"/proc/{console.pid}").stat().st_uid == os.geteuid()


def test_a_path_that_is_too_long_for_a_socket(tmp_path) -> None:
    """A socket's path that is too long is refused with advice for another path."""
    refused = run_swpks(["hmc", "serve", "--store", str(tmp_path / ("d" * 100))])
    assert b"rule socket.path" in refused.stderr


def test_garbage_on_the_socket(console) -> None:
    """The console answers or drops garbage on its socket, and goes on."""
    console.start()
    for data in (b"\0" * 1000 + b"\n", b"GET / HTTP/1.1\r\n\r\n", b'{"line": ["lshmc"', b""):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(console.socket))
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.makefile("rb").read()
        assert (b"hmc.wire" in answer) == (b"\n" in data)
    assert console.log_lines("command.rejected", least=2)
    assert console.hmc("systems").startswith("no systems")


def test_a_store_that_is_removed_takes_no_more(console, systems) -> None:
    """A console whose store was removed accepts no change, and says so."""
    console.systems = []
    console.start()
    systems[0].start()
    moved = console.store.rename(console.store.with_name("moved"))
    done = ConsoleProcess(moved).run("add-system", str(systems[0].control_socket))
    assert done.returncode == 1
    assert b"hmc.store-written" in done.stderr
    shutil.rmtree(moved, ignore_errors=True)
