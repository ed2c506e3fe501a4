"""migrlpar, lslparmigr, rrstartlpar: their options, their exit statuses, and the words for states.

A stand-in replaces the migrations here. test_lines_moves.py has lines with real migrations; test_migrate.py
and test_restart.py test the migrations themselves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio.testing

from hcall_abi.control_views import PartitionView
from hcall_abi.errors import OperatorError
from hcall_abi.remedies import REMEDIES
from hcall_abi.rules import console as control
from hcall_abi.rules import migration as rules
from hcall_abi.rules.rule import Rule
from hcall_server.console.jobs import Job
from hcall_server.console.lines.run import COMMANDS
from hcall_server.console.migrations import MigrationStatus
from hcall_server.console.systems import KnownSystem
from tests.console.stand import Stand, standing

ROW = MigrationStatus(
    uuid="",
    name="lpar1",
    kind="live",
    state="Migration In Progress",
    epoch=7,
    decision="open",
    row="row 6: RELEASED(7) at S",
    source="S",
    target="T",
    owner="S",
    job=3,
)


class StandInMigrations:
    """Migrations that record their orders, and refuse those that the test has named."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refusals: dict[str, OperatorError] = {}
        self.rows: list[MigrationStatus] = []
        self.words: dict[str, str] = {}
        self.moves: set[str] = set()
        self.failed: Rule | None = None
        self.seconds = 0.0

    def refuse(self, name: str, rule: Rule, finding: str) -> None:
        """Refuse each order about a partition."""
        self.refusals[name] = OperatorError(rule, finding)

    async def validate(self, source: KnownSystem, target: KnownSystem, name: str) -> None:
        await self._note("validate", source, target, name)

    async def migrate(self, source: KnownSystem, target: KnownSystem, name: str) -> Job:
        await self._note("migrate", source, target, name)
        return self._job("migrate", source, name)

    async def stop(self, source: KnownSystem, name: str) -> str:
        await self._note("stop", source, name)
        return f"{name}: stopped"

    async def recover(self, source: KnownSystem, name: str, *, force: bool = False) -> Job:
        await self._note("force" if force else "recover", source, name)
        return self._job("migrate", source, name)

    async def recover_restart(self, source: KnownSystem, name: str) -> Job:
        await self._note("recover_restart", source, name)
        return self._job("restart", source, name)

    async def validate_restart(self, source: KnownSystem, target: KnownSystem, name: str) -> None:
        await self._note("validate_restart", source, target, name)

    async def restart(self, source: KnownSystem, target: KnownSystem, name: str) -> Job:
        await self._note("restart", source, target, name)
        return self._job("restart", target, name)

    async def cleanup(self, source: KnownSystem, name: str) -> str:
        await self._note("cleanup", source, name)
        return f"{name}: removed from {source.name}"

    async def cancel(self, source: KnownSystem, name: str) -> str:
        await self._note("cancel", source, name)
        return f"{name}: canceled"

    def status(self, system: KnownSystem | None = None) -> list[MigrationStatus]:
        return [each for each in self.rows if system is None or system.name in (each.source, each.target)]

    def moving(self, system: KnownSystem, partition: PartitionView) -> bool:
        return partition.name in self.moves

    def remote_restart_status(self, system: KnownSystem, partition: PartitionView) -> str:
        return self.words.get(partition.name, "Invalid")

    async def _note(self, order: str, *about: KnownSystem | str) -> None:
        await trio.sleep(self.seconds)
        names = [each if isinstance(each, str) else each.name for each in about]
        self.asked.append(" ".join([order, *names]))
        if names[-1] in self.refusals:
            raise self.refusals[names[-1]]

    def _job(self, kind: str, system: KnownSystem, name: str) -> Job:
        """Return a job that has ended."""
        lines = ["row 2", f"{name}: the end"]
        job = Job(1, kind, system.name, "failed" if self.failed else "done", 2, 2, lines)
        job.rule_id = self.failed.id if self.failed else ""
        return job


class MovingStand(Stand):
    """A console with the systems S and T; S has lpar1 (1) and lpar2 (2), both powered off."""

    moves: StandInMigrations


