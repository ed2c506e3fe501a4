"""Every interleaving of a migration, over the product's own tables (R-51, R-54; spec/migration.md#proof)."""

from __future__ import annotations

from collections import Counter

import pytest

from hcall_server.platform.custody import CONSOLE, SYSTEM, Custody, Decision, Register
from tests.platform.custody_mistakes import (
    CONNECTED,
    HARMLESS,
    MISTAKES,
    Mistake,
    asking,
    every_way,
    fixed,
    there_and_back,
)
from tests.platform.custody_search import Search, View, known, one_serves, well
from tests.platform.custody_world import Attempt, Bars, Kind, Rules, restart
from tests.spec.markdown import SPEC, section, tables


def shown(heading: str) -> list[list[str]]:
    """Return the rows of a table of figures on the page."""
    return tables(section(SPEC / "migration.md", heading))[0][1:]


def test_one_owner_in_every_interleaving() -> None:
    """R-51: In every interleaving of two attempts with two writes there is one owner.

    Both kinds of search agree.
    """
    _, found = well(fixed(2, 2), eager=False)
    _, short = well(fixed(2, 2))
    assert found.locals == short.locals
    figures = [f"{each:,}" for each in (found.states, found.transitions, len(found.locals))]
    assert ["2 x 2", *figures] in shown("Proof")


def test_round_trips() -> None:
    """R-51: The search also passes if the second attempt goes back and both systems confirm writes."""
    _, found = well(there_and_back(2, 2))
    figures = [f"{each:,}" for each in (found.states, found.transitions, len(found.locals))]
    assert ["2 x 2, there and back, short", *figures] in shown("Proof")


def test_every_way_of_two_attempts() -> None:
    """R-51, R-52, R-54: The search passes for every plan of two attempts, and uses each row of the tables."""
    third = asking((Attempt(0, 1), Attempt(0, 2, Kind.INACTIVE)))
    states, taken = 0, set[object]()
    plans = [*every_way(2), third]
    for world in plans:
        search, found = well(world)
        states += found.states
        taken |= search.taken()
    assert [f"{len(plans)} plans of two attempts, short", f"{states:,}"] in [
        row[:2] for row in shown("Proof")
    ]
    assert [row for row in (*SYSTEM, *CONSOLE) if row not in taken] == []


# Mistakes


@pytest.mark.parametrize("mistake", MISTAKES, ids=[each.name for each in MISTAKES])
def test_a_seeded_mistake_is_found(mistake: Mistake) -> None:
    """R-51, R-54: A changed row, or a changed rule of a driver, breaks a promise, and the search finds it."""
    search = Search(mistake.world)
    found = search.explore()
    if mistake.breaks:
        assert found.fault is not None
        assert mistake.breaks in found.fault.why
        assert len(found.fault.steps) > 1
        return
    assert found.fault is None
    assert search.stuck(found.locals, known(search.model), forces=True)


def test_the_generation_in_prepared_is_a_second_belt() -> None:
    """R-51: Without the generation in PREPARED nothing breaks: each attempt has its own number."""
    well(HARMLESS)


@pytest.mark.parametrize("asks", [True, False])
def test_a_wrong_operator_of_a_restart(asks: bool) -> None:
    """R-54: If the operator restarts a partition whose source still runs, two systems may serve."""
    found = Search(asking(restart(0, 1), wrong=True)._replace(asks=asks)).explore()
    assert found.fault is not None
    assert found.fault.why == "two serve"


def test_a_right_operator_of_a_restart() -> None:
    """R-54: If the source is dead and asks at its return, it never serves beside the target.

    A source that does not ask may serve beside the target.
    """
    well(asking(restart(0, 1)))
    assert Search(asking(restart(0, 1))._replace(asks=False)).explore().fault is not None


