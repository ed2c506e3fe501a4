"""R-84: the overview of a console: its facts, its words, its currency, and the command that watches it."""

from __future__ import annotations

import msgspec
import pytest
import trio
import trio.testing

from hcall_abi.errors import OperatorError
from hcall_abi.rules.hmc import HMC_STOPPED
from swpks.cli.hmc_output import plain
from swpks.cli.hmc_watch_output import overview_text
from swpks.hmc import overview_words as words
from swpks.hmc import wire
from swpks.hmc.lookout import Lookout
from swpks.hmc.orders import ConsoleHandler
from swpks.hmc.overview_views import Overview, of_one
from tests.console.rig import Site, running
from tests.console.stand import standing
from tests.hmc.pages import NOW, job, minutes, overview, partition, pictured, system
from tests.hmc.rig import run


@pytest.mark.parametrize(
    "minutes,shown",
    [(None, "none"), (0, "under 1 min"), (1, "1 min"), (119, "119 min"), (120, "2 h"), (2880, "2 d")],
)
def test_an_age_in_words(minutes, shown) -> None:
    """An age has the largest unit that gives at least 2."""
    assert words.age(minutes) == shown


def test_the_words_of_an_overview() -> None:
    """R-84: Health, oldest copy, dirty generation, and the row of the state table are in the text."""
    facts = {"trouble": "no answer", "advice": "start it", "attention": ["b is away"], "without_copy": ["q"]}
    bare = partition("q", copied=None, copy_minutes=None)
    away = system("b", bare, connected=False, copy_minutes=None, **facts)
    text = overview_text(overview(system("a", partition("p")), away, jobs=(job(3),)))
    first = "1 of 2 systems needs attention; oldest last copy: 5 min, no known change since; "
    assert text.startswith(f"{first}1 partition without a copy\n")
    assert "No connection (last known: Operating), away since 2027-01-15" in text
    assert "! no answer; start it" in text
    assert "7, dirty 9" in text
    assert "row 6: RELEASED(7) at a" in text
    assert "anchor-card agrees, service-processor present" in text


def test_a_system_that_is_away_is_marked_in_the_terminal() -> None:
    """R-84: Last known facts are marked; each system has age and time of its copy, and stores without one."""
    bare = partition("q", copied=None)
    away = system("b", partition("p"), bare, connected=False, trouble="no answer", attention=["b is away"])
    lines = overview_text(overview(system("a", partition("p")), away)).splitlines()
    marked = lines.index("  last known facts:")
    assert lines[marked - 1] == "  ! no answer"
    assert lines[marked + 1] == "  last copy: 5 min, 2027-01-15 08:00:00 UTC; 1 without a copy"
    assert lines.count("  last known facts:") == 1
    assert "  last copy: 5 min, 2027-01-15 08:00:00 UTC" in lines[:marked]


_BEHIND = partition("p", copy_behind=True)


@pytest.mark.parametrize(
    "systems,shown",
    [
        ([], ""),
        ([system("a", partition("p", copied=None))], ""),
        ([system("a", partition("p"))], "all stores as copied"),
        ([system("a", partition("p"), partition("q", copied=None))], "all other stores as copied"),
        ([system("a", _BEHIND, partition("q"))], "1 store changed since its copy"),
        ([system("a", _BEHIND), system("b", _BEHIND)], "2 stores changed since their copies"),
        ([system("a", partition("p")), system("b", connected=False)], "no known change since"),
        ([system("a", partition("p"), silent=True)], "no known change since"),
    ],
)
def test_changes_since_the_copies(systems, shown) -> None:
    """R-84: The oldest copy may be old because nothing has changed; the first line has the difference."""
    assert words.since_copy(overview(*systems)) == shown


def test_the_picture_has_facts_that_fit_together() -> None:
    """In docs/page.png times and ages agree, and the moving partition is off at both systems."""
    shown = pictured()
    for each in shown.systems:
        copied = [part.copied for part in each.partitions if part.copied is not None]
        assert (each.copied, each.since < NOW) == (min(copied), True)
        assert {part.name: part.copy for part in each.components or ()}["service-processor"] == "present"
        assert each.copy_minutes == minutes(each.copied)
        assert all(part.copy_minutes == minutes(part.copied) for part in each.partitions)
        (moving,) = [part for part in each.partitions if part.name == shown.jobs[0].partition]
        assert moving.state == "off, migrating"
    assert "all" not in words.since_copy(shown)