@pytest.fixture
async def pair() -> AsyncIterator[MovingStand]:
    async with standing("S", "T") as stand:
        stand.__class__ = MovingStand
        assert isinstance(stand, MovingStand)
        stand.moves = StandInMigrations()
        console: Any = stand.console
        console.migrations = stand.moves
        await stand.done("mksyscfg -r lpar -m S -i name=lpar1 name=lpar2")
        yield stand


@pytest.mark.parametrize(
    "line,asked,output",
    [
        ("migrlpar -o v -m S -t T -p lpar1", ["validate S T lpar1"], ""),
        ("migrlpar -o v -m S -t T -p lpar1,lpar2", ["validate S T lpar1", "validate S T lpar2"], ""),
        ("migrlpar -p lpar1, -t T -m S -o v", ["validate S T lpar1"], ""),
        ("migrlpar -o v -m S -t T --id 2", ["validate S T lpar2"], ""),
        ("migrlpar -o v -m S -t T --all", ["validate S T lpar1", "validate S T lpar2"], ""),
        ("migrlpar -o m -m S -t T -p lpar1", ["migrate S T lpar1"], "row 2\nlpar1: the end"),
        ("migrlpar -o s -m S -p lpar1", ["stop S lpar1"], "lpar1: stopped"),
        ("migrlpar -o r -m S -p lpar1", ["recover S lpar1"], "row 2\nlpar1: the end"),
        ("migrlpar -o r -m S -p gone --force", ["force S gone"], "row 2\ngone: the end"),
        ("rrstartlpar -o validate -m S -t T -p lpar1", ["validate_restart S T lpar1"], ""),
        ("rrstartlpar -o restart -m S -t T --id 1", ["restart S T lpar1"], "row 2\nlpar1: the end"),
        ("rrstartlpar -o cleanup -m S -p lpar1", ["cleanup S lpar1"], "lpar1: removed from S"),
        ("rrstartlpar -o cleanup -m S -p lpar1 --force", ["cleanup S lpar1"], "lpar1: removed from S"),
        ("rrstartlpar -o cancel -m S -p lpar1", ["cancel S lpar1"], "lpar1: canceled"),
        (
            "rrstartlpar -o recover -m S -p lpar1 --force",
            ["recover_restart S lpar1"],
            "row 2\nlpar1: the end",
        ),
    ],
)
async def test_an_order_reaches_the_console(
    pair: MovingStand, line: str, asked: list[str], output: str
) -> None:
    """R-51, R-52: The console gets operation and names of an order. The caller gets the result lines."""
    assert await pair.run(line) == (0, output)
    assert pair.moves.asked == asked


@pytest.mark.parametrize(
    "line",
    [
        "migrlpar -o m -m S -t T -p lpar1 -n prof -w 5 -d 5 -v --nodetails --redundantvios 2 --mpio 1"
        ' --vlanbridge 2 --vsi 1 --uuid 1 --protectstorage 2 --steps 0 -i "shared_proc_pool_id=0" --affinity',
        "rrstartlpar -o restart -m S -t T -p lpar1 --noconnection --force --usecurrdata --retaindev -w 1 -v",
    ],
)
async def test_options_of_storage_and_networks_change_nothing(pair: MovingStand, line: str) -> None:
    """Options of storage and networks are accepted and ignored: an emulated partition has neither."""
    await pair.done(line)


