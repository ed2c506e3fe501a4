"""The typed client of the control channel: requests without I/O, and the two consoles that send them."""

import inspect
import socket
import threading
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from hcall_abi import requests, snapshot_requests
from hcall_abi.control import PROBLEM_JSON, VERBS
from hcall_abi.control_bodies import KeptCopy, MigrationOrder
from hcall_abi.control_views import NeedsView, Problem
from hcall_abi.errors import OperatorError
from hcall_abi.faults import parse_fault
from hcall_abi.rules import console as rules
from hcall_client import console
from hcall_client.console import (
    BlockingConsole,
    Console,
    ConsoleMisspoken,
    ConsoleRefused,
    ConsoleRequest,
    ConsoleUnreachable,
)
from hcall_server.platform.profile import PartitionProfile
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.sealing import PartitionRecord
from hcall_server.sealing.copies import seal_copy
from tests.control_channel.rig import make_machine

KEY = TrustedSystemKey(bytes(range(32)))
RECORD = PartitionRecord(PartitionProfile(9, "restored", UUID(int=9, version=4), access_key=bytes(32)), None)
REQUESTS: tuple[ConsoleRequest[Any], ...] = (
    console.show_system(),
    console.begin_recovery(),
    console.end_recovery(give_up=True),
    console.create_partition("lpar1", 8, auto_start=False),
    console.show_partition("lpar1"),
    console.show_copy("lpar1"),
    console.set_trusted_key("change", KEY.secret),
    console.restore_copy(seal_copy(KEY, RECORD, system_id=bytes(16), firmware="", time=0, entropy=bytes)),
    console.attach_console("0" * 32, "hmc1"),
    console.keep_copy("restored", KeptCopy(uuid=str(RECORD.profile.uuid), restores=0, generation=0, time=0)),
    console.delete_partition("restored", destroy=True),
    console.forget_copies([str(RECORD.profile.uuid)]),
    console.detach_console("0" * 32, "hmc1"),
    console.set_system("another name"),
    console.change_partition("lpar1", auto_start=True, attributes={"secure_boot": 1}),
    console.show_trusted_key(),
    console.show_components(),
    console.power_on("lpar1"),
    console.ipl("lpar1"),
    console.power_off("lpar1"),
    console.rotate_key("lpar1"),
    console.set_attributes("lpar1", {"secure_boot": 2, "keystore_kbytes": 16}),
    console.set_faults("lpar1", [parse_fault("READ_OBJECT=H_BUSY,nth=2")]),
    console.set_nvram_fault("full", 2),
    console.set_nvram_fault("none"),
    console.show_health(),
    console.show_metrics(),
    console.stop_system(),
)
"""Every request, in an order in which a system without partitions grants each of them."""
_UUID, _ID, _TOKEN = str(RECORD.profile.uuid), "0" * 32, bytes(32)
MOVES: tuple[ConsoleRequest[Any], ...] = (
    console.show_needs("lpar1"),
    console.check_arrival(
        NeedsView(
            uuid=_UUID, name="lpar1", epoch=0, level="FW1110", formats=[1], kbytes=8, used_bytes=0, objects=0,
            longest_label=0, largest_object=0, longest_password=0, policies=0, calls=[], attributes={},
        )
    ),
    console.expect_partition(_UUID, 1, _ID, _TOKEN),
    console.begin_migration(
        "lpar1", MigrationOrder(uuid=_UUID, epoch=1, target_id=_ID, address="unix:/run/x", token=_TOKEN)
    ),
    console.release_partition("lpar1", _UUID, 1, _ID),
    console.take_partition(b"copy", 1, _ID),
    console.tell_custody(_UUID, 1, "fenced", peer_id=_ID),
)  # fmt: skip
"""The requests of a migration; tests/custody has two systems that grant them."""
TRACES: tuple[ConsoleRequest[Any], ...] = (console.set_trace("lpar1", "off"),)
"""The request of a trace, which has a module of its own; tests/trace has systems that grant it."""
SNAPSHOTS: tuple[ConsoleRequest[Any], ...] = (
    snapshot_requests.list_snapshots(),
    snapshot_requests.save_snapshot("base", force=True),
    snapshot_requests.load_snapshot("base", "correct horse battery", keep_uuid=True),
    snapshot_requests.show_snapshot("base"),
    snapshot_requests.diff_snapshot("base", "other"),
    snapshot_requests.remove_snapshot("base"),
)
"""The requests of snapshots, which have a module of their own; tests/snapshots has their systems."""


