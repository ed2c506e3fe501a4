"""Wrong places of a system, for `swpks hmc --socket` and a console: the error has the right place."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import msgspec
import pytest

from hcall_abi.control_views import SystemView
from hcall_client.console import BlockingConsole, ConsoleUnreachable, show_system
from hcall_client.other_ends import OtherEnd
from hcall_server.console.advice import to_connect
from hcall_server.console.store import ConsoleStore
from swpks.cli.main import main
from swpks.hmc import wire
from swpks.hmc.orders import ConsoleHandler
from tests.console.facts import partition, system
from tests.console.stand import standing


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """The folder `run` of a state, with a control socket."""
    folder = tmp_path / "s" / "run"
    folder.mkdir(parents=True)
    (folder.parent / "service-processor").mkdir()
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(folder / "control.sock"))
        yield folder


@pytest.mark.parametrize(
    "name, found",
    [
        ("a.sock", "is the place of the data channel of a partition (a, power off); the server of lab runs;"),
        ("x.sock", "has no listener; the server of lab runs;"),
    ],
)
def test_the_socket_of_a_partition_that_is_off(
    run: Path, name: str, found: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a server runs in the folder of the socket, the error does not advise to start one."""
    answers: list[SystemView | None] = [system(partition("a"))]
    monkeypatch.setattr("swpks.cli.lpar_reach.system_at", lambda *_: answers[-1])
    assert main(["hmc", "--socket", str(run / name), "status"]) == 3
    err = capsys.readouterr().err
    assert f": {run / name} {found} this command needs the control channel of a system: --socket" in err
    assert f" {run}/control.sock [operator fault; rule command.socket" in err
    answers.append(None)
    assert main(["hmc", "--socket", str(run / name), "status"]) == 3
    assert f"no server runs here: nothing listens at {run / name}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, right",
    [
        (
            "--socket h/run/console.sock systems",
            "h/run/console.sock is the socket of a console: use --store h",
        ),
        ("lssyscfg -r sys", "before the line (or by SWPKS_HMC): `swpks hmc --store DIR lssyscfg...`"),
        (
            "lssyscfg -r sys --store h -F name",
            "--store stands before the line: `swpks hmc --store h lssyscfg -r sys -F name`",
        ),
        ("--store h lssyscfg -r sys --store=h", "`swpks hmc --store h lssyscfg -r sys`"),
        ("--store h power on lpar1", "did you mean `swpks hmc --store h power lpar1 on`?"),
        ("trace off lpar1", "did you mean `swpks hmc trace lpar1 off`?"),
        ("stop lpar2", "did you mean `swpks hmc power lpar2 off`?"),
        ("-m a start lpar2", "did you mean `swpks hmc -m a power lpar2 on`?"),
        ("reboot lpar2", "did you mean `swpks hmc ipl lpar2`?"),
        ("restore lpar1 a.copy", "did you mean `swpks hmc restore a.copy`?"),
    ],
)
def test_words_at_a_wrong_place(
    words: str, right: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the right place of an option or an operand."""
    for name in ("SWPKS_HMC", "SWPKS_STATE"):
        monkeypatch.delenv(name, raising=False)
    assert main(["hmc", *words.split()]) == 2
    assert right in capsys.readouterr().err
    assert main(["hmc", "--store", "h", "power", "lpar1", "on", "more"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def unreached(place: Path) -> ConsoleUnreachable:
    """Return the real error of a console for a place without a control channel."""
    with pytest.raises(ConsoleUnreachable) as caught:
        BlockingConsole(place).call(show_system())
    return caught.value


def advice(place: Path) -> str:
    return to_connect(unreached(place), str(place), "")


def test_the_place_of_a_system(run: Path, tmp_path: Path) -> None:
    """For a wrong place the advice has the near control socket, else the file to name or the start."""
    right = f"correct the place: `swpks hmc add-system {run}/control.sock`"
    for wrong in (run, run.parent, run / "a.sock"):
        assert advice(wrong) == right
    assert f"the socket of a system is {run}/control.sock" in unreached(run).reason
    (run / "control.sock").unlink()
    start = f"start it: `swpks serve --state {run.parent}`"
    assert advice(run.parent) == f"{start}, then add it: `swpks hmc add-system {run}/control.sock`"
    assert advice(run / "control.sock") == start
    named = "name the control socket of a system: `swpks hmc add-system DIR/run/control.sock`"
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path):
        assert advice(wrong) == named
    assert advice(tmp_path / "nothing").startswith("start that system (`swpks serve --state DIR`), or corr")


async def test_an_order_for_a_wrong_place(run: Path) -> None:
    """The refusal of add-system has the advice for its place, with the store of the console."""
    refused = []
    other = ConsoleUnreachable("/a.sock", "no control channel", found=OtherEnd.WEB)
    for error in (unreached(run), unreached(Path("/none/run/control.sock")), other):
        console = mock.AsyncMock()
        console.store.folder = "/lab"
        console.add_system.side_effect = error
        where = error.message.partition(": ")[0].rpartition(" ")[2]
        request = wire.WireRequest(order=wire.Order("add-system", where=where))
        answer = await ConsoleHandler(console).handle(request, mock.Mock())
        refused.append(msgspec.json.decode(msgspec.json.decode(answer)["answer"]["content"]))
    assert all(each["advised"] and each["rule_id"] == "console.served" for each in refused)
    assert refused[0]["detail"].endswith(
        f"; correct the place: `swpks hmc --store /lab add-system {run}/control.sock`"
    )
    assert refused[2]["detail"].endswith("system: `swpks hmc --store /lab add-system DIR/run/control.sock`")
    assert refused[1]["detail"].endswith("start it: `swpks serve --state /none`, or correct its place")


async def test_a_wrong_place_of_the_start_is_removed(tmp_path: Path) -> None:
    """A place of --system that was never reached has advice with the store; `remove-system` takes it."""
    async with standing("S") as stand:
        console, place = stand.console, str(tmp_path / "wrong")
        (tmp_path / "wrong").touch()
        with mock.patch.object(ConsoleStore, "folder", "/lab"):
            console.note_awaited(place, None, unreached(Path(place)))
        assert "`swpks hmc --store /lab add-system DIR/" in console.awaited[place].advice
        request = wire.WireRequest(order=wire.Order("remove-system", name=place))
        answer = await ConsoleHandler(console).handle(request, mock.Mock())
        assert b"problem" not in answer
        assert console.awaited == {}


async def test_a_job_that_a_restart_replaces_needs_no_remedy() -> None:
    """Nothing has to be done about such an end, so its error gets no remedy."""
    async with standing("S") as stand:
        job = stand.console.back_up(stand.console.find(None))
        stand.console.jobs.end_of(stand.console.find(None), "a remote restart takes its place")
        assert (job.state, job.rule_id, job.advised) == ("failed", "line.job", True)