@pytest.mark.parametrize(
    "line,number,output",
    [
        ("migrlpar -m S -t T -p lpar1", "SWPK0103", "the option -o is missing"),
        ("migrlpar -o x -m S -t T -p lpar1", "SWPK0104", "-o takes v, m, s, r, not 'x'"),
        ("migrlpar -o m -m S -t T", "SWPK0103", "of the options -p, --id, --all: one of them is missing"),
        ("migrlpar -o m -m S -t T -p lpar1 --all", "SWPK0103", "-p and --all exclude each other"),
        ("migrlpar -o m -m S -t T -p lpar1 -w soon", "SWPK0104", "-w takes a number, not 'soon'"),
        ("migrlpar -o m -m S -t T -p lpar1 -d ٣", "SWPK0104", "-d takes a number"),
        ("migrlpar -o m -m S -t T -p lpar1 --steps -1", "SWPK0104", "--steps takes a number, not '-1'"),
        ("rrstartlpar -o restart -m S -t T -p lpar1 -w 1.5", "SWPK0104", "-w takes a number"),
        ("migrlpar -o m -m S -t T -p lpar1 --force", "SWPK0102", "-o m takes no --force"),
        ("migrlpar -o v -m S -t T -p lpar1 --force", "SWPK0102", "-o v takes no --force"),
        ("migrlpar -o s -m S -p lpar1 --force", "SWPK0102", "-o s takes no --force"),
        ("migrlpar -o s -m S -t nosuch -p lpar1", "SWPK0102", "-o s takes no -t"),
        ("migrlpar -o r -m S -t T -p lpar1", "SWPK0102", "-o r takes no -t"),
        ("rrstartlpar -o validate -m S -t T -p lpar1 --force", "SWPK0102", "-o validate takes no --force"),
        ("rrstartlpar -o cancel -m S -p lpar1 --force", "SWPK0102", "-o cancel takes no --force"),
        ("rrstartlpar -o cleanup -m S -t T -p lpar1", "SWPK0102", "-o cleanup takes no -t"),
        (
            "rrstartlpar -o restart -m S -t nosuch -p lpar1",
            "SWPK0201",
            "the console knows no system 'nosuch'",
        ),
        ("migrlpar -o m -m S -p lpar1", "SWPK0103", "migrlpar -o m needs -t, the target system"),
        ("migrlpar -o v -t T -p lpar1", "SWPK0202", "the console knows 2 systems"),
        ("migrlpar -o v -m S -t U -p lpar1", "SWPK0201", "the console knows no system 'U'"),
        ("migrlpar -o v -m S -t S -p lpar1", "SWPK0721", "source and target are one system, S"),
        ("migrlpar -o v -m S -t T -p lpar1 --ip 10.0.0.1 -u hscroot", "SWPK0721", "no --ip"),
        ("migrlpar -o v -m S -t T -p x", "HSCL8012", "The partition named x was not found."),
        ("migrlpar -o m -m S -t T -p 'x\n\x1b'", "HSCL8012", "The partition named x\\n\\x1b was not found."),
        ("migrlpar -o m -m S -t T -p ''", "HSCL8012", "The partition with an empty name was not found."),
        ("migrlpar -o m -m S -t T -p x", "HSCL8012", "The partition named x was not found."),
        ("migrlpar -o v -m S -t T --id 3", "HSCL8012", "The partition with ID 3 was not found."),
        ("rrstartlpar -o restart -m S -p lpar1", "SWPK0103", "needs -t, the target system"),
        ("rrstartlpar -o restart -m S -t T -p lpar1 --all", "SWPK0102", "'--all' is not one of its options"),
        ("lslparmigr -m S", "SWPK0103", "the option -r is missing"),
        ("lslparmigr -r lpar -m S --filter lpar_names=x", "HSCL8012", "The partition named x was not found."),
        ("lslparmigr -r lpar -m S --filter lpar_ids=9", "HSCL8012", "The partition with ID 9 was not found."),
        ("lslparmigr -r lpar -m S -F x", "SWPK0106", "there is no attribute 'x'"),
    ],
)
async def test_a_wrong_line_is_refused_before_anything_is_asked(
    pair: MovingStand, line: str, number: str, output: str
) -> None:
    found = await pair.refused(line)
    assert found.startswith(f"{number} ")
    assert output in found
    assert pair.moves.asked == []


@pytest.mark.parametrize(
    "order", ["migrlpar -o v", "migrlpar -o m", "rrstartlpar -o validate", "rrstartlpar -o restart"]
)
async def test_a_silent_system_is_told_of_soon(
    pair: MovingStand, order: str, autojump_clock: trio.testing.MockClock
) -> None:
    """R-51: If a system does not answer, the line soon reports that it waits.

    The final refusal is the usual one.
    """
    pair.moves.seconds = 30
    pair.moves.refuse("lpar1", rules.ARRIVAL_SIZE, "lpar1 needs 64 KiB, and T has 16")
    output = (await pair.refused(f"{order} -m S -t T -p lpar1")).split("\n")
    assert output[0] == "lpar1: no answer of S and T for 2 s; waiting"
    assert "lpar1 needs 64 KiB" in output[1]


