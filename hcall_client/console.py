"""The typed client of the control channel: the requests of a management console (spec/control.md).

    console = BlockingConsole("state/run/control.sock")
    console.call(set_attributes("lpar1", {"secure_boot": 2}))
    view = console.call(ipl("lpar1"))                     # a PartitionView

    console = Console("state/run/control.sock")           # the same with Trio
    view = await console.call(show_partition("lpar1"))

Each function returns a `ConsoleRequest` without I/O, as the typed h-calls do; both consoles carry it.
The verbs and their structs are those of `hcall_abi.control`.  `Console` loads Trio at its first
call, and httpx if it is given a transport.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from typing import TYPE_CHECKING, Generic, Literal, TypeVar
from urllib.parse import quote

import msgspec

from hcall_abi.attributes import attribute_number
from hcall_abi.bounds import LONGEST_NAME, LONGEST_TIMEOUT
from hcall_abi.control import JSON, PROBLEM_JSON, VERBS, Verb
from hcall_abi.control_bodies import (
    AttributeChanges,
    Body,
    ComponentsView,
    CopyToRestore,
    CopyView,
    FaultPlanSetting,
    FaultSetting,
    HealthView,
    NewPartition,
    NvramFaultSetting,
    PartitionView,
    Problem,
    RecoveredView,
    RecoveryEnd,
    SystemView,
    TrustedKeySetting,
    TrustedKeyView,
    WritebackView,
)
from hcall_abi.errors import OperatorError, PeerError, SwpksError
from hcall_abi.faults import BusyFault, ConsoleTrouble
from hcall_abi.rules import backup
from hcall_abi.rules import console as rules
from hcall_abi.rules.rule import Fault, Rule
from hcall_client.errors import printable
from hcall_client.patience import Patience
from hcall_client.patient_http import UnixConnection

if TYPE_CHECKING:
    import httpx

    from hcall_client.in_thread import Threads

T = TypeVar("T")

DEFAULT_TIMEOUT = 30.0
"""Seconds that a whole call may take.

Half a minute, because the first request to a busy server loads its HTTP stack."""
PLACES = 32
"""Requests of one `Console` that are carried at once: as many as a server serves."""
_HOST = "swpks"
"""The host that HTTP requires; the server ignores it."""
_VERBS = {verb.operation: verb for verb in VERBS}


class ConsoleRefused(SwpksError):
    """The system refused a request; `problem` is its answer, with the console's message number."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(_rule_of(problem), problem.detail)
        self.problem = problem


def _rule_of(told: Problem) -> Rule:
    """Return the row of the rule that a problem names; made from the problem where a newer server has it."""
    from hcall_abi.rules.catalogue import RULES

    unknown = Rule(told.rule_id, told.rule, told.section, Fault(told.fault), told.code)
    return RULES.get(told.rule_id, unknown)


class ConsoleUnreachable(OperatorError):
    """Nothing serves the control channel at this place, or it does not answer in time; `reason` says more."""

    def __init__(self, target: object, reason: str) -> None:
        self.reason = printable(reason)
        super().__init__(rules.CONSOLE_SERVED, f"cannot reach the server at {target}: {self.reason}")


class ConsoleMisspoken(PeerError):
    """Something answers at the control channel, but not as spec/control.md says."""

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(rules.CONSOLE_ANSWER, f"{operation} was answered with {reason}")


@dataclass(frozen=True)
class ConsoleRequest(Generic[T]):
    """One request: its verb, the name in its path ("" for none), its body, and the type of its answer."""

    verb: Verb
    answer: type[T]
    name: str = ""
    body: Body | None = None

    @property
    def path(self) -> str:
        """The path with the partition's name in it."""
        return self.verb.path.replace("{name}", quote(self.name, safe=""))

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to the body."""
        return {"content-type": JSON} if self.body else {}

    @property
    def content(self) -> bytes | None:
        """The body, encoded."""
        return msgspec.json.encode(self.body) if self.body else None

    def parse(self, status: int, media_type: str, content: bytes) -> T:
        """Return the answer; ConsoleRefused for a problem, ConsoleMisspoken for anything else."""
        try:
            if media_type.split(";", maxsplit=1)[0].strip() == PROBLEM_JSON:
                raise ConsoleRefused(msgspec.json.decode(content, type=Problem))
            if status not in self.verb.answers:
                raise ConsoleMisspoken(self.verb.operation, f"status {status}")
            if self.verb.answers[status] is None:
                return self.answer(content.decode())  # type: ignore[call-arg]  # it is str
            return msgspec.json.decode(content, type=self.answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConsoleMisspoken(self.verb.operation, f"a body of another shape ({error})") from None


def show_system() -> ConsoleRequest[SystemView]:
    """Show the system and its partitions."""
    return ConsoleRequest(_VERBS["showSystem"], SystemView)


def show_partition(name: str) -> ConsoleRequest[PartitionView]:
    """Show a partition."""
    return _about("showPartition", name)


def create_partition(name: str, kbytes: int = 0, *, auto_start: bool = True) -> ConsoleRequest[PartitionView]:
    """Create a partition, powered off; its keystore has `kbytes` KiB, 0 for none."""
    body = NewPartition(name=_checked(name), keystore_kbytes=kbytes, auto_start=auto_start)
    return ConsoleRequest(_VERBS["createPartition"], PartitionView, body=body)


def power_on(name: str) -> ConsoleRequest[PartitionView]:
    """Activate a stopped partition, which is an IPL."""
    return _about("powerOn", name)


def power_off(name: str) -> ConsoleRequest[PartitionView]:
    """Stop a running partition and end its sessions."""
    return _about("powerOff", name)


def ipl(name: str) -> ConsoleRequest[PartitionView]:
    """Restart a running partition and end its sessions."""
    return _about("ipl", name)


def rotate_key(name: str) -> ConsoleRequest[PartitionView]:
    """Give a partition a new access key for TCP; the answer does not hold it, the state's key file does."""
    return _about("rotateKey", name)