def test_control_characters_reach_no_terminal() -> None:
    """A name with control characters is escaped."""
    assert "\x1b" not in overview_text(plain(overview(system("a\x1b[2J", partition("p\x1b")))))


def test_an_overview_of_one_system() -> None:
    """`-m` leaves one system, and the jobs about it."""
    whole = overview(system("a"), system("b", attention=["ill"]), jobs=(job(1), job(2, system="b")))
    one = of_one(whole, "a")
    assert ([each.name for each in one.systems], [each.number for each in one.jobs], one.ok) == (
        ["a"],
        [1],
        True,
    )


async def test_the_overview_has_the_facts_of_a_system(autojump_clock) -> None:
    """R-84: State, components, space, durable generation and copies come from the system and the console."""
    async with running(Site("lab")) as rig, trio.open_nursery() as nursery:
        lookout = Lookout(rig.console)
        nursery.start_soon(lookout.run)
        await rig.write("a", b"one")
        await rig.copied()
        _, shown = await lookout.look()
        (lab,) = shown.systems
        assert (lab.name, lab.state, lab.connected, shown.ok) == ("lab", "Operating", True, True)
        assert [each.name for each in lab.components or ()] == ["anchor-card", "service-processor", "tpm"]
        a = next(each for each in lab.partitions if each.name == "a")
        assert (a.state, a.objects, a.generation == a.flushed, a.copy_behind) == ("off", 1, True, False)
        assert a.copy_minutes is not None
        nursery.cancel_scope.cancel()


async def test_a_system_that_is_away_keeps_its_last_facts(autojump_clock) -> None:
    """R-84: A system that is away is marked with its reason, and shows its last known partitions."""
    async with running(Site("lab")) as rig, trio.open_nursery() as nursery:
        lookout = Lookout(rig.console)
        nursery.start_soon(lookout.run)
        await lookout.look()
        rig.site.kill()
        await rig.until(lambda: not rig.system.connected)
        _, shown = await lookout.look()
        assert not shown.ok
        assert [each.name for each in shown.systems[0].partitions] == ["a", "b"]
        assert shown.systems[0].trouble
        await rig.restart_console()
        await rig.until(rig.console.systems[0].tried.is_set)
        later = Lookout(rig.console)
        nursery.start_soon(later.run)
        _, shown = await later.look()
        assert {each.state for each in shown.systems[0].partitions} == {"unknown"}
        nursery.cancel_scope.cancel()


async def test_a_viewer_gets_each_change_once_and_nobody_else_costs(autojump_clock) -> None:
    """Without a viewer no system is asked; a viewer gets a new overview only after a change."""
    async with running(Site("lab")) as rig, trio.open_nursery() as nursery:
        lookout, asked = Lookout(rig.console), rig.site.link.asked
        nursery.start_soon(lookout.run)
        before = len(asked)
        await trio.sleep(3)
        assert len(asked) == before
        with lookout.opened() as viewer:
            await viewer.next()
            rig.site.machine.power_on("a")
            with trio.fail_after(2):
                assert (await viewer.next()).systems[0].partitions[0].state == "running"
        nursery.cancel_scope.cancel()


def test_a_command_watches_the_console() -> None:
    """The order `watch` reports overviews as JSON; an unknown system is refused."""

    async def main() -> None:
        async with standing("S") as stand, trio.open_nursery() as nursery:
            lookout = Lookout(stand.console)
            nursery.start_soon(lookout.run)
            said: list[str] = []

            class Caller:
                async def report(self, text: str) -> None:
                    said.append(text)
                    raise OperatorError(HMC_STOPPED, "enough")

            handler = ConsoleHandler(stand.console, lookout)
            caller: object = Caller()
            for order in (b'{"order": {"verb": "watch"}}', b'{"order": {"verb": "watch", "system": "S"}}'):
                await handler.handle(wire.request_of(order), caller)  # type: ignore[arg-type]
            refused = await handler.handle(
                wire.request_of(b'{"order": {"verb": "watch", "system": "T"}}'),
                caller,  # type: ignore[arg-type]
            )
            assert b"hmc.system-known" in refused
            assert [msgspec.json.decode(each, type=Overview).systems[0].name for each in said] == ["S", "S"]
            nursery.cancel_scope.cancel()

    run(main)
