"""Commands on powered-off systems with a real etcd of one member: snapshots, the move of a system, erase."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hcall_client.calls import read_object
from hcall_client.console import show_partition
from hcall_server.service import standing_by
from swpks.cli.main import main
from swpks.testing.process import ServerProcess
from tests.nvram.etcd_members import Members, opened, running
from tests.parts.systems import LABEL, OS, write_confirmed

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

DATA = b"CANARY-of-the-guest"
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """An etcd of one member; each test has a prefix of its own."""
    with running(tmp_path_factory.mktemp("etcd"), 1) as members:
        yield members


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Return a server that was not started."""
    server = ServerProcess(tmp_path / "state", ["lpar1:64"], ["--confirm-wait", "1000"])
    yield server
    server.kill()


@pytest.fixture
def run(server: ServerProcess, capfd: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command on the state of `server`; it returns the status and all output."""

    def run(command: str, *words: str) -> tuple[int, str]:
        status = main([command, "--state", str(server.state), *words])
        shown = capfd.readouterr()
        return status, shown.out + shown.err

    return run


def on_etcd(member: Members, prefix: str) -> list[str]:
    return ["--nvram", f"etcd:{member.endpoints[0]}", "--nvram-prefix", prefix]


def read(server: ServerProcess) -> bytes:
    """Return the object."""
    with server.connect_blocking("lpar1") as channel:
        return channel.call(read_object(OS, LABEL)).data


def write(server: ServerProcess) -> None:
    """Write the object, durably."""
    with server.connect_blocking("lpar1") as channel:
        write_confirmed(channel, DATA)


def ipl_count(server: ServerProcess) -> int:
    return server.console.call(show_partition("lpar1")).ipl_count


def test_a_system_moves_to_etcd_and_back(
    server: ServerProcess, member: Members, run: Run, tmp_path: Path
) -> None:
    """R-83: the recipe of spec/service.md: objects, access keys and the trusted key come along."""
    etcd, sealed = on_etcd(member, "moved"), str(tmp_path / "sealed")
    server.start()
    write(server)
    assert run("hmc", "lstskey", "--sealed", sealed)[0] == 0
    key, ipls = server.access_key("lpar1"), ipl_count(server)
    server.stop()
    server.partitions = []
    plain = server.options
    for turn, (before, after) in enumerate([([], etcd), (etcd, [])]):
        name = f"move-{turn}"
        assert run("snapshot", "save", name, *before)[0] == 0
        assert ("still on etcd" in run("hmc", "replace", "service-processor")[1]) == bool(before)
        server.options = [*plain, *after]
        server.start()
        assert server.ready["state"] == "Recovery"
        assert run("hmc", "chtskey", "-o", "return", "--sealed", sealed)[0] == 0
        assert run("hmc", "recover", "--give-up")[0] == 0
        assert "lpar1: off, made again" in run("snapshot", "load", name)[1]
        assert run("hmc", "power", "lpar1", "on")[0] == 0
        assert read(server) == DATA
        assert server.access_key("lpar1") == key
        assert ipl_count(server) > ipls
        assert server.stop() == 0
    assert not (server.state / "service-processor" / "nvram.etcd-mark").exists()


def test_snapshots_and_an_erase_of_a_stopped_system(
    server: ServerProcess, member: Members, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-60, R-61, R-62, R-83: only with its --nvram; afterwards etcd has the records of a new system."""
    etcd = on_etcd(member, "erased")
    server.options += etcd
    server.start()
    write(server)
    server.stop()
    nvram = opened(member.endpoints, "erased", ttl=6)
    old = nvram.load()
    monkeypatch.setattr(standing_by, "GRACE", -6.0)  # an owner that lives is not waited for
    status, said = run("snapshot", "save", "base", *etcd)
    assert (status, "rule state.owner" in said) == (1, True)
    nvram.close()
    status, said = run("snapshot", "list")
    assert (status, "rule nvram.one-place" in said) == (1, True)
    assert run("snapshot", "save", "base", *etcd)[0] == 0
    assert "no difference" in run("snapshot", "diff", "base", *etcd)[1]
    for action in ("clear-all", "reset-settings"):
        assert erased(run, action, *etcd)
    nvram = opened(member.endpoints, "erased")
    new = nvram.load()
    nvram.close()
    assert new.keys() == {"commit", "system", "root-key/1"}
    assert not set(new.values()) & set(old.values())
    server.partitions = []
    server.start()
    assert (server.ready["state"], server.ready["partitions"]) == ("Operating", [])
    server.stop()


def erased(run: Run, action: str, *words: str) -> bool:
    asked = json.loads(run("asmi", "--json", action, *words)[1])
    Path(asked["presence"]).write_text(asked["word"])
    return bool(json.loads(run("asmi", "--json", action, *words)[1])["erased"])