@pytest.mark.parametrize("command", sorted(COMMANDS))
async def test_help_is_the_usage_and_nothing_else(pair: MovingStand, command: str) -> None:
    """--help prints the usage and nothing else, also among other words."""
    for line in (f"{command} --help", f"{command} -x --help -m S"):
        assert await pair.run(line) == (0, COMMANDS[command].syntax.usage)
    assert pair.moves.asked == []


async def test_one_refused_partition_keeps_no_other_one(pair: MovingStand) -> None:
    """If one of several partitions is refused, the others still move.

    Each refusal is a line; the exit status is 1.
    """
    pair.moves.refuse("lpar1", rules.ARRIVAL_SIZE, "lpar1 needs 64 KiB, and T has 16")
    assert await pair.run("migrlpar -o m -m S -t T -p lpar1,lpar2") == (
        1,
        f"SWPK0708 lpar1 needs 64 KiB, and T has 16; {REMEDIES['arrival.size']}\nrow 2\nlpar2: the end",
    )
    assert pair.moves.asked == ["migrate S T lpar1", "migrate S T lpar2"]


async def test_a_job_that_fails_has_the_number_of_its_rule(pair: MovingStand) -> None:
    """A failed job has the number of its rule, so a script can tell kinds of failure apart."""
    pair.moves.failed = rules.MIGRATION_FAILED
    output = await pair.refused("migrlpar -o m -m S -t T -p lpar1")
    refusal = f"SWPK0726 job 1 (migrate) failed: lpar1: the end; {REMEDIES['migration.failed']}"
    assert output == f"row 2\nlpar1: the end\n{refusal}"


async def test_a_system_that_is_away_is_named(pair: MovingStand) -> None:
    """If the target or the source can't be reached, the refusal names it, and the time when it went away."""
    away = OperatorError(control.CONSOLE_SERVED, "nothing serves this system")
    pair.moves.refusals["lpar1"] = away
    pair.console.find("T").note_away("gone")
    output = await pair.refused("rrstartlpar -o validate -m S -t T -p lpar1")
    remedy = REMEDIES["console.served"]
    assert output == f"SWPK0204 T is away since 2027-01-15 08:00:00 UTC: nothing serves this system; {remedy}"
    pair.console.find("S").note_away("gone")
    output = await pair.refused("rrstartlpar -o validate -m S -t T -p lpar1")
    assert output == f"SWPK0204 nothing serves this system; {remedy}"


async def test_all_of_a_system_without_partitions(pair: MovingStand) -> None:
    assert await pair.done("migrlpar -o v -m T -t S --all") == "No results were found."


async def test_a_dead_source_is_known_by_its_last_view(pair: MovingStand) -> None:
    """R-52: The partitions of a dead source keep their ids and have the state Not Available."""
    pair.links["S"].away = True
    await pair.done("rrstartlpar -o restart -m S -t T --id 2")
    assert pair.moves.asked == ["restart S T lpar2"]
    pair.moves.words["lpar1"] = "Remote Restarted"
    output = await pair.done("lssyscfg -r lpar -m S -F name,state,remote_restart_status")
    assert output == "lpar1,Not Available,Remote Restarted\nlpar2,Not Available,Invalid"
    output = await pair.done("lslparmigr -r lpar -m S -F name,migration_state")
    assert output == "lpar1,Not Moving\nlpar2,Not Moving"


async def test_states_have_the_words_of_the_real_console(pair: MovingStand) -> None:
    """R-51: the states of a moving partition have the words of the real console, running or not."""
    await pair.done("chsysstate -r lpar -m S -n lpar1 -o on")
    pair.moves.moves = {"lpar1", "lpar2"}
    pair.moves.words["lpar1"] = "Remote Restartable"
    output = await pair.done("lssyscfg -r lpar -m S -F name,state,remote_restart_status")
    assert output == "lpar1,Migrating - Running,Remote Restartable\nlpar2,Migrating - Not Activated,Invalid"


