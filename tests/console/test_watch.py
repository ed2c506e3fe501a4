"""The event stream of each system: new copies, deletions, and systems that go away or are replaced (R-44)."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.requests import create_partition, delete_partition, set_attributes, set_system
from hcall_abi.rules import console
from hcall_abi.rules import hmc as rules
from hcall_server.console.store import ConsoleStore
from tests.console.rig import EPOCH, INTERVAL, Rig, Site, date, running


async def test_each_changed_store_leaves_a_copy(autojump_clock) -> None:
    """R-44: a copy is taken at once at the first contact, later within the interval; only the newest stay."""
    async with running(Site(), keep=2) as rig:
        await rig.copied()
        began = trio.current_time()
        for number in range(4):
            await rig.write("a", b"%d" % number)
            await rig.copied()
        assert trio.current_time() - began < 4 * (INTERVAL + 1)
        copies = [each for each in rig.system.copies if each.uuid == rig.uuid("a")]
        assert len(copies) == 2
        assert {each.name for each in copies} == {"a"}
        await rig.ask(set_attributes("b", {"secure_boot": 2}))
        before = len(rig.site.link.asked)
        await trio.sleep(130)
        assert "keepCopy" in rig.site.link.asked[before:]


async def test_a_copy_is_answered_when_it_is_durable(autojump_clock) -> None:
    """A copy is acknowledged once it is durable; while the console's disk is full, the system waits."""
    async with running(Site()) as rig:
        await rig.copied()
        keep, room = rig.store.keep_copy, trio.Event()

        def full(*arguments):
            if not room.is_set():
                raise StorageError(rules.HMC_STORE_WRITTEN, "the disk is full")
            return keep(*arguments)

        rig.store.keep_copy = full  # type: ignore[method-assign]
        await rig.write("a", b"new")
        before = rig.site.link.asked.count("keepCopy")
        await trio.sleep(200)
        assert rig.system.connected
        assert rig.site.link.asked.count("keepCopy") == before
        room.set()
        await rig.copied()


async def test_lost_answers_lose_no_copy(autojump_clock) -> None:
    """After a lost answer the copy is requested again."""
    async with running(Site()) as rig:
        for lost in range(1, 8):
            rig.site.link.lost_answers = lost
            await rig.write("a", b"%d" % lost)
            await rig.copied()


async def test_a_system_that_is_away_is_dialled_again(autojump_clock) -> None:
    """While a system is away, the console shows since when and why, and dials it again.

    Other systems are unaffected.
    """
    lab, other = Site("lab"), Site("other", "c")
    async with running(lab, other) as rig:
        await rig.copied()
        lab.kill()
        await rig.until(lambda: not rig.console.find("lab").connected)
        known, since = rig.console.find("lab"), rig.console.find("lab").since
        assert since == pytest.approx(EPOCH + trio.current_time(), abs=1)
        await trio.sleep(300)
        assert (known.since, known.trouble) == (since, "nothing serves this system")
        rig.site = other
        assert rig.console.find("other").connected
        rig.site = lab
        await lab.start(rig.nursery)
        began = trio.current_time()
        await rig.until(lambda: known.connected)
        assert trio.current_time() - began <= 6
        assert known.trouble == ""
        await rig.write("a", b"after the restart")
        await rig.copied()


async def test_a_restart_of_the_console_keeps_since_when_and_the_last_view(
    autojump_clock, tmp_path: Path
) -> None:
    """After a restart, the console shows the last view and its time until the system sends a new view."""
    async with running(Site(), path=tmp_path / "console.sqlite") as rig:
        await rig.copied()
        await trio.sleep(100)
        rig.site.kill()
        await rig.until(lambda: not rig.system.connected)
        since, last = rig.system.since, rig.system.last
        assert since >= EPOCH + 100
        assert last is not None
        assert (last.state, sorted(last.partitions.values())) == ("Operating", ["a", "b"])
        await trio.sleep(500)
        await rig.restart_console()
        await trio.sleep(10)
        assert (rig.system.connected, rig.system.since, rig.system.last) == (False, since, last)
        assert rig.system.view is None
        await rig.site.start(rig.nursery)
        await rig.until(lambda: rig.system.connected)
        assert rig.system.since == pytest.approx(date(), abs=1)