def set_attributes(name: str, changes: Mapping[str, int]) -> ConsoleRequest[PartitionView]:
    """Set attributes by their names (`hcall_abi.console.ATTRIBUTES`), all of them or none.

    OperatorError for a name or a number that no partition has.  The system refuses numbers that this
    partition may not have.
    """
    numbers = {each: attribute_number(each, value) for each, value in changes.items()}
    return _about("setAttributes", name, AttributeChanges(**numbers))


def set_faults(name: str, faults: Iterable[BusyFault] = ()) -> ConsoleRequest[PartitionView]:
    """Give a partition a fault plan; no faults take the plan away."""
    settings = [
        FaultSetting(
            hcall=each.call.name,
            status=each.status.name,
            nth=each.nth,
            times=each.times,
            seconds=each.seconds,
        )
        for each in faults
    ]
    return _about("setFaults", name, FaultPlanSetting(faults=settings))


def set_nvram_fault(
    trouble: Literal["none", ConsoleTrouble], commits: int | None = None
) -> ConsoleRequest[WritebackView]:
    """Trouble NVRAM, or ("none") end it; OperatorError where no number of commits belongs.

    `commits` goes with "full" and "io": so many are refused, one without it.
    """
    try:
        body = NvramFaultSetting(trouble=trouble, commits=msgspec.UNSET if commits is None else commits)
    except ValueError as error:
        raise OperatorError(rules.TROUBLE_COMMITS, str(error)) from None
    return ConsoleRequest(_VERBS["setNvramFault"], WritebackView, body=body)


def show_components() -> ConsoleRequest[ComponentsView]:
    """Show the replaceable parts, and how the last start got access to the stores."""
    return ConsoleRequest(_VERBS["showComponents"], ComponentsView)


def show_trusted_key() -> ConsoleRequest[TrustedKeyView]:
    """Show the id of the trusted system key."""
    return ConsoleRequest(_VERBS["showTrustedKey"], TrustedKeyView)


def set_trusted_key(
    operation: Literal["change", "restore", "return"],
    key: bytes | None = None,
    old_key: bytes | None = None,
    sealed: bytes | None = None,
) -> ConsoleRequest[TrustedKeyView]:
    """Set the trusted system key; OperatorError where an argument is missing or does not belong.

    `change` and `restore` take `key` (32 bytes); `return` takes `sealed`, the blob of `show_trusted_key`.
    """
    try:
        body = TrustedKeySetting(operation=operation, key=key, old_key=old_key, sealed=sealed)
    except ValueError as error:
        raise OperatorError(backup.TRUSTED_KEY_OPERATION, str(error)) from None
    return ConsoleRequest(_VERBS["setTrustedKey"], TrustedKeyView, body=body)


def show_copy(name: str) -> ConsoleRequest[CopyView]:
    """Make a copy of a partition's store, sealed under the trusted system key."""
    return ConsoleRequest(_VERBS["showCopy"], CopyView, _checked(name))


def restore_copy(copy: bytes) -> ConsoleRequest[PartitionView]:
    """Put a store back to a copy; its partition must be powered off."""
    return ConsoleRequest(_VERBS["restoreCopy"], PartitionView, body=CopyToRestore(copy=copy))


def begin_recovery() -> ConsoleRequest[SystemView]:
    """Put an empty system into the state Recovery."""
    return ConsoleRequest(_VERBS["beginRecovery"], SystemView)


