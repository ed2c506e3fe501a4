"""Each row of `custody.SYSTEM` runs on a machine. The power is cut before and after its commit.

A row begins with a word, which is a message about a partition. Words of a console come in its requests. The
test gives the machine the words of the mobility channel and of a driver.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
import trio.testing

from hcall_abi.errors import StorageError
from hcall_abi.faults import NvramFault
from hcall_abi.requests import release_partition, take_partition, tell_custody
from hcall_abi.rules import migration as rules
from hcall_server import failpoints
from hcall_server.machine.custodian import POINTS
from hcall_server.platform import custody
from hcall_server.platform.custody import OWNING, SYSTEM, Custody, Mode, Word, mode_after_start
from tests.custody.conftest import Stage
from tests.custody.world import HMC, WITH_A, A, E, Home

OWN, ARRIVED = Custody.OWN, Custody.ARRIVED
FROZEN, RELEASED, PREPARED = Custody.FROZEN, Custody.RELEASED, Custody.PREPARED
GONE, NONE = Custody.GONE, Custody.NONE
SETTLED, SERVING = Mode.SETTLED, Mode.SERVING
LATER = E + 1


class Case(NamedTuple):
    """A row of the table, the way into the state in which it begins, and the expected next state.

    `setup` brings the systems into the state `at`. `say` sends the word `on` to the system `home`.
    """

    number: int
    on: Word
    at: Custody
    home: str
    setup: Callable[[Stage], Awaitable[None]]
    say: Callable[[Stage, Home], Awaitable[object]]
    to: Custody
    then: Mode
    epoch: int = E

    @property
    def id(self) -> str:
        """Return the name of the case for pytest."""
        return f"{self.number}-{self.on.value}-{self.at.name}"


def by_console(word: str, epoch: int = E, peer: str = "") -> Callable[[Stage, Home], Awaitable[object]]:
    """Return a function that sends a word by the console's request."""

    def say(stage: Stage, home: Home) -> Awaitable[object]:
        generation = stage.s.machine.custodian.standing(stage.uuid).generation
        further = {"generation": generation} if word == "prepared" else {}
        return home.link.call(
            tell_custody(str(stage.uuid), epoch, word, peer_id=peer, **further)  # type: ignore[arg-type]
        )

    return say


def heard(word: Word, epoch: int = E) -> Callable[[Stage, Home], Awaitable[object]]:
    """Return a function that gives a word to the custodian, as a driver does."""

    def say(stage: Stage, home: Home) -> Awaitable[object]:
        return home.take(stage.uuid, word, epoch, peer=stage.t.id)

    return say


async def final(stage: Stage, home: Home) -> object:
    """Give FINAL from the frozen source to the target."""
    custodian = stage.s.machine.custodian
    standing = custodian.standing(stage.uuid)
    further = {"generation": standing.generation, "peer": stage.s.id}
    return await home.take(
        stage.uuid, Word.FINAL, standing.epoch, traveller=custodian.traveller_of(stage.s.a), **further
    )


async def begun(stage: Stage) -> None:
    """Do nothing: both systems are in their first state."""


async def off(stage: Stage) -> None:
    """Power the partition `a` off."""
    stage.s.machine.power_off(A)


async def asking(stage: Stage) -> None:
    """Restart S, which has a console, so that `a` asks before it is served (R-54)."""
    await stage.s.machine.attachment.attach(HMC, "hmc")
    await stage.s.start()


async def barred(stage: Stage) -> None:
    """Bar an earlier attempt at T."""
    await stage.t.take(stage.uuid, Word.BAR, E - 1)
    await stage.frozen()


async def gone_from_t(stage: Stage) -> None:
    """Move `a` to T and back in earlier attempts, so that T has GONE. Then freeze S again."""
    await stage.gone(1)
    back = Stage(stage.t, stage.s)
    await back.gone(2)
    await stage.frozen()


async def prepared_before(stage: Stage) -> None:
    """Leave the copy of an ended attempt at T, and freeze S for the next attempt."""
    await stage.prepared(1)
    await stage.s.take(stage.uuid, Word.ABORT, 1)
    await stage.s.take(stage.uuid, Word.RESUME, 1)
    await stage.frozen()