@pytest.fixture
def system() -> Console:
    """A console of a system without partitions, in this process."""
    from hcall_server.control_channel.app import make_app

    return Console(httpx.ASGITransport(make_app(make_machine())))


def answering(status: int, content: bytes, kind: str = "application/json") -> Console:
    """A console whose server always gives the same answer."""
    answer = httpx.Response(status, content=content, headers={"content-type": kind})
    return Console(httpx.MockTransport(lambda _: answer))


def test_every_verb_has_a_request() -> None:
    """Each verb of the contract has a function, and each function sends the body of its verb.

    Only the event stream has no function here: a stream is more than one answer.
    """
    verbs = {verb.operation for verb in VERBS} - {"watchEvents"}
    assert {request.verb.operation for request in (*REQUESTS, *MOVES, *TRACES, *SNAPSHOTS)} == verbs
    for request in (*REQUESTS, *MOVES, *TRACES, *SNAPSHOTS):
        assert type(request.body) is (request.verb.body or type(None))
        assert "{" not in request.path
    functions = [each for name, each in vars(requests).items() if inspect.isfunction(each) and name[0] != "_"]
    helper = {requests.checked_name}
    own = [each for each in functions if each.__module__ == requests.__name__ and each not in helper]
    assert len(own) == len(verbs) - len(TRACES) - len(SNAPSHOTS)


async def test_every_answer_is_typed(system: Console) -> None:
    """R-30, R-36, R-75: The system grants each request, and each answer has the type of its verb."""
    for request in REQUESTS:
        answer = await system.call(request)
        assert isinstance(answer, request.answer)
    view = await system.call(console.show_partition("lpar1"))
    assert (view.power, view.keystore_kbytes, view.secure_boot) == ("off", 16, "enforce")
    assert [(fault.hcall, fault.nth) for fault in view.faults] == [("READ_OBJECT", 2)]


async def test_a_refusal_has_the_rule_and_the_number(system: Console) -> None:
    """R-31, R-36: the refusal of the system is raised as an error, with all its fields."""
    await system.call(console.create_partition("lpar1", 8))
    with pytest.raises(ConsoleRefused) as caught:
        await system.call(console.set_attributes("lpar1", {"keystore_kbytes": 4}))
    error = caught.value
    assert error.rule is rules.SIZE_SHRINKS
    assert (error.problem.status, error.problem.fault, error.problem.code) == (409, "operator", None)
    assert str(error).endswith(
        f"[operator fault; rule size.shrinks: {error.rule.sentence}; see {error.rule.page}]"
    )
    with pytest.raises(ConsoleRefused, match="there is no partition 'a b'"):
        await system.call(console.show_partition("a b"))


@pytest.mark.parametrize(
    "changes", [{"foo": 1}, {"secure_boot": 3}, {"keystore_kbytes": 65536}, {"keystore_signed_updates": -1}]
)
def test_attributes_that_no_partition_has_are_not_sent(changes: dict[str, int]) -> None:
    """R-36: A name or a value of an attribute outside the contract is refused before anything is sent."""
    with pytest.raises(OperatorError) as caught:
        console.set_attributes("lpar1", changes)
    assert caught.value.rule.page == "spec/control.md#attributes"


@pytest.mark.parametrize("name", ["", ".", "..", "\udcff", "x" * 256])
def test_names_that_cannot_stand_in_a_path_are_not_sent(name: str) -> None:
    """An invalid name is refused before anything is sent.

    Invalid names are empty, too long, not UTF-8, a dot, or two dots.
    """
    for make in (console.show_partition, console.power_on, console.create_partition):
        with pytest.raises(OperatorError) as caught:
            make(name)
        assert caught.value.rule.page == "spec/control.md#names"


