"""Connections of commands: their limits, their files, and callers that disconnect."""

from __future__ import annotations

import pytest
import trio

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_server.console.jobs import Job
from swpks.hmc import serving, wire
from swpks.hmc.orders import ConsoleHandler
from swpks.hmc.serving import WireCaller
from tests.console.stand import standing
from tests.hmc.rig import LINE, done, run, served


def test_a_request_is_answered_once(tmp_path) -> None:
    """A connection ends after the answer to its request, so a second request on it is ignored."""

    async def main() -> None:
        async with served(tmp_path, done) as rig:
            raw = await rig.connect(LINE)
            assert await raw.rest() == [{"say": "done"}, {"exit": 0}]

    run(main)


@pytest.mark.parametrize(
    "data", [b"garbage\n", b"\n", b"{}\n", b'{"line": []}\n', b"\xff\xfe\n", LINE[:-3] + b"\n"]
)
def test_garbage_is_answered_and_harms_nobody(tmp_path, data) -> None:
    """Garbage is answered with the rule, and the next command is served."""

    async def main() -> None:
        async with served(tmp_path, done) as rig:
            said, last = await (await rig.connect(data)).rest()
            assert "rule hmc.wire" in said["say"]
            assert last == {"exit": 1}
            assert (await (await rig.connect(LINE)).rest())[-1] == {"exit": 0}

    run(main)


def test_a_line_without_end_is_cut_off(tmp_path, monkeypatch) -> None:
    """A line without end is refused above a limit, so the console's memory is bounded."""
    monkeypatch.setattr(wire.LineBuffer.__init__, "__defaults__", (1000,))

    async def main() -> None:
        async with served(tmp_path, done) as rig:
            found = await (await rig.connect(b"x" * 5000)).rest()
            assert "more than 1000 bytes" in found[0]["say"]

    run(main)


def test_half_a_line_is_not_waited_for_for_ever(tmp_path) -> None:
    """A connection with half a line ends after ten seconds. If its client closes, it ends at once."""

    async def main() -> None:
        async with served(tmp_path, done) as rig:
            slow = await rig.connect(LINE[:5])
            gone = await rig.connect(LINE[:5])
            await gone.stream.aclose()
            begun = trio.current_time()
            assert "no request within 10 seconds" in (await slow.rest())[0]["say"]
            assert trio.current_time() - begun >= 9

    run(main)


def test_more_commands_than_places_wait(tmp_path, monkeypatch) -> None:
    """If commands have taken all places, the next command waits until a place is free."""
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)
    free = trio.Event()

    async def work(caller: WireCaller) -> bytes:
        await caller.say("begun")
        await free.wait()
        return wire.exit_status(0)

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            raws = [await rig.connect(LINE) for _ in range(3)]
            assert [await raw.next() for raw in raws[:2]] == [{"say": "begun"}] * 2
            with trio.move_on_after(1) as waited:
                await raws[2].next()
            assert waited.cancelled_caught
            free.set()
            assert [(await raw.rest())[-1] for raw in raws] == [{"exit": 0}] * 3

    run(main)


def test_files_come_from_the_command(tmp_path) -> None:
    """The caller answers for each file with content, a confirmation or a refusal."""
    found: list[object] = []

    async def work(caller: WireCaller) -> bytes:
        found.append(await caller.read("a", 5))
        await caller.test("b", replace=True)
        await caller.write("b", b"x", replace=True)
        for ask in (caller.read("c", 5), caller.read("d", 1)):
            with pytest.raises(OperatorError) as caught:
                await ask
            found.append(caught.value.rule)
        with pytest.raises(OperatorError) as caught:
            await caller.write("e", bytes(wire.LONGEST_LINE), replace=False)
        found.append(caught.value.rule)
        return wire.exit_status(0)

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            raw = await rig.connect(LINE)
            assert await raw.next() == {"read": "a", "limit": 5}
            await raw.stream.send_all(b'{"content": "aGVsbG8="}\n')
            assert await raw.next() == {"test": "b", "replace": True}
            await raw.stream.send_all(b'{"writable": true}\n')
            assert await raw.next() == {"write": "b", "content": "eA==", "replace": True}
            await raw.stream.send_all(b'{"written": true}\n')
            await raw.next()
            await raw.stream.send_all(b'{"error": "c: no"}\n')
            await raw.next()
            await raw.stream.send_all(b'{"content": "aGVsbG8="}\n')
            assert await raw.rest() == [{"exit": 0}]

    run(main)
    assert found == [b"hello", *[rules.HMC_FILE] * 3]


