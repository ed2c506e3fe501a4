"""Each state of custody is shown in a true sentence, with a remedy of existing commands (R-51, R-54)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import msgspec
import pytest

from hcall_abi import standstills
from hcall_abi.control_views import SystemView
from hcall_abi.errors import OperatorError
from hcall_abi.rules import backup
from hcall_abi.rules import migration as rules
from hcall_abi.standstills import KnownConsole, standstill
from hcall_server.control_channel.views import system_view
from hcall_server.platform.custody import (
    OWNING,
    SERVES,
    SYSTEM,
    Custody,
    Mode,
    Word,
    mode_after_start,
)
from hcall_server.platform.system_state import SystemState
from swpks.cli.lpar_standstill import unserved
from swpks.hmc.names import LINES
from tests.custody.conftest import Stage
from tests.custody.world import HMC, A, E
from tests.swpks.commands import takes

State = tuple[Custody, Mode]


def every_state() -> Iterator[State]:
    """Return all states that the tables can reach, at a start or after a row."""
    for custody in Custody:
        for asks in (False, True):
            yield custody, mode_after_start(custody, asks=asks)
    for row in SYSTEM:
        for custody in row.at:
            yield from ((custody, mode) for mode in row.mode)
            yield row.to or custody, row.then


REACHED = {(custody.name.lower(), mode.value) for custody, mode in every_state()}
UNSERVED = sorted(REACHED - {(c.name.lower(), m.value) for c in OWNING for m in SERVES})


def test_the_table_has_every_state_and_no_other() -> None:
    """The table has exactly the states that occur. A missing one would be shown as a step that soon ends."""
    assert set(standstills.STATES) == REACHED
    served = {state for state, row in standstills.STATES.items() if row.rule is None}
    assert served == REACHED - set(UNSERVED)


@pytest.mark.parametrize("console", [None, KnownConsole("", ""), *(
    KnownConsole("hmc1", "ab", connected) for connected in (None, True, False))], ids=str)  # fmt: skip
@pytest.mark.parametrize("state", UNSERVED, ids="-".join)
def test_each_state_is_told_with_commands_that_exist(
    state: tuple[str, str], console: KnownConsole | None
) -> None:
    """No remedy has a placeholder left in it, and each command in it exists."""
    found = standstill(*state, "lpar1", console)
    assert found is not None
    assert found.rule in (rules.CUSTODY_OWNED, rules.CUSTODY_CONFIRMED)
    assert found.words
    assert found.remedy
    assert not re.search("[{}]", found.words + found.remedy)
    demand_commands(found.remedy)
    assert "power" not in found.remedy, "power on is refused in every one of these states"
    assert ("--without-console" in found.remedy) is (state[1] == "asking"), "it ends no other state"


@pytest.mark.parametrize("state", standstills.SYSTEM_REMEDIES)
def test_each_state_of_a_system_too(state: str) -> None:
    """The remedies for Recovery and Reset pending have existing commands too."""
    demand_commands(standstills.not_operating(state))
    demand_commands(standstills.KEY_FIRST)


def demand_commands(text: str) -> None:
    """Assert that argparse, or the syntax of console lines, accepts each command in a remedy."""
    commands = re.findall(r"swpks [^;,()]+?(?=[;,()]|: |$| shows| has | for each)", text)
    assert commands or "swpks" not in text
    for command in commands:
        words = shlex.split(command)[1:]
        # A console line without the name of the store would need SWPKS_HMC, so a remedy must not show one.
        assert words[0] != "hmc" or words[1] not in LINES or words[1] == "chtskey", command
        assert takes(["swpks", *words]), command


def test_between_two_states() -> None:
    """While a step is being stored, the record is already new, but the mode is still old.

    The remedy for the operator is then to try again in a moment.
    """
    found = standstill("released", "in-doubt", "lpar1")
    assert found is not None
    assert (found.words, found.remedy) == ("takes a step of a migration", "try again in a moment")


def shown(view: SystemView, name: str = A) -> str:
    """Return the sentence that `swpks lpar` gets about a partition, or "" if only its power is shown."""
    found = unserved(view, name)
    return f"{found.rule.id}: {found.message}" if found else ""


WALK = {
    "copying": ("", ""),
    "frozen": ("a is frozen, and waits for its target (attempt 5, other system T)", ""),
    "in_doubt": ("a is frozen, and waits for the console (attempt 5, other system T)", ""),
    "prepared": ("a is frozen", "a is prepared here, and not served yet (attempt 5, other system S)"),
    "released": ("a is released to its target, and its store is still here (attempt 5, other system T)",
                 "a is prepared here"),
    "arrived": ("a is released to its target", ""),
    "gone": ("a has left (attempt 5, other system T)", ""),
}  # fmt: skip


@pytest.mark.parametrize("step", WALK)
async def test_a_migration_step_by_step(stage: Stage, step: str) -> None:
    """R-51: both systems show each step. A power request is refused with the same remedy."""
    await getattr(stage, step)()
    ids = {stage.s.id.hex(): "S", stage.t.id.hex(): "T"}
    for home, expected in zip((stage.s, stage.t), WALK[step], strict=True):
        sentence = shown(system_view(home.machine))
        for number, letter in ids.items():
            sentence = sentence.replace(number, letter)
        assert sentence.startswith(f"custody.owned: {expected}" if expected else "")
        assert bool(sentence) is bool(expected)
        if sentence and A in home.machine.system.partitions:
            with pytest.raises(OperatorError) as refused:
                home.a.demand_owned()
            found = standstill(home.a.profile.custody.name.lower(), home.a.mode.value, A)
            assert found
            assert refused.value.message.endswith(f"it {found.words}; {found.remedy}")


async def test_a_copy_that_was_dropped(stage: Stage) -> None:
    """R-51: if BAR dropped a copy here, the sentence says that the partition is not here."""
    await stage.prepared()
    assert await stage.t.take(stage.uuid, Word.BAR, E + 1)
    view = system_view(stage.t.machine)
    assert "custody.owned: a is not here: a copy of it was dropped" in shown(view)
    assert shown(view, "other") == ""


async def test_a_partition_that_asks(stage: Stage) -> None:
    """R-54: if a partition asks its console, the sentence names it.

    The remedy depends on the connection to it.
    """
    await stage.s.machine.attachment.attach(HMC, "hmc1")
    await stage.s.start()
    sentence = shown(system_view(stage.s.machine))
    assert sentence.startswith(
        f"custody.confirmed: a waits until the console 'hmc1' ({HMC.hex()}) agrees to its"
    )
    assert "that console is away; start it: swpks hmc serve --store DIR" in sentence
    assert "--without-console: if another one has it, two systems serve it" in sentence
    with stage.s.machine.attachment.stream(HMC.hex()):
        sentence = shown(system_view(stage.s.machine))
    assert "the console is connected, and custody.unanswered in its log has the reason" in sentence
    with pytest.raises(OperatorError, match="--without-console") as refused:
        stage.s.machine.power_on(A)
    assert refused.value.rule is rules.CUSTODY_CONFIRMED
    assert await stage.s.take(stage.uuid, Word.SERVE, 0)
    assert shown(system_view(stage.s.machine)) == ""


async def test_recovery_names_the_steps_in_their_order(stage: Stage) -> None:
    """R-48: in Recovery, errors list the steps in order: first the key, then the copies."""
    machine = stage.t.machine
    await machine.recovery.begin()
    steps = "swpks hmc chtskey -o return --sealed FILE, then swpks hmc restore FILE for each copy, then swpks"
    expected = (
        f"system.operating: 'a' is not served: the system is in the state Recovery: {{}}{steps} hmc recover"
    )
    sentence = shown(system_view(machine))
    assert sentence == expected.format("its console restores the stores; by hand, in this order: ")
    lost = shown(msgspec.structs.replace(system_view(machine), lost=["a", "b"]))
    assert lost.startswith("system.operating: 'a' is not served (a, b: known and not restored): the system")
    with pytest.raises(OperatorError) as refused:
        await machine.backups.restore(b"copy")
    assert refused.value.rule is backup.TRUSTED_KEY_SET
    assert f"in the state Recovery the key comes first: {steps}" in refused.value.message
    for request in (machine.power_on, machine.system.create):
        with pytest.raises(OperatorError) as refused:
            request(A)
        assert refused.value.message.endswith(steps + " hmc recover")


async def test_the_other_states_of_a_system(stage: Stage) -> None:
    """Reset pending has another remedy, and Operating has none."""
    machine = stage.t.machine
    with pytest.raises(OperatorError, match="enable a keystore, or chtskey -o restore --newkey FILE"):
        await machine.backups.restore(b"copy")
    machine.system.state = SystemState.RESET_PENDING
    assert "Reset pending: swpks hmc stop, and then swpks asmi reset-settings" in shown(system_view(machine))