def test_a_stall_has_no_number_of_commits() -> None:
    """R-75: A stall with a number of commits is refused, because a stall lasts until the operator ends it."""
    with pytest.raises(OperatorError, match="stall takes no number of commits"):
        console.set_nvram_fault("stall", 2)


async def test_a_field_of_a_later_version_is_no_error() -> None:
    """spec/control.md: a later version may add fields to an answer."""
    texts = dict.fromkeys(("name", "type_model_serial", "system_id", "firmware_level"), "")
    lists: dict[str, list[str]] = {"partitions": [], "restored": [], "lost": []}
    view = texts | lists | {"state": "Operating", "total_kbytes": 1, "assigned_kbytes": 0, "console": None}
    later = msgspec.json.encode(view | {"tomorrow": [1]})
    assert (await answering(200, later).call(console.show_system())).total_kbytes == 1


@pytest.mark.parametrize(
    "request_,status,content,kind",
    [
        (console.show_system(), 200, b"{}", "application/json"),
        (console.show_system(), 200, b"\xff", "text/html"),
        (console.show_system(), 204, b"", "application/json"),
        (console.show_system(), 200, b'{"x":' + b"[" * 200_000, "application/json"),
        (console.show_health(), 500, b"<html>", "text/html"),
        (console.show_metrics(), 200, b"\xff", "text/plain"),
        (console.ipl("a"), 409, b'{"detail": 1}', PROBLEM_JSON),
    ],
)
async def test_an_answer_that_is_none(
    request_: ConsoleRequest[Any],
    status: int,
    content: bytes,
    kind: str,
) -> None:
    """An answer outside the contract raises one error that names the page, not an error of a library."""
    with pytest.raises(ConsoleMisspoken) as caught:
        await answering(status, content, kind).call(request_)
    assert caught.value.rule.page == "spec/control.md#verbs"
    assert request_.verb.operation in caught.value.message


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e30])
def test_timeouts_that_no_socket_has(seconds: float) -> None:
    """Neither console can be made with a timeout that no socket accepts."""
    for make in (BlockingConsole, Console):
        with pytest.raises(OperatorError, match="a timeout of"):
            make("control.sock", seconds)


def test_what_is_no_http_is_told_in_one_harmless_line(tmp_path) -> None:
    """If another program answers on the socket without HTTP, the error is one printable line."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(tmp_path / "s"))
            served, _ = listener.accept()
            served.close()

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"\x1b[31mHCAL\0\r\n\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(ConsoleUnreachable) as caught:
            BlockingConsole(tmp_path / "s").call(console.show_system())
        thread.join()
    assert caught.value.reason.isprintable()


async def test_nobody_there(tmp_path) -> None:
    """If no server listens, the error of both consoles has the path of the socket."""
    for path in (tmp_path / "control.sock", tmp_path):
        with pytest.raises(ConsoleUnreachable, match=str(path)) as blocking:
            BlockingConsole(path).call(console.show_system())
        with pytest.raises(ConsoleUnreachable, match=str(path)):
            await Console(path).call(console.show_system())
        assert blocking.value.reason
    assert "control.sock" in repr(BlockingConsole(tmp_path / "control.sock"))


@pytest.mark.process
async def test_both_consoles_reach_a_server(swpks_server) -> None:
    """The blocking console and that on Trio send the same requests over a real socket."""
    blocking, other = swpks_server.console, Console(swpks_server.control_socket)
    assert blocking.call(console.ipl("lpar1")).ipl_count == 2
    assert (await other.call(console.ipl("lpar1"))).ipl_count == 3
    assert blocking.call(console.show_health()).ok
    assert "swpks_info" in await other.call(console.show_metrics())


def test_a_refusal_does_not_steer_the_terminal() -> None:
    """The text of any problem that a system sends is printable and one line."""
    evil = "a\nb\x1b[2J"
    refusal = Problem(
        type="about:blank",
        title="",
        status=409,
        detail=evil,
        fault="operator",
        rule_id=evil,
        rule=evil,
        section=evil,
        code=evil,
    )
    error = ConsoleRefused(refusal)
    assert all(text.isprintable() for text in (str(error), error.rule.code or "", error.rule.page))
    assert ConsoleMisspoken("showSystem", evil).message.isprintable()