@pytest.mark.parametrize("killed", [False, True])
async def test_a_system_that_went_while_the_console_was_off(killed, autojump_clock, tmp_path: Path) -> None:
    """If a system left while the console was off, `since` is the console's stop.

    After a kill of the console it is the last copy.
    """
    async with running(Site(), path=tmp_path / "console.sqlite") as rig:
        await rig.copied()
        await trio.sleep(100)
        await rig.write("a", b"one")
        await rig.copied()
        heard = date()
        await trio.sleep(100)
        stopped = date()
        if killed:
            rig.store.note_link = full  # type: ignore[assignment,method-assign]
        rig.kill_console()
        rig.site.kill()
        await trio.sleep(500)
        await rig.start_console()
        await trio.sleep(10)
        assert not rig.system.connected
        assert rig.system.since == pytest.approx(heard if killed else stopped, abs=INTERVAL + 1)


async def test_a_full_disk_costs_no_stream(autojump_clock) -> None:
    """While the console's disk is full, the time of a lost stream is stored later, and no stream ends."""
    async with running(Site()) as rig:
        note = rig.store.note_link
        rig.store.note_link = full  # type: ignore[assignment,method-assign]
        rig.site.kill()
        await rig.until(lambda: not rig.system.connected)
        await rig.site.start(rig.nursery)
        await rig.until(lambda: rig.system.connected)
        rig.store.note_link = note  # type: ignore[method-assign]
        await rig.ask(create_partition("c", 16))
        await rig.until(lambda: rig.system.last and "c" in rig.system.last.partitions.values())
        stored = rig.store.link(rig.system.key)
        assert stored is not None
        assert (stored.since, stored.view) == (rig.system.since, rig.system.last)


async def test_a_console_that_was_away_gets_what_it_missed(autojump_clock) -> None:
    """A console that was away gets the copies that it missed."""
    async with running(Site()) as rig:
        await rig.copied()
        rig.kill_console()
        await trio.sleep(100)
        await rig.write("b", b"meanwhile")
        await rig.start_console()
        await rig.copied()


async def test_the_copies_of_a_deleted_partition_are_put_aside(autojump_clock) -> None:
    """Copies of a deleted partition stay in the store, and no recovery uses them."""
    async with running(Site()) as rig:
        await rig.copied()
        uuid = rig.uuid("b")
        await rig.ask(delete_partition("b", destroy=True))
        await rig.until(lambda: rig.store.forgotten(rig.system.key) == {uuid})
        assert uuid not in {each.uuid for each in rig.system.copies}
        assert uuid in {each.uuid for each in rig.store.copies(rig.system.key)}
        await rig.until(lambda: "forgetCopies" in rig.site.link.asked)


async def test_the_view_follows_the_system(autojump_clock) -> None:
    """A new name or partition appears within a moment, without a request of the console."""
    async with running(Site()) as rig:
        await rig.ask(set_system("lab two"))
        await rig.ask(create_partition("c", 16))
        await rig.until(lambda: rig.system.name == "lab two" and shown(rig) == ["a", "b", "c"], 5)
        assert rig.console.find("lab two") is rig.system
        assert rig.store.systems()[0].name == "lab two"


async def test_another_system_at_a_place_is_noted_and_goes_on(autojump_clock) -> None:
    """If another system answers at a known address, entry, name and copies stay. It may be a replacement."""
    async with running(Site()) as rig:
        await rig.copied()
        before = rig.system.system_id
        rig.site.kill()
        rig.site.lose_card_and_service_processor()
        rig.site.settings = Site("new", "").settings
        await rig.site.start(rig.nursery)
        await rig.until(lambda: rig.system.connected and rig.system.system_id != before)
        assert rig.store.systems()[0].system_id == rig.system.system_id
        assert rig.system.name == "lab"
        assert len(rig.system.copies) == 2
        rig.site.link.break_stream()
        await trio.sleep(10)
        assert rig.system.name == "lab"


