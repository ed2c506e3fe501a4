"""The SSH doors as processes: escapes, clients, sessions, starts and stops (spec/console.md#the-ssh-door)."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import paramiko  # type: ignore[import-untyped]
import pytest

from swpks.hmc.sshd import layout
from swpks.hmc.sshd.password_door import MAX_CONNECTIONS
from swpks.hmc.sshd.passwords import TRIES
from swpks.testing.own_process import run_swpks
from tests.hmc.doors import LOGIN, NO_HOST_CHECK, PASSWORD, DoorProcess, Doors, Shell, connected, own_user

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

ESCAPES = r"""
sed '1e id' <<<a|sed 'e id' <<<a|sed 'w /tmp/swpks-out' <<<a|sed 's/a/id/e' <<<a|sed 'r /etc/passwd' <<<a
sed -f /etc/passwd|sed -i p key|sort -o out <<<a|sort --comp=id <<<a|sort -T /tmp <<<a
sort --files0-from=-|cat /etc/passwd|cat key|grep -f /etc/passwd x|grep -r root|tail --pid=1 -f key
wc --files0-from=key|head -1 key|head -9c key|tail -9c /etc/passwd|/bin/id|id|bash|sh -c id|env id
python3 -c 1|exec id|exec -a x /bin/id
cd /|pushd /|. /etc/profile|. swpks-line|source /etc/profile|command -p id|command -p cat /etc/passwd
hash -p /bin/id x; x|enable kill|enable -f x y|builtin kill -0 1|kill -9 1|history -r /etc/passwd|fc -e id
bind -f /etc/passwd|mapfile -t x|readarray -t x|compgen -f /etc/|ulimit -c 1|umask 0
shopt -u restricted_shell|set +r; /bin/id|set +o restricted; /bin/id|PATH=/bin id|export PATH=/bin; id
declare -n p=PATH; p=/bin; id|read PATH <<</bin; id|printf -v PATH /bin; id|BASH_CMDS[x]=/bin/id; x
printf -v 'BASH_CMDS[x]' /bin/id; x|alias x=/bin/id; x|x() { /bin/id; }; x|echo a >out|echo a >>out
echo a &>out|echo a 1<>out|: 3<>/dev/tcp/127.0.0.1/1|echo a >&/dev/tcp/x/1|export LD_PRELOAD=/x
export LD_DEBUG=1|BASH_ENV=/etc/profile lshmc; export BASH_ENV=/x|scp -t /tmp|sftp-server
/usr/lib/openssh/sftp-server|chtskey -m s -o change --newkey /etc/passwd|export SHELLOPTS=x
trap 'kill -9 1' EXIT; false|coproc /bin/id; wait $COPROC_PID|suspend|disown
command_x() { exec id; }; command_x
""".strip().replace("\n", "|")
"""Lines that must fail, and print nothing of a file or of the program `id`.  `>|` is written apart."""


def escapes() -> list[str]:
    """Return the lines; the redirection `>|` has the separator in it."""
    return [*ESCAPES.split("|"), "echo a >|out", "id | cat; false"]


@pytest.fixture(scope="module")
def doors(tmp_path_factory) -> Iterator[Doors]:
    """The processes of this module."""
    made = Doors(tmp_path_factory.mktemp("d"))
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def shell(doors) -> Iterator[Shell]:
    """One connection of paramiko to the door with passwords."""
    with connected(doors.passwords) as client:
        yield Shell(client)


def test_the_ready_line(doors) -> None:
    """The fields are those that a script needs, and both doors have the same host key."""
    ready, other = doors.passwords.ready, doors.keys.ready
    assert set(ready) == {"version", "pid", "store", "host", "port", "fingerprint", "user", "login"}
    assert (ready["login"], other["login"], ready["pid"]) == ("passwords", "keys", doors.passwords.pid)
    found = subprocess.run(
        ["ssh-keygen", "-l", "-f", doors.console.store / "ssh" / layout.HOST_KEY],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ready["fingerprint"] == other["fingerprint"] == found.stdout.split()[1]
    assert PASSWORD not in Path(f"/proc/{ready['pid']}/cmdline").read_text()


def test_no_escape_by_the_door_with_passwords(doors, shell) -> None:
    """Each known escape fails, leaves no file, and prints nothing of the host."""
    secret = doors.console.store / "files" / "key"
    secret.write_text("CANARY\n")
    for line in escapes():
        status, out, err = shell.run(line)
        assert (line, status == 0) == (line, False), (out, err)
        assert "root:" not in out + err, line
        assert "CANARY" not in out + err, line
        assert "uid=" not in out + err, line
    assert [path.name for path in secret.parent.iterdir()] == ["key"]
    assert not Path("/tmp/swpks-out").exists()


def test_no_escape_by_the_door_with_keys(doors) -> None:
    """The other door has the same shell: all escapes in one session."""
    lines = "\n".join(f"( {line}\n) </dev/null && echo ESCAPED" for line in escapes())
    done = doors.keys.ssh(f"{lines}\necho REACHED", sshpass=False)
    assert "ESCAPED" not in done.stdout
    assert done.stdout.endswith("REACHED\n")
    assert not re.search(r"root:|uid=|CANARY", done.stdout + done.stderr)
    for option in ("-W127.0.0.1:1", "-oRequestTTY=no"):
        words = ("sftp",) if option.startswith("-o") else ()
        assert doors.keys.ssh(*words, sshpass=False, options=["-s"] if words else [option]).returncode != 0


def test_holes_that_stay_are_those_of_the_page(shell) -> None:
    """Input redirection and globs read as the user: spec/threats.md states it."""
    assert shell.run("read line </proc/self/comm; echo $line")[1] == "bash\n"
    assert shell.run("echo /proc/self/com*")[1] == "/proc/self/comm\n"


def test_files_of_lines(doors, shell) -> None:
    """FILE is a name below STORE/files: a path, a link and a hidden file are refused."""
    files = doors.console.store / "files"
    (files / "records").write_text("name=lpar1,auto_start=1\n")
    (files / "link").symlink_to("/etc/passwd")
    assert shell.run("chsyscfg -r lpar -m sys1 -f records") == (0, "", "")
    for name in ("/etc/passwd", "../console.sqlite", "link", ".x"):
        status, out, _ = shell.run(f"chsyscfg -r lpar -m sys1 -f {name}")
        assert (status, "this door" in out) == (1, True), out
    assert shell.run("bkprofdata -m sys1 -f monday")[0] == 0
    assert shell.run("bkprofdata -m sys1 -f /tmp/swpks-monday")[0] == 1


def test_outputs_are_whole(doors, shell) -> None:
    """Short and long outputs, both streams, input and its end, and the exit status."""
    for _ in range(20):
        assert shell.run("echo short; exit 3") == (3, "short\n", "")
    status, out, err = shell.run("for i in {1..40000}; do echo xxxxxxxxxxxxxxxxxxxxxxxxx; done; nope; exit 4")
    assert (status, len(out), "nope: command not found" in err) == (4, 40000 * 26, True)
    assert shell.run("cat | wc -c", b"x" * 300_000) == (0, "300000\n", "")
    assert shell.run("sleep 1000 & echo begun") == (0, "begun\n", "")


def _processes(text: str) -> list[int]:
    """Return the processes whose command line has this text."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if text in words and int(path.name) != os.getpid():
                found.append(int(path.name))
    return found