def test_a_restart_that_is_cancelled() -> None:
    """R-52, R-54: In any order of events, a cancelled restart bars its target and ends at its source."""
    world = asking((*restart(0, 1), *restart(1, 0)))
    search, found = well(world)
    views = [search.view(each) for each in found.locals]
    back = [systems for systems, desk, _ in views if desk.register == Register(4, Decision.DONE, 4)]
    barred = [each for each in back if (each[1].custody, each[1].epoch) == (Custody.NONE, 3)]
    assert {each[0].custody for each in barred} == {Custody.ARRIVED}
    unbarred = world._replace(rules=CONNECTED._replace(bars=Bars.NONE))
    fault = Search(unbarred).explore().fault
    assert fault is not None
    assert fault.why == "two serve"


def test_a_wrong_operator_of_a_forced_attempt_harms_nobody() -> None:
    """R-51: If the operator forces a target although the source runs, still one system serves."""
    search, found = well(fixed(1, 2))
    decisions = {search.view(each)[1].register.decision for each in found.locals}
    assert decisions == set(Decision)


# One party stays down for ever


def without_owner(dead: int) -> tuple[int, Counter[tuple[str, str]]]:
    """Return two results about the states in which this party is down.

    The first is their number. The second counts those that reach no owner, by record and decision.
    """
    found = Search(fixed(2, 2)).explore()
    # `eager=False`: the words of the last step before the death may be lost.
    search = Search(fixed(2, 2), eager=False)
    starts = [each for each in found.locals if is_down(search.view(each), dead)]
    ended = search.stuck(starts, one_serves, dead=dead, forces=dead == 0)
    kinds = Counter((records(search.view(each)), decision(search.view(each))) for each in ended)
    return len(starts), kinds


def is_down(view: View, party: int) -> bool:
    """Return whether a party is down."""
    return not view[1].up if party == 2 else view[0][party].mode is None


def records(view: View) -> str:
    """Return the records of source and target. OLDER is a copy of an earlier attempt."""
    source, target = view[0]
    older = target.custody is Custody.PREPARED and target.epoch < source.epoch
    return f"{source.custody.name} {'OLDER' if older else target.custody.name}"


def decision(view: View) -> str:
    """Return the console's decision, or NEWER if it belongs to a later attempt than the source's record."""
    (source, _), desk, _ = view
    return desk.register.decision.name if desk.register.epoch == source.epoch else "NEWER"


def test_target_dead_for_ever() -> None:
    """R-51: If the target stays dead, the source serves.

    There are two exceptions: the source has released the partition, or the target was forced.
    """
    _, kinds = without_owner(1)
    assert all("RELEASED" in at or "GONE" in at or said in ("FORCED", "DONE") for at, said in kinds)


def test_console_dead_for_ever() -> None:
    """R-51: If the console stays dead, some frozen sources wait for ever.

    These are the sources whose target has no present copy.
    """
    _, kinds = without_owner(2)
    assert {at for at, _ in kinds if at.startswith("FROZEN")} == {"FROZEN NONE", "FROZEN OLDER"}
    assert {at.split()[0] for at, _ in kinds} == {"FROZEN", "OWN"}


def test_source_dead_for_ever() -> None:
    """R-51: A target with the last copy of an open attempt is forced if the source stays dead."""
    _, kinds = without_owner(0)
    assert {said for at, said in kinds if at in ("FROZEN PREPARED", "RELEASED PREPARED")} <= {
        "ABORTED",
        "NEWER",
    }


def test_figures_of_the_dead() -> None:
    """The page has the number of states that reach an owner without source, target or console."""
    for dead, name in enumerate(("source", "target", "console")):
        every, kinds = without_owner(dead)
        row = [name, f"{every - kinds.total():,} of {every:,}"]
        assert row in [each[:2] for each in shown("A party that never comes back")]


# The search itself


def test_the_way_to_a_fault() -> None:
    """A fault has the steps to it in order, with their rows."""
    found = Search(asking(restart(0, 1), wrong=True)).explore()
    assert found.fault is not None
    assert found.fault.steps == ("C restarts 2", "1: copy(2), row 16")


def test_tables_without_rows() -> None:
    """Without rows no move is possible, no promise breaks, and the first system serves for ever."""
    search = Search(fixed(1, 1, Rules(system=(), console=())))
    found = search.explore()
    assert found.fault is None
    assert {search.view(each)[0][0].custody for each in found.locals} == {Custody.OWN}