async def test_the_row_of_the_state_table_is_listed(pair: MovingStand) -> None:
    """R-51: Source and target list the row of the state table, also for a partition that has left."""
    uuid = str(pair.machine().system.find("lpar1").profile.uuid)
    left = ROW._replace(uuid="f" * 8, name="lpar9", state="Moved", row="row 8: GONE(5) at S", job=0)
    pair.moves.rows = [ROW._replace(uuid=uuid), left]
    assert await pair.done("lslparmigr -r lpar -m S --filter lpar_names=lpar1") == (
        "name=lpar1,lpar_id=1,migration_state=Migration In Progress,migration_type=live,source_sys_name=S,"
        "target_sys_name=T,owner_sys_name=S,epoch=7,decision=open,row=row 6: RELEASED(7) at S,job=3,"
        f"custody=own,mode=serving,uuid={uuid},waits="
    )
    assert await pair.done("lslparmigr -r lpar -m S -F name,lpar_id,migration_state,row,job --header") == (
        "name,lpar_id,migration_state,row,job\n"
        "lpar1,1,Migration In Progress,row 6: RELEASED(7) at S,3\n"
        "lpar2,2,Not Moving,null,null\n"
        "lpar9,null,Moved,row 8: GONE(5) at S,null"
    )
    assert await pair.done("lslparmigr -r lpar -m T -F name,lpar_id") == "lpar1,null\nlpar9,null"
    output = await pair.done("lslparmigr -r lpar -m S --filter lpar_ids=2 -F name,epoch,decision")
    assert output == "lpar2,0,new"


async def test_a_system_that_was_never_seen_is_known_by_the_records(pair: MovingStand) -> None:
    """A restarted console without a view of a dead source uses the records of the register."""
    known = pair.console.find("S")
    pair.links["S"].away, known.view = True, None
    assert (await pair.refused("lslparmigr -r lpar -m S")).startswith("SWPK0204 ")
    pair.moves.rows = [ROW]
    assert await pair.done("lslparmigr -r lpar -m S -F name,lpar_id,source_sys_name") == "lpar1,null,S"
    assert (await pair.refused("lssyscfg -r lpar -m S")).startswith("SWPK0204 ")
    assert (await pair.refused("migrlpar -o s -m S --id 1")).startswith("SWPK0204 ")
    await pair.done("migrlpar -o s -m S -p lpar1")


async def test_systems_and_the_console(pair: MovingStand) -> None:
    """`lslparmigr -r sys` lists what mobility a system supports and how many moves are in progress.

    No system of this test has a mobility listener.
    """
    assert await pair.done("lslparmigr -r sys -m S") == (
        "active_lpar_mobility_capable=0,num_active_migrations_supported=1,num_active_migrations_in_progress=0,"
        "inactive_lpar_mobility_capable=1,num_inactive_migrations_supported=1,"
        "num_inactive_migrations_in_progress=0,num_remote_restarts_in_progress=0,mobility_address="
    )
    pair.moves.rows = [ROW, ROW._replace(state="Moved"), ROW._replace(kind="inactive")]
    running = "num_active_migrations_in_progress,num_inactive_migrations_in_progress"
    assert await pair.done(f"lslparmigr -r sys -m T -F {running}") == "1,1"
    assert await pair.done("lslparmigr -r manager") == "remote_lpar_mobility_capable=0"
    assert await pair.done("lslparmigr -r msp -m S") == "No results were found."


async def test_a_recovery_that_ends_with_one_owner_has_succeeded(pair: MovingStand) -> None:
    """R-51: If `recover` of a failed migration ends with one owner, it succeeds and names the owner."""
    pair.moves.failed = rules.MIGRATION_FAILED
    output = await pair.done("migrlpar -o r -m S -p lpar1")
    assert output == "row 2\nlpar1: the end\nthe attempt has ended: lpar1 is at S"
    assert (await pair.refused("migrlpar -o r -m S -p gone")).endswith(
        f"SWPK0726 job 1 (migrate) failed: gone: the end; {REMEDIES['migration.failed']}"
    )
    pair.moves.failed = rules.MIGRATION_FORCE
    assert (await pair.refused("migrlpar -o r -m S -p lpar1")).endswith(
        f"SWPK0725 job 1 (migrate) failed: lpar1: the end; {REMEDIES['migration.force']}"
    )