def _until(true) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "the condition never became true"
        time.sleep(0.02)


def test_a_client_that_goes_away_leaves_nothing(doors) -> None:
    """The command of a lost client ends, by each door; so does a job in the background."""
    with connected(doors.passwords) as client:
        _, stdout, _ = client.exec_command("sleep 12345 & echo on; sleep 12346")
        assert stdout.readline() == "on\n"
        _until(lambda: len(_processes("sleep 1234")) >= 2)
    _until(lambda: not _processes("sleep 1234"))
    key = ["-i", str(doors.folder / "key"), "-p", str(doors.keys.port)]
    options = ["-q", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"]
    with subprocess.Popen(
        ["ssh", *options, *key, f"{doors.keys.ready['user']}@127.0.0.1", "sleep 12347"]
    ) as client:
        _until(lambda: [pid for pid in _processes("sleep 12347") if pid != client.pid])
        client.kill()
    _until(lambda: not _processes("sleep 12347"))


def test_ended_jobs_leave_no_zombie(doors, shell) -> None:
    """A session may start many short processes: the door collects each, while the session runs."""
    with connected(doors.passwords) as client:
        _, stdout, _ = client.exec_command("for i in {1..50}; do (sleep 0 &) ; done; echo on; sleep 9")
        assert stdout.readline() == "on\n"
        _until(lambda: not _zombies(doors.passwords.pid))
    assert shell.run("echo still")[1] == "still\n"


def _zombies(parent: int) -> list[str]:
    """Return the ended children of a process that it has not collected."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                state, above = (path / "stat").read_text().rpartition(")")[2].split()[:2]
                if (state, above) == ("Z", str(parent)):
                    found.append(path.name)
    return found


def test_commands_that_cannot_start(shell) -> None:
    """A command that is too long or has a NUL gets its reason."""
    for command in ("echo " + "x" * 140_000, "echo a\0b"):
        status, out, err = shell.run(command)
        assert (status, out, "the command can't be started" in err) == (255, "", True)


def test_silent_connections_keep_nobody_out(doors) -> None:
    """One connection too many ends the oldest that has not logged in."""
    address = (doors.passwords.host, doors.passwords.port)
    with ExitStack() as stack:
        first, *_ = [stack.enter_context(socket.create_connection(address)) for _ in range(MAX_CONNECTIONS)]
        with connected(doors.passwords) as client:
            assert Shell(client).run("echo in")[1] == "in\n"
        first.settimeout(20)
        while first.recv(4096):
            pass


def test_a_terminal(doors) -> None:
    """The prompt, `echo $?`, Ctrl-C, and the size of the window."""
    with connected(doors.passwords) as client:
        channel = client.invoke_shell("xterm", width=123, height=45)
        channel.settimeout(20)
        seen = _expect(channel, "", f"{LOGIN}@hmc:~> ")
        assert "\x1b" not in seen
        assert "1\r\n" in _expect(channel, "nope; false; echo $?\n", "\r\n1\r\n")
        channel.send(b"sleep 12399\n")
        _until(lambda: _processes("sleep 12399"))
        _expect(channel, "\x03", f"{LOGIN}@hmc:~> ")
        assert "130" in _expect(channel, "echo $?\n", "130\r\n")
        assert "123" in _expect(channel, 'echo "[$COLUMNS]"\n', "[123]")
        channel.resize_pty(width=77, height=45)
        _expect(channel, "sleep 0.1\n", f"{LOGIN}@hmc:~> ")
        _expect(channel, 'echo "[$COLUMNS]"\n', "[77]")
        channel.send(b"exit 5\n")
        assert channel.recv_exit_status() == 5


def _expect(channel: paramiko.Channel, send: str, text: str) -> str:
    """Send text, and return the output up to `text`."""
    channel.send(send.encode())
    seen = ""
    while text not in seen:
        data = channel.recv(4096)
        assert data, seen
        seen += data.decode()
    return seen


def test_wrong_passwords_are_slow_and_few(doors) -> None:
    """Each wrong password costs a second, and the sixth ends the connection.  The log has no password."""
    asked = doors.folder / "asked"
    answer = doors.folder / "answer"
    answer.write_text(f"#!/bin/sh\necho asked >>{asked}\necho CANARY-PASSWORD\n")
    answer.chmod(0o700)
    begun = time.monotonic()
    done = subprocess.run(
        ["ssh", *NO_HOST_CHECK, "-o", "NumberOfPasswordPrompts=20", "-o", "PubkeyAuthentication=no",
         "-p", str(doors.passwords.port), f"{LOGIN}@{doors.passwords.host}", "true"],
        env={**os.environ, "SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force"},
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, len(asked.read_text().splitlines())) == (255, TRIES)
    assert time.monotonic() - begun > TRIES - 0.5
    doors.passwords.log_lines("login.rejected")
    assert "CANARY-PASSWORD" not in doors.passwords.log
    assert PASSWORD not in doors.passwords.log


def test_no_forwarding(doors) -> None:
    """The door with passwords opens no connection, and has no subsystem."""
    with connected(doors.passwords) as client:
        transport = client.get_transport()
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", doors.keys.port), ("127.0.0.1", 1))
        with pytest.raises((paramiko.SSHException, EOFError)):
            client.open_sftp()


def test_op_test(doors) -> None:
    """Op-test: paramiko with a password; a refusal comes again through sshpass and a terminal."""
    # In a text of Python, op-test writes three backslashes and an n: a backslash and a newline for the shell.
    pipe = 'lssyscfg -r lpar -m sys1 --filter "lpar_names=lpar1" | sed s/,/\
/g | grep "secure_boot\\|keystore"'
    with connected(doors.passwords) as client:
        assert "keystore_kbytes=64" in Shell(client).run(pipe)[1]
        refused = 'lssyscfg -r lpar -m sys1 --filter "lpar_names=nope"'
        assert Shell(client).run(refused)[:2] == (1, "HSCL8012 The partition named nope was not found.\n")
    again = doors.passwords.ssh(data=f"PS1=[pexpect]#\n{refused}\necho $?\nexit\n", options=["-tt"])
    assert "HSCL8012 The partition named nope was not found.\n" in again.stdout
    assert re.search(r"^1\r?$", again.stdout, re.MULTILINE)


def test_op_test_at_port_22(doors) -> None:
    """An address of loopback of its own, with port 22: only root can bind it, and CI runs as root.

    Another user gets the refusal of the system.
    """
    secrets = doors.folder / "passwords"
    door = DoorProcess(
        doors.console.store, "--password-file", str(secrets), listen="127.0.22.7:22", name="port22"
    )
    if os.geteuid() != 0:
        done = run_swpks(door.command)
        assert (done.returncode, b"Permission denied" in done.stderr) == (2, True)
        return
    try:
        door.spawn()
        with connected(door) as client:
            assert Shell(client).run("lssyscfg -r sys -F name") == (0, "sys1\n", "")
    finally:
        door.kill()


def test_openqa(doors) -> None:
    """Its loop with `grep -q` runs in the shell of the door, by both doors."""
    loop = (
        'for i in {0..24}; do lssyscfg -m sys1 -r lpar --filter ""lpar_ids=2"" -F state '
        "| grep -q 'Not Activated' && echo 'LPAR 2 is down' && break || echo 'Waiting' && sleep 5; done"
    )
    off = doors.keys.ssh("chsysstate -o shutdown --immed -r lpar -n lpar2 -m sys1", sshpass=False)
    assert (off.returncode, off.stdout) == (0, "")
    for door, password in ((doors.passwords, True), (doors.keys, False)):
        assert door.ssh(loop, sshpass=password).stdout == "LPAR 2 is down\n"


def test_ansible(doors) -> None:
    """The whole command in single quotes, and an alias of ssh_config for the port."""
    file = doors.folder / "ssh_config"
    file.write_text(
        f"Host hmc\n  HostName 127.0.0.1\n  Port {doors.passwords.port}\n  StrictHostKeyChecking no\n"
        "  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n  PubkeyAuthentication no\n"
    )
    line = 'lssyscfg -r lpar -m sys1 --filter "\\"lpar_names=lpar1,lpar2\\"" -F name,lpar_id'
    done = subprocess.run(
        f"sshpass -p {PASSWORD} ssh -F {file} '{LOGIN}'@hmc '{line}'",
        shell=True, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "lpar1,1\nlpar2,2\n", "")


def test_a_stop_ends_sessions_at_once(doors) -> None:
    """SIGTERM ends a door within seconds, with status 0, and its sessions with it."""
    for door in (doors.passwords, doors.keys):
        with_password = door is doors.passwords
        login = ["sshpass", "-p", PASSWORD] if with_password else []
        key = ["-o", "PubkeyAuthentication=no"] if with_password else ["-i", str(doors.folder / "key")]
        user = LOGIN if with_password else door.ready["user"]
        options = ["-q", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"]
        with subprocess.Popen(
            [*login, "ssh", *options, *key, "-p", str(door.port), f"{user}@127.0.0.1", "sleep 12388"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as client:  # fmt: skip
            _until(lambda: len([p for p in _processes("sleep 12388") if _is_sleep(p)]) == 1)
            begun = time.monotonic()
            os.kill(door.pid, signal.SIGTERM)  # `timeout` and a closed terminal send their signal twice
            assert door.stop() == 0
            assert time.monotonic() - begun < 3
            assert client.wait(20) != 0
        _until(lambda: not _processes("sleep 12388"))
        assert (
            not (doors.console.store / "ssh" / f"sshd_config.127.0.0.1.{doors.keys.port}").exists()
            or with_password
        )
        door.spawn()


def _is_sleep(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    except OSError:
        return False


def test_a_console_that_is_down(doors) -> None:
    """The line reports it, with the command that starts the console.  It is the last test of the module."""
    doors.console.stop()
    try:
        done = doors.passwords.ssh("lssyscfg -r sys; echo $?")
        assert (done.stdout, "start it: swpks hmc serve --store" in done.stderr) == ("1\n", True)
    finally:
        doors.console.start()


def test_refused_starts(doors, tmp_path) -> None:
    """A refusal has its rule, and exit status 2."""
    store = str(doors.console.store)
    cases = {
        "door.listen": ["--store", store, "--listen", "0.0.0.0:0"],
        "door.store": ["--store", str(tmp_path), "--listen", "127.0.0.1:0", *own_user()],
        "door.passwords": ["--store", store, "--listen", "127.0.0.1:0", *own_user(), "--password-file", "no"],
        "door.user": ["--store", store, "--listen", "127.0.0.1:0", "--user", "no-such-user"],
    }
    if os.geteuid() == 0:
        cases["door.user"] = ["--store", store, "--listen", "127.0.0.1:0"]
        cases["door.store"] = ["--store", store, "--listen", "127.0.0.1:0", "--user", "nobody"]
    for rule, words in cases.items():
        done = run_swpks(["hmc", "sshd", *words])
        assert (rule, done.returncode) == (rule, 2), done.stderr
        assert f"[{rule}".encode() in done.stderr or rule.encode() in done.stderr