async def test_a_place_that_leads_to_another_known_system_is_refused(autojump_clock) -> None:
    """An address where another known system answers is refused: that system would be attached twice."""
    lab, other = Site("lab"), Site("other", "c")
    async with running(lab, other) as rig:
        known, machine = rig.console.find("lab"), other.machine
        lab.kill()
        await trio.sleep(1)
        lab.link.restart(machine)
        await trio.sleep(10)
        assert not known.connected
        assert known.trouble == "/lab leads to other, which is known at /other"


async def test_a_bug_that_one_system_brings_out_does_not_reach_another(autojump_clock) -> None:
    """If the console meets a bug at one system, it stays connected to the other system.

    Each call to the first system raises ValueError. The console copies that system again after the repair.
    """
    lab, other = Site("lab"), Site("other", "c")
    async with running(lab, other) as rig:
        known = rig.console.find("lab")

        async def broken(_):
            await trio.lowlevel.checkpoint()
            raise ValueError("a bug")

        call, lab.link.call = lab.link.call, broken  # type: ignore[method-assign]
        await rig.write("a", b"one")
        await rig.until(lambda: "ValueError" in known.trouble)
        assert rig.console.find("other").connected
        lab.link.call = call  # type: ignore[method-assign]
        await rig.copied()


async def test_a_copy_without_a_header_is_refused_on_arrival(autojump_clock) -> None:
    """A copy without a header is not stored, and the system gets no acknowledgement."""
    async with running(Site()) as rig:
        await rig.copied()
        call = rig.site.link.call

        async def damaging(request):
            answer = await call(request)
            if request.verb.operation == "showCopy":
                answer.copy = b"no copy" + answer.copy
            return answer

        rig.site.link.call = damaging  # type: ignore[method-assign]
        await rig.write("a", b"one")
        before = rig.store.copies(1), rig.site.link.asked.count("keepCopy")
        await trio.sleep(200)
        assert (rig.store.copies(1), rig.site.link.asked.count("keepCopy")) == before
        rig.site.link.call = call  # type: ignore[method-assign]
        await rig.copied()


# The console's list of systems


async def test_systems_are_added_found_and_removed(autojump_clock) -> None:
    """A system is found by its name, or by type and serial number; a single system needs neither."""
    lab, other = Site("lab"), Site("other", "c")
    async with running(lab, other) as rig:
        console = rig.console
        assert [each.name for each in console.systems] == ["lab", "other"]
        serial = console.find("lab").type_model_serial
        assert console.find(serial) is console.find("lab")
        assert refused(lambda: console.find("nobody")) is rules.HMC_SYSTEM_KNOWN
        assert refused(lambda: console.find(None)) is rules.HMC_SYSTEM_NAMED
        assert await console.add_system("/lab", "lab") is console.find("lab")
        with pytest.raises(OperatorError) as caught:
            await console.add_system("/lab", "other")
        assert caught.value.rule is rules.HMC_SYSTEM_OWN_NAME
        assert await console.remove_system("other") == ""
        assert console.find(None).name == "lab"
        assert other.machine.attachment.link is None
        lab.kill()
        assert "still has the id of this console" in await console.remove_system("lab")
        assert console.systems == []
        await lab.start(rig.nursery)
        again = await console.add_system("/lab")
        await rig.until(lambda: again.connected)
        rig.store.remove_system = full  # type: ignore[assignment,method-assign]
        with pytest.raises(StorageError):
            await console.remove_system("lab")
        del rig.store.remove_system
        assert console.find("lab") is again
        await rig.write("a", b"one")
        await rig.copied()
        assert await console.remove_system("lab") == ""
        assert rig.store.systems() == []