def end_recovery(*, give_up: bool = False) -> ConsoleRequest[RecoveredView]:
    """End the state Recovery; `give_up`: the stores that were not restored are given up."""
    return ConsoleRequest(_VERBS["endRecovery"], RecoveredView, body=RecoveryEnd(give_up=give_up))


def show_health() -> ConsoleRequest[HealthView]:
    """Show the health; it is an answer, not an error, also if there is a problem."""
    return ConsoleRequest(_VERBS["showHealth"], HealthView)


def show_metrics() -> ConsoleRequest[str]:
    """Show the figures for Prometheus, in its text format."""
    return ConsoleRequest(_VERBS["showMetrics"], str)


class BlockingConsole:
    """A console of one system, over the control channel's Unix socket; each call is a connection of its own.

    A call raises ConsoleRefused where a rule forbids it, ConsoleUnreachable, and ConsoleMisspoken.
    `timeout` is in seconds, for all of a call.  A pause of this process uses almost none of it.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float = DEFAULT_TIMEOUT) -> None:
        self.socket = os.fsdecode(path)
        self.timeout = _checked_timeout(timeout)

    def __repr__(self) -> str:
        return f"BlockingConsole({self.socket!r})"

    def call(self, request: ConsoleRequest[T]) -> T:
        """Make one request and return its answer."""
        return self._call_within(Patience(self.timeout, time.monotonic), request)

    def _call_within(self, patience: Patience, request: ConsoleRequest[T]) -> T:
        with closing(UnixConnection(_HOST, self.socket, patience)) as connection:
            try:
                connection.request(request.verb.method, request.path, request.content, request.headers)
                answer = connection.getresponse()
                status, kind, content = answer.status, answer.headers.get("content-type", ""), answer.read()
            except (HTTPException, OSError) as error:
                raise ConsoleUnreachable(self.socket, str(error) or type(error).__name__) from None
        return request.parse(status, kind, content)


class Console:
    """`BlockingConsole` for Trio.

    `target` is a path, or a transport of httpx that reaches a system some other way.  For a path, a worker
    thread carries the request.  The reason: httpx uses a Trio function that takes a full queue for a
    connection.  When the caller is cancelled, the request may or may not be carried out.

    Of the requests for a path, `PLACES` are carried at once.  The others wait, within their own timeouts.
    """

    def __init__(
        self, target: str | os.PathLike[str] | httpx.AsyncBaseTransport, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self.target = target
        self.timeout = _checked_timeout(timeout)
        self._threads: Threads | None = None

    def __repr__(self) -> str:
        return f"Console({self.target!r})"

    async def call(self, request: ConsoleRequest[T]) -> T:
        """Make one request and return its answer."""
        if isinstance(self.target, str | os.PathLike):
            return await self._call_in_thread(self.target, request)
        return await self._call_by(self.target, request)

    async def _call_by(self, transport: httpx.AsyncBaseTransport, request: ConsoleRequest[T]) -> T:
        import httpx

        from hcall_client.in_thread import in_time

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=transport, base_url=f"http://{_HOST}", timeout=self.timeout, trust_env=False
            ) as client:
                return await client.request(
                    request.verb.method, request.path, content=request.content, headers=request.headers
                )

        try:
            answer = await in_time(ask, self.timeout)  # the timeout of httpx begins anew with each step
        except (httpx.HTTPError, OSError) as error:
            raise ConsoleUnreachable(transport, str(error) or type(error).__name__) from None
        return request.parse(answer.status_code, answer.headers.get("content-type", ""), answer.content)

    async def _call_in_thread(self, path: str | os.PathLike[str], request: ConsoleRequest[T]) -> T:
        from hcall_client.in_thread import Threads

        self._threads = self._threads or Threads(PLACES)
        console, patience = BlockingConsole(path, self.timeout), Patience(self.timeout, time.monotonic)
        try:
            return await self._threads.run(partial(console._call_within, patience, request), patience)
        except TimeoutError as error:
            raise ConsoleUnreachable(path, str(error)) from None


def _about(operation: str, name: str, body: Body | None = None) -> ConsoleRequest[PartitionView]:
    """Return a request about one partition, which is answered with its view."""
    return ConsoleRequest(_VERBS[operation], PartitionView, _checked(name), body)


def _checked(name: str) -> str:
    """Return a name that can stand in a path; OperatorError for any other.

    Whether there is such a partition is for its system to say, and whether there can be one.
    """
    encodable = name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)
    if name in ("", ".", "..") or not encodable or len(name) > LONGEST_NAME:
        raise OperatorError(rules.NAME_PATH, f"{name[:40]!r} is no name for a partition")
    return name


def _checked_timeout(seconds: float) -> float:
    """Return a timeout that a socket can have; OperatorError for any other."""
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise OperatorError(rules.CONSOLE_TIMEOUT, f"a timeout of {seconds} seconds")
    return seconds