@pytest.mark.parametrize("reply", [b"", b"garbage\n", b'{"written": true}\n'])
def test_a_file_that_never_comes_is_an_error_of_the_line(tmp_path, reply) -> None:
    """If the caller never answers with a file, the line fails by itself."""
    ended: list[str] = []

    async def work(caller: WireCaller) -> bytes:
        try:
            await caller.read("a", 5)
        except OperatorError as error:
            ended.append(error.rule.id)
        return await done(caller)

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            raw = await rig.connect(LINE)
            await raw.next()
            await raw.stream.send_all(reply)
            if reply != b"":
                await raw.rest()
            else:
                with trio.fail_after(serving.FILE_SECONDS + 1):
                    assert (await raw.rest())[-1] == {"exit": 0}

    run(main)
    assert ended == ["hmc.file"]


def test_a_reply_that_nothing_asked_for_ends_the_hearing(tmp_path) -> None:
    """If a caller sends replies without a question, the console reads no more. The line runs to its end."""

    async def work(caller: WireCaller) -> bytes:
        await caller.say("begun")
        await trio.sleep(1)
        ended.set()
        return wire.exit_status(0)

    ended = trio.Event()

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            raw = await rig.connect(LINE)
            await raw.next()
            await raw.stream.send_all(b'{"written": true}\n' * 100)
            await ended.wait()

    run(main)


def test_a_line_goes_on_when_its_command_is_gone(tmp_path) -> None:
    """A line runs to its end after its caller has left: a partial change could stay unnoticed."""
    ended = trio.Event()

    async def work(caller: WireCaller) -> bytes:
        await caller.say("begun")
        await trio.sleep(5)
        await caller.say("more")
        ended.set()
        return wire.exit_status(0)

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            raw = await rig.connect(LINE)
            await raw.next()
            await raw.stream.aclose()
            with trio.fail_after(20):
                await ended.wait()

    run(main)


def test_following_a_job_ends_with_its_command(tmp_path) -> None:
    """If the follower of a job leaves, following ends and its place is free."""
    ended = trio.Event()

    async def work(caller: WireCaller) -> bytes:
        try:
            await caller.progress(Job(1, "recover", "sys1"))
            await trio.sleep_forever()
        finally:
            ended.set()

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            raw = await rig.connect(LINE)
            assert (await raw.next() or {})["progress"]["number"] == 1
            await raw.stream.aclose()
            with trio.fail_after(20):
                await ended.wait()

    run(main)


def test_a_command_that_does_not_read_is_left(tmp_path) -> None:
    """If a caller does not read for ten seconds, its output is dropped and the line goes on."""
    ended = trio.Event()

    async def work(caller: WireCaller) -> bytes:
        for _ in range(50):
            await caller.say("x" * 100_000)
        ended.set()
        return wire.exit_status(0)

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            await rig.connect(LINE)
            with trio.fail_after(serving.SEND_SECONDS + 5):
                await ended.wait()

    run(main)


def test_a_bug_is_answered(tmp_path) -> None:
    """An unexpected error is answered, so that the command ends. The log has the traceback."""

    async def work(caller: WireCaller) -> bytes:
        await caller.say("begun")
        raise ValueError("a bug")

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            raw = await rig.connect(LINE)
            assert await raw.rest() == [{"say": "begun"}, {"say": "failed"}, {"exit": 1}]

    run(main)


@pytest.mark.parametrize("line", [LINE, b'{"order": {"verb": "systems"}}\n'])
def test_what_a_command_hears_of_a_bug(line) -> None:
    """The answer about an unexpected error has the rule and says where the details are."""

    async def main() -> None:
        async with standing("S") as stand:
            reported = ConsoleHandler(stand.console).failed(wire.request_of(line))
            assert b"its log has the reason" in reported
            assert b"SWPK0507" in reported or b"request.answered" in reported

    run(main)


def test_idle_connections_delay_nobody(tmp_path) -> None:
    """For a new connection, the oldest one without a request is closed. Those with a request stay."""

    async def work(caller: WireCaller) -> bytes:
        await caller.say("begun")
        await caller.read("a", 5)
        return wire.exit_status(0)

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            busy = await rig.connect(LINE)
            assert await busy.next() == {"say": "begun"}
            idle = [await rig.connect(LINE[:3]) for _ in range(200)]
            begun = trio.current_time()
            honest = await rig.connect(LINE)
            assert await honest.next() == {"say": "begun"}
            assert trio.current_time() - begun < 1
            assert "others needed its place" in (await idle[0].rest())[0]["say"]
            for raw in (busy, honest):
                assert await raw.next() == {"read": "a", "limit": 5}
                await raw.stream.send_all(b'{"content": "aGVsbG8="}\n')
                assert await raw.rest() == [{"exit": 0}]

    run(main)