async def test_a_known_system_comes_to_another_place(autojump_clock) -> None:
    """A known system at a new address keeps its entry and its copies."""
    async with running(Site()) as rig:
        await rig.copied()
        rig.sites["/new"] = rig.site
        moved = await rig.console.add_system("/new", "lab")
        assert (moved.key, moved.where) == (1, "/new")
        assert [each.where for each in rig.store.systems()] == ["/new"]
        await rig.write("a", b"one")
        await rig.copied()


async def test_two_systems_of_one_name_need_their_serial_numbers(autojump_clock) -> None:
    lab, other = Site("lab"), Site("other", "c")
    async with running(lab, other) as rig:
        await rig.ask(set_system("lab"), other)
        await rig.until(lambda: [each.name for each in rig.console.systems] == ["lab", "lab"])
        assert refused(lambda: rig.console.find("lab")) is rules.HMC_SYSTEM_NAMED


def shown(rig: Rig) -> list[str]:
    """Return the partitions that the console shows."""
    return [each.name for each in rig.system.view.partitions] if rig.system.view else []


def full(*_: object) -> None:
    raise StorageError(rules.HMC_STORE_WRITTEN, "the disk is full")


def refused(function):
    with pytest.raises(OperatorError) as caught:
        function()
    return caught.value.rule


async def test_no_request_reaches_the_wrong_system(autojump_clock) -> None:
    """If two systems exchange their addresses, verbs and jobs are refused until the exchange is undone."""
    lab, other = Site("lab"), Site("other", "c")
    async with running(lab, other) as rig:
        one, two = lab.link.machine, other.link.machine
        lab.link.restart(two)
        other.link.restart(one)
        known = rig.console.find("lab")
        with pytest.raises(OperatorError) as caught:
            await known.call(delete_partition("c", destroy=True))
        assert caught.value.rule is console.SYSTEM_IDENTITY
        job = await rig.ended(rig.console.back_up(known))
        assert (job.state, job.rule_id) == ("failed", "system.identity")
        await rig.until(lambda: not known.connected)
        lab.link.restart(one)
        other.link.restart(two)
        await rig.until(lambda: all(each.connected for each in rig.console.systems))
        assert (await rig.ended(rig.console.back_up(known))).state == "done"
        assert {each.name for each in known.copies} == {"a", "b"}


async def test_a_store_that_was_deleted_behind_the_back_of_the_console_stays_deleted(autojump_clock) -> None:
    """R-45: At each contact the system lists its stores.

    So a store that was deleted meanwhile stays deleted.
    """
    async with running(Site()) as rig:
        await rig.write("a", b"deleted")
        await rig.copied()
        await rig.console.remove_system("lab")
        await rig.ask(delete_partition("a", destroy=True))
        await rig.ask(create_partition("a", 16))
        await rig.write("a", b"live")
        await rig.console.add_system("/lab")
        await rig.until(lambda: rig.system.connected)
        await rig.copied()
        rig.site.kill()
        rig.site.lose_service_processor()
        await rig.site.start(rig.nursery)
        await rig.until(lambda: rig.console.jobs.all and rig.console.jobs.all[-1].state == "done")
        assert rig.data("a") == b"live"


async def test_a_console_with_an_older_store_takes_what_it_lacks(autojump_clock, tmp_path) -> None:
    """R-44: A console with an older store requests the copy that it acknowledged and then lost."""
    async with running(Site(), path=tmp_path / "store") as rig:
        await rig.write("a", b"first")
        await rig.copied()
        rig.kill_console()
        await trio.sleep(1)
        rig.store.close()
        older = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
        rig.store = ConsoleStore(tmp_path / "store")
        await rig.start_console()
        await rig.write("a", b"second")
        await rig.copied()
        rig.kill_console()
        await trio.sleep(1)
        rig.store.close()
        for name, content in older.items():
            (tmp_path / name).write_bytes(content)
        rig.store = ConsoleStore(tmp_path / "store")
        await rig.start_console()
        await rig.until(lambda: rig.system.connected)
        await rig.copied()