async def released_off(stage: Stage) -> None:
    """Power `a` off, and let S release it."""
    await off(stage)
    await stage.s.take(stage.uuid, Word.RELEASE, E, peer=stage.t.id)


async def copied_to_t(stage: Stage) -> None:
    """Let S release `a`, and give T the same trusted system key."""
    await released_off(stage)
    key = await stage.s.machine.backups.provide_key()
    assert key
    await stage.t.machine.backups.restore_key(key)


async def copied_to_prepared(stage: Stage) -> None:
    """Let T store the released `a`, and give it the trusted system key. T gets no further word."""
    await stage.released()
    key = await stage.s.machine.backups.provide_key()
    assert key
    await stage.t.machine.backups.restore_key(key)


async def copied_to_gone(stage: Stage) -> None:
    """Move `a` to T and back, so that T has GONE. Then let S release `a`; T has the trusted system key."""
    await stage.gone(1)
    await Stage(stage.t, stage.s).gone(2)
    stage.s.machine.power_off(A)
    await copied_again(stage)


async def copied_again(stage: Stage) -> None:
    """Let S release the powered-off `a` a second time; T has the trusted system key."""
    await stage.s.take(stage.uuid, Word.RELEASE, E, peer=stage.t.id)
    key = await stage.s.machine.backups.provide_key()
    assert key
    await stage.t.machine.backups.restore_key(key)


async def copy(stage: Stage, home: Home) -> object:
    """Give T the copy that S makes of its released store."""
    found = await stage.s.machine.backups.copy_of(A, released=True)
    prepared = stage.t.machine.custodian.standing(stage.uuid).custody is PREPARED
    epoch = LATER if home is stage.s or prepared else E
    return await home.link.call(take_partition(found.blob, epoch, stage.s.id.hex()))


async def release(stage: Stage, home: Home) -> object:
    """Order S, as the console does, to release the powered-off `a`."""
    return await home.link.call(release_partition(A, str(stage.uuid), E, stage.t.id.hex()))


async def aborted(stage: Stage) -> None:
    """Let T store a copy, and let S resume."""
    await stage.prepared()
    await stage.s.take(stage.uuid, Word.ABORT)
    await stage.s.take(stage.uuid, Word.RESUME)


