"""The systemd units of contrib/: correct, hardened, and a server that a first connection starts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import swpks
from hcall_client.console import BlockingConsole, show_system
from tests.contrib.under_unit import allowed
from tests.debian.reporting import needed
from tests.spec.markdown import ROOT, SPEC

UNITS = ROOT / "contrib" / "systemd"
INSTALLED = "/opt/swpks/bin/swpks"
SERVICE = (UNITS / "swpks.service").read_text("utf-8")
SOCKETS = ("swpks.socket", "swpks-control.socket")
CLUSTER = (UNITS / "swpks-cluster.service").read_text("utf-8")
UNDER = [sys.executable, str(Path(__file__).with_name("under_unit.py"))]
UNDER_UNIT = [*UNDER, str(UNITS / "swpks.service")]
OS = swpks.Authorization(3)
KEY = b"label"


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; return its status and output."""
    program = needed("systemd-analyze", shutil.which("systemd-analyze"))
    command = [program, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def value(unit: str, name: str) -> str:
    """Return the value of a setting that a unit has once."""
    (found,) = re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)
    return found


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units in a folder; the service starts a command that exists on this machine."""
    folder = tmp_path / "units"
    folder.mkdir()
    for unit in UNITS.iterdir():
        text = unit.read_text("utf-8").replace(INSTALLED, sys.executable)
        (folder / unit.name).write_text(text, "utf-8")
    return folder


def test_systemd_finds_no_mistake(units: Path) -> None:
    """systemd reads each unit without a warning: names of settings, values, and references between units."""
    done = analyze("verify", "--man=no", *sorted(units.iterdir()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_mistake_is_found(units: Path) -> None:
    """The check above can fail: a wrong name and a wrong value are warnings."""
    service = units / "swpks.service"
    service.write_text(SERVICE.replace("ProtectHome=yes", "ProtectHome=maybe\nProtectHouse=yes"), "utf-8")
    warnings = analyze("verify", "--man=no", service).stderr
    assert "ProtectHouse" in warnings
    assert "maybe" in warnings


def test_the_service_is_hardened(units: Path) -> None:
    """systemd's own rating of the exposure is at most 1.0 of 10; without the settings it is above 8."""
    service = units / "swpks.service"
    done = analyze("security", "--offline=true", "--threshold=10", "--no-pager", service)
    assert done.returncode == 0, done.stdout
    bare = re.sub(
        r"^(?:Protect|Private|Restrict|SystemCall|Capab|NoNew|Lock|Memory).*$", "", SERVICE, flags=re.M
    )
    service.write_text(bare.replace(INSTALLED, sys.executable), "utf-8")
    assert analyze("security", "--offline=true", "--threshold=50", "--no-pager", service).returncode != 0


def test_the_service_of_a_cluster_is_hardened_as_well(units: Path) -> None:
    """R-85: it has each setting of the plain service, except those that take the network away."""
    done = analyze(
        "security", "--offline=true", "--threshold=20", "--no-pager", units / "swpks-cluster.service"
    )
    assert done.returncode == 0, done.stdout
    hardening = SERVICE.partition("# Files:")[2].partition("[Install]")[0]
    own = set(CLUSTER.splitlines())
    missing = {line for line in hardening.splitlines()[1:] if line and line[0] != "#"} - own
    assert missing == {"RestrictAddressFamilies=AF_UNIX", "IPAddressDeny=any"}


def test_a_boot_does_not_wait_for_a_standby() -> None:
    """R-85: the start of a standby has no time-out, and comes after the target that wants it."""
    assert value(CLUSTER, "Type") == "notify"
    assert value(CLUSTER, "TimeoutStartSec") == "infinity"
    assert value(CLUSTER, "WantedBy") in value(CLUSTER, "After").split()
    assert value(CLUSTER, "ExecStart").endswith(" --standby")


def test_each_socket_has_its_name_and_is_private() -> None:
    """A socket unit names its owner, belongs to the service, and is closed to other users.

    The group of a partition's socket may not use the control channel.
    """
    assert {value((UNITS / name).read_text("utf-8"), "FileDescriptorName") for name in SOCKETS} == {
        "lpar1",
        "control",
    }
    for name in SOCKETS:
        unit = (UNITS / name).read_text("utf-8")
        assert value(unit, "SocketMode") == "0660"
        assert value(unit, "Service") == "swpks.service"
    groups = [value((UNITS / name).read_text("utf-8"), "SocketGroup") for name in SOCKETS]
    assert groups == ["swpks", "swpks-admin"]
    # systemd does not start a socket whose group is missing, so the lines of the installation make each one.
    assert "useradd --system --user-group " in SERVICE
    assert "groupadd --system swpks-admin\n" in SERVICE
    assert value(SERVICE, "Sockets").split() == list(SOCKETS)