CASES = [
    Case(2, Word.BEGIN, OWN, "s", begun, heard(Word.BEGIN), OWN, Mode.COPYING, 0),
    Case(3, Word.ABORT, OWN, "s", Stage.copying, heard(Word.ABORT), OWN, SERVING, 0),
    Case(4, Word.AGREED, OWN, "s", Stage.copying, heard(Word.AGREED), FROZEN, Mode.WAITING),
    Case(5, Word.FINAL, NONE, "t", Stage.frozen, final, PREPARED, SETTLED),
    Case(5, Word.FINAL, NONE, "t", barred, final, PREPARED, SETTLED),
    Case(5, Word.FINAL, GONE, "t", gone_from_t, final, PREPARED, SETTLED),
    Case(5, Word.FINAL, PREPARED, "t", prepared_before, final, PREPARED, SETTLED),
    Case(6, Word.PREPARED, FROZEN, "s", Stage.prepared, by_console("prepared"), RELEASED, SETTLED),
    Case(7, Word.ACTIVATE, PREPARED, "t", Stage.released, by_console("activate"), ARRIVED, SERVING),
    Case(7, Word.FORCE, PREPARED, "t", Stage.prepared, by_console("force"), ARRIVED, SERVING),
    Case(8, Word.ACTIVE, RELEASED, "s", Stage.arrived, by_console("active"), GONE, SETTLED),
    Case(8, Word.ABORTED, RELEASED, "s", Stage.released, by_console("aborted", LATER), GONE, SETTLED, LATER),
    Case(9, Word.ABORT, FROZEN, "s", Stage.frozen, heard(Word.ABORT), FROZEN, Mode.IN_DOUBT),
    Case(11, Word.RESUME, FROZEN, "s", Stage.in_doubt, by_console("resume"), OWN, SERVING),
    Case(12, Word.FENCED, FROZEN, "s", Stage.in_doubt, by_console("fenced"), RELEASED, SETTLED),
    Case(12, Word.ACTIVE, FROZEN, "s", Stage.in_doubt, by_console("active"), RELEASED, SETTLED),
    Case(13, Word.ABORTED, PREPARED, "t", aborted, by_console("aborted"), NONE, SETTLED),
    Case(13, Word.ACTIVE, PREPARED, "t", Stage.prepared, by_console("active", LATER), NONE, SETTLED, LATER),
    Case(15, Word.RELEASE, OWN, "s", off, release, RELEASED, SETTLED),
    Case(16, Word.COPY, NONE, "t", copied_to_t, copy, ARRIVED, SERVING),
    Case(16, Word.COPY, GONE, "t", copied_to_gone, copy, ARRIVED, SERVING),
    Case(16, Word.COPY, PREPARED, "t", copied_to_prepared, copy, ARRIVED, SERVING, LATER),
    Case(16, Word.COPY, RELEASED, "s", copied_to_t, copy, ARRIVED, SERVING, LATER),
    Case(17, Word.SERVE, OWN, "s", asking, by_console("serve", 0), OWN, SERVING, 0),
    Case(18, Word.FENCED, OWN, "s", asking, by_console("fenced", E, "ee" * 16), RELEASED, SETTLED),
    Case(19, Word.BAR, NONE, "t", begun, by_console("bar"), NONE, SETTLED),
    Case(19, Word.BAR, GONE, "s", Stage.gone, by_console("bar", LATER), NONE, SETTLED, LATER),
    Case(19, Word.BAR, PREPARED, "t", Stage.prepared, by_console("bar", LATER), NONE, SETTLED, LATER),
]


def test_every_row_has_its_cases() -> None:
    """Each row has a case for each record in which it begins. ARRIVED counts as OWN, as in the table."""
    wanted = {(row.number, row.on, at) for row in SYSTEM for at in row.at - {ARRIVED}}
    assert {(case.number, case.on, case.at) for case in CASES} == wanted


def demand_served(home: Home) -> None:
    """Assert that each running partition has a socket, unless it is released. No other one has a socket.

    Each owned partition has its key file.
    """
    partitions = home.machine.system.partitions.values()
    assert home.transport.listening == {
        each.name for each in partitions if each.running and each.profile.custody is not RELEASED
    }
    assert set(home.keys) >= {each.name for each in partitions if each.profile.custody in OWNING}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_a_row(
    stage: Stage, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    """R-51, R-52, R-54, R-55: a record is durable before it is shown, and before its effects.

    A power cut leaves the old or the new record.
    """
    await case.setup(stage)
    home, uuid = getattr(stage, case.home), stage.uuid
    points: list[tuple[str, Custody]] = []
    monkeypatch.setattr(failpoints, "reached", lambda name: points.append((name, home.cut().at(uuid)[0])))
    row = next(row for row in SYSTEM if (row.number, row.on) == (case.number, case.on))
    shown, before = home.shown(uuid), home.machine.custodian.standing(uuid)
    assert before.custody is case.at
    listening, commits = set(home.transport.listening), home.nvram.commits
    cut_before = home.cut().at(uuid)
    answers: list[object] = []

    async def order() -> None:
        answers.append(await case.say(stage, home))

    home.worker.gate = trio.Event()
    nursery.start_soon(order)
    await trio.testing.wait_all_tasks_blocked()
    if row.to is not None:
        assert (home.shown(uuid), home.transport.listening, answers) == (shown, listening, [])
        assert home.cut().at(uuid) == cut_before
    home.worker.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(answers) == 1
    assert points == ([(POINTS[case.number], case.to)] if case.number in POINTS else [])
    assert home.machine.custodian.standing(uuid)[:3] == (case.to, case.then, case.epoch)
    told_now = home.shown(uuid)
    assert told_now is None or told_now.row == case.number
    demand_served(home)
    await demand_after_cut(home, stage, case)
    if row.to is not None:
        assert home.nvram.commits > commits
        facts = home.shown(uuid)
        assert facts
        assert facts[2:5] == (case.to, case.then, case.epoch)


async def demand_after_cut(home: Home, stage: Stage, case: Case) -> None:
    """Assert that a power cut after the commit leaves the new record with its effects."""
    for settings in (home.settings, WITH_A) if case.to is not NONE else (home.settings,):
        after = home.cut(settings=settings)
        asks = case.number in (17,)
        mode = mode_after_start(case.to, asks=asks)
        assert after.at(stage.uuid) == (case.to, mode, case.epoch)
        running = await after.starts()
        may = case.to in OWNING and mode is SERVING
        assert running == ([A] if may and after.machine.system.find(A).auto_start else [])
        if case.to in custody.LEFT:
            assert A not in after.transport.known_names()


@pytest.mark.parametrize("after", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_a_row_while_nvram_fails(
    stage: Stage, autojump_clock: trio.testing.MockClock, case: Case, after: bool
) -> None:
    """R-23, R-51: if a commit fails, before or after its effect, the step only takes longer."""
    await case.setup(stage)
    home, uuid = getattr(stage, case.home), stage.uuid
    home.machine.nvram.set_faults(NvramFault("io", times=6, after=after))
    for _ in range(9):
        try:
            await case.say(stage, home)
        except StorageError as error:
            trouble = error
        else:
            break
        assert trouble.rule is rules.CUSTODY_STORED
    assert home.machine.custodian.standing(uuid)[:3] == (case.to, case.then, case.epoch)
    await demand_after_cut(home, stage, case)


def test_a_fail_point_kills() -> None:
    """R-55: the fail point named in the environment kills the process there, and at no other point."""
    for name, status in (("frozen", -9), ("other", 0)):
        code = "from hcall_server import failpoints; failpoints.reached('frozen')"
        environment = os.environ | {failpoints.VARIABLE: name}
        ended = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
        assert ended.returncode == status


@pytest.mark.parametrize("command", [["serve", "--state"], ["hmc", "serve", "--store"]], ids=["serve", "hmc"])
def test_an_unknown_fail_point_stops_the_start(tmp_path: Path, command: list[str]) -> None:
    """R-55: for an unknown fail point, a start ends with status 2 and lists the known ones."""
    environment = os.environ | {failpoints.VARIABLE: "release"}
    ended = subprocess.run(
        [sys.executable, "-m", "swpks", *command, tmp_path / "place"],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert "rule fail-point.known" in ended.stderr
    assert "released-off" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_every_fail_point_is_reached() -> None:
    """R-55: the code calls each fail point of `POINTS`, and no other one."""
    root = Path(failpoints.__file__).parent
    called: set[str] = set(POINTS.values())
    for path in root.rglob("*.py"):
        called |= set(re.findall(r'failpoints\.reached\("([a-z-]+)"\)', path.read_text()))
    stored = (root / "console").glob("*.py")
    written = "".join(path.read_text() for path in stored)
    called |= {name for name in failpoints.PROCESSES["console"] if re.search(f'enter.*"{name}"', written)}
    assert called == set(failpoints.POINTS)
    assert len(failpoints.POINTS) == len(called)


async def test_a_word_without_a_row_changes_nothing(stage: Stage) -> None:
    """A repeated or late word is no error, and changes nothing."""
    await stage.gone()
    for home in (stage.s, stage.t):
        commits, standing = home.nvram.commits, home.machine.custodian.standing(stage.uuid)
        for word in (
            "abort",
            "aborted",
            "activate",
            "active",
            "fenced",
            "force",
            "prepared",
            "resume",
            "serve",
        ):
            view = await by_console(word)(stage, home)
            assert view.custody[0].epoch == E  # type: ignore[attr-defined]
        assert home.machine.custodian.standing(stage.uuid) == standing
        assert home.nvram.commits == commits