def test_the_page_has_the_same_units() -> None:
    """spec/service.md shows the units of contrib/."""
    page = (SPEC / "service.md").read_text("utf-8")
    shown = re.findall(r"^```ini\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown == [(UNITS / name).read_text("utf-8") for name in ("swpks.service", *SOCKETS)]


def test_the_filter_is_that_of_the_unit() -> None:
    """The filter of the next test permits what a server needs, and no call that the unit excludes."""
    calls = allowed(SERVICE)
    assert {"openat", "accept4", "fsync", "execve", "clone3"} <= calls
    assert not {"mount", "ptrace", "chown", "setuid", "bpf", "reboot"} & calls


def test_the_filter_is_in_force() -> None:
    """Under the rules of the unit a process makes sockets of Unix, and none of the network."""
    code = "import socket; socket.socket(socket.AF_UNIX).close(); socket.socket()"
    done = subprocess.run(
        [*UNDER_UNIT, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr.endswith("PermissionError: [Errno 1] Operation not permitted\n")


@contextmanager
def activated(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Path]]]:
    """For the length of a block, the sockets of the units; the first connection starts the server.

    The server has the command line of the service, and its filters.
    """
    activate = needed("systemd-socket-activate", shutil.which("systemd-socket-activate"))
    texts = [(UNITS / name).read_text("utf-8") for name in SOCKETS]
    paths = {
        value(each, "FileDescriptorName"): folder / Path(value(each, "ListenStream")).name for each in texts
    }
    words = shlex.split(value(SERVICE, "ExecStart").replace("/var/lib/swpks", str(folder / "state")))
    assert words[0] == INSTALLED
    listeners = [word for path in paths.values() for word in ("-l", str(path))]
    kept = [f"--setenv={name}={os.environ[name]}" for name in ("PYTHONPATH",) if name in os.environ]
    command = [activate, *listeners, f"--fdname={':'.join(paths)}", *kept, *more]
    command += [*UNDER_UNIT, sys.executable, "-m", "swpks", *words[1:]]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    try:
        for path in paths.values():
            assert str(path) in process.stderr.readline()
        yield process, paths
    finally:
        process.kill()
        process.communicate()


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_a_first_connection_starts_the_server(tmp_path: Path) -> None:
    """A client of the partition starts the server, writes and confirms. The console has its own socket.

    systemd learns when the server is ready and when it stops.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        with activated(tmp_path, f"--setenv=NOTIFY_SOCKET={tmp_path / 'notify'}") as (process, paths):
            with swpks.BlockingChannel.connect(paths["lpar1"], timeout=20) as channel:
                assert manager.recv(100) == b"READY=1"
                channel.call(swpks.write_object(OS, KEY, b"data"))
                assert channel.call(swpks.read_object(OS, KEY)).data == b"data"
            console = BlockingConsole(paths["control"])
            assert [each.name for each in console.call(show_system()).partitions] == ["lpar1"]
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            _, log = process.communicate(timeout=20)
            assert process.returncode == 0, log
    assert '"level": "error"' not in log
    assert paths["lpar1"].exists()  # systemd has made it, so the server does not remove it


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_a_standby_under_the_unit_of_a_cluster(tmp_path: Path) -> None:
    """R-85: it reaches the network, systemd learns why it waits, and a stop of it is no failure."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    (tmp_path / "cluster.toml").write_text(f'nvram = "etcd:127.0.0.1:{closed}"\n')
    words = value(CLUSTER, "ExecStart").replace("/var/lib/swpks", str(tmp_path / "state"))
    words = words.replace("/etc/swpks", str(tmp_path))
    command = [*UNDER, str(UNITS / "swpks-cluster.service"), sys.executable, "-m", "swpks"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        standby = subprocess.Popen([*command, *shlex.split(words)[1:]], env=environment, cwd=ROOT)
        try:
            told = manager.recv(1000)
            assert told.startswith(b"STATUS=waiting: ")
            assert b"Connection refused" in told
            standby.terminate()
            assert standby.wait(20) == 0
        finally:
            standby.kill()
            standby.wait()
