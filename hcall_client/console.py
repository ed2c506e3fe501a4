"""The typed client of the control channel: the requests of a management console (spec/control.md).

    console = BlockingConsole("state/run/control.sock")
    console.call(set_attributes("lpar1", {"secure_boot": 2}))
    view = console.call(ipl("lpar1"))                     # a PartitionView

    console = Console("state/run/control.sock")           # the same with Trio
    view = await console.call(show_partition("lpar1"))

The requests are those of `hcall_abi.requests`; both consoles carry them.  `Console` loads Trio at its first
call, and httpx if it is given a transport.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from functools import partial
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from hcall_abi.bounds import LONGEST_TIMEOUT
from hcall_abi.control import PROBLEM_JSON
from hcall_abi.control_views import Problem
from hcall_abi.errors import OperatorError, PeerError, SwpksError
from hcall_abi.mistakes import WrongType, check_seconds, kind_of, of_caller
from hcall_abi.requests import (
    ConsoleRequest,
    attach_console,
    begin_migration,
    begin_recovery,
    change_partition,
    check_arrival,
    create_partition,
    delete_partition,
    detach_console,
    end_recovery,
    expect_partition,
    forget_copies,
    ipl,
    keep_copy,
    power_off,
    power_on,
    release_partition,
    restore_copy,
    rotate_key,
    set_attributes,
    set_faults,
    set_nvram_fault,
    set_system,
    set_trusted_key,
    show_components,
    show_copy,
    show_health,
    show_metrics,
    show_needs,
    show_partition,
    show_system,
    show_trusted_key,
    stop_system,
    take_partition,
    tell_custody,
)
from hcall_abi.rules import console as rules
from hcall_abi.rules.rule import Fault, Rule
from hcall_abi.trace_requests import set_trace
from hcall_client.errors import printable
from hcall_client.other_ends import OtherEnd, end_of_answer, end_of_file
from hcall_client.patience import Patience
from hcall_client.patient_http import LARGEST_ANSWER, UnixConnection, WrongAnswer, content_of

if TYPE_CHECKING:
    import httpx

    from hcall_client.in_thread import Threads

T = TypeVar("T")

__tracebackhide__ = of_caller

__all__ = [
    "DEFAULT_TIMEOUT",
    "PLACES",
    "BlockingConsole",
    "Console",
    "ConsoleMisspoken",
    "ConsoleRefused",
    "ConsoleRequest",
    "ConsoleUnreachable",
    "answer_of",
    "attach_console",
    "begin_migration",
    "begin_recovery",
    "change_partition",
    "check_arrival",
    "create_partition",
    "delete_partition",
    "detach_console",
    "end_recovery",
    "expect_partition",
    "forget_copies",
    "ipl",
    "keep_copy",
    "power_off",
    "power_on",
    "release_partition",
    "restore_copy",
    "rotate_key",
    "set_attributes",
    "set_faults",
    "set_nvram_fault",
    "set_system",
    "set_trace",
    "set_trusted_key",
    "show_components",
    "show_copy",
    "show_health",
    "show_metrics",
    "show_needs",
    "show_partition",
    "show_system",
    "show_trusted_key",
    "stop_system",
    "take_partition",
    "tell_custody",
]

DEFAULT_TIMEOUT = 30.0
"""Seconds that a whole call may take.

Half a minute, because the first request to a busy server loads its HTTP stack."""
_CONTROL = "run/control.sock"
"""The control socket, below the state folder of a system."""
_PLACE = 'BlockingConsole("state/run/control.sock")'
PLACES = 32
"""Requests of one `Console` that are carried at once: as many as a server serves."""
# The path has no socket, or an ended server has left its socket behind.
_ABSENT = (FileNotFoundError, NotADirectoryError, ConnectionRefusedError)
"""Errors of a connect to a socket without a server."""
_HOST = "swpks"
"""The host that HTTP requires; the server ignores it."""


class ConsoleRefused(SwpksError):
    """The system refused a request; `problem` is its answer, with the console's message number."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(_rule_of(problem), printable(problem.detail), advised=problem.advised)
        self.problem = problem


def _rule_of(problem: Problem) -> Rule:
    """Return the rule that a problem names.

    If a newer server has sent a rule that this release lacks, make its row from the problem.
    """
    # The rules are imported here, because only a refusal needs them. A command that succeeds starts faster.
    from hcall_abi.rules.catalogue import RULES

    code = None if problem.code is None else printable(problem.code)
    rule_id, rule, section = map(printable, (problem.rule_id, problem.rule, problem.section))
    unknown = Rule(rule_id, rule, section, Fault(problem.fault), code)
    return RULES.get(problem.rule_id, unknown)


class ConsoleUnreachable(OperatorError):
    """No server serves the control channel at this place, or it does not answer in time.

    `reason` is the finding.  `absent` is true if no server listens there.  If the path is no control channel,
    `found` is its kind; None if the kind is not known.
    """

    absent = False
    found: OtherEnd | None = None

    def __init__(
        self, target: object, reason: str, *, absent: bool = False, found: OtherEnd | None = None
    ) -> None:
        self.absent = absent
        self.found = found
        self.reason = printable(reason)
        super().__init__(rules.CONSOLE_SERVED, f"cannot reach the server at {target}: {self.reason}")


class ConsoleMisspoken(PeerError):
    """The control channel sent an answer that breaks spec/control.md."""

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(rules.CONSOLE_ANSWER, f"{operation} was answered with {printable(reason)}")


def answer_of(request: ConsoleRequest[T], status: int, media_type: str, content: bytes) -> T:
    """Return the answer to a request; ConsoleRefused for a problem, ConsoleMisspoken for anything else."""
    verb = request.verb
    try:
        if media_type.split(";", maxsplit=1)[0].strip() == PROBLEM_JSON:
            raise ConsoleRefused(_decoded(content, Problem))
        # A problem is found before this check, because the verb's row does not list the statuses of problems.
        if status not in verb.answers:
            raise ConsoleMisspoken(verb.operation, f"status {status}")
        if verb.answers[status] is None:
            return request.answer(content.decode())  # type: ignore[call-arg]  # it is str
        return _decoded(content, request.answer)
    # msgspec raises RecursionError for JSON that is nested too deeply.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConsoleMisspoken(verb.operation, f"a body of another shape ({error})") from None


_decoders: dict[type, msgspec.json.Decoder[object]] = {}
_making = threading.Lock()


def _decoded(content: bytes, kind: type[T]) -> T:
    """Return the struct in a body; any thread may call it.

    msgspec (0.22) completes its description of a struct at the first use of it.  A second thread that
    uses the struct meanwhile reads a null pointer, and the process ends with a segmentation fault.
    """
    # This read needs no lock: each decoder in the table is complete.
    decoder = _decoders.get(kind)
    if decoder is None:
        with _making:
            decoder = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    return cast(T, decoder.decode(content))


class BlockingConsole:
    """A console of one system, over the control channel's Unix socket.  Each call has its own connection.

    A call that a rule forbids raises ConsoleRefused.  A call without a right answer raises
    ConsoleUnreachable or ConsoleMisspoken.  `timeout` is in seconds, for the whole call.  A pause of this
    process uses almost none of the timeout.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float = DEFAULT_TIMEOUT) -> None:
        if not isinstance(path, str | os.PathLike):
            raise WrongType(f"a console is at a path, not {kind_of(path)}: write {_PLACE}")
        self.socket = os.fsdecode(path)
        self.timeout = _checked_timeout(timeout)

    def __repr__(self) -> str:
        return f"BlockingConsole({self.socket!r})"

    def call(self, request: ConsoleRequest[T]) -> T:
        """Make one request and return its answer."""
        _check(request)
        return self._call_within(Patience(self.timeout, time.monotonic), request)

    def _call_within(self, patience: Patience, request: ConsoleRequest[T]) -> T:
        with closing(UnixConnection(_HOST, self.socket, patience)) as connection:
            try:
                connection.request(request.verb.method, request.path, request.content, request.headers)
                with closing(connection.getresponse()) as answer:
                    status, kind = answer.status, answer.headers.get("content-type", "")
                    content = content_of(answer)
            except (HTTPException, OSError) as error:
                raise _unreachable(error, self.socket) from None
            except (WrongAnswer, ValueError, MemoryError) as error:
                raise ConsoleMisspoken(request.verb.operation, str(error) or type(error).__name__) from None
        return answer_of(request, status, kind, content)


def _unreachable(error: HTTPException | OSError, path: str) -> ConsoleUnreachable:
    """Return the error of a request that got no answer at `path`.

    If the path is another thing than a control channel, the error names that kind of thing.  Otherwise it
    has the reason without its errno.
    """
    found = _found(error, path)
    if found is not None:
        return ConsoleUnreachable(path, _other_end(found, path), found=found)
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, _ABSENT):
        return ConsoleUnreachable(path, f"no server listens there ({reason})", absent=True)
    return ConsoleUnreachable(path, reason)


def _found(error: HTTPException | OSError, path: str) -> OtherEnd | None:
    if isinstance(error, RemoteDisconnected):
        # A closed connection does not show the kind: a system that stops closes its connections too. So only
        # the file name of a mobility channel counts here.
        return found if (found := end_of_answer(b"", path)) is OtherEnd.MOBILITY else None
    if isinstance(error, BadStatusLine):
        return end_of_answer(str(error.args[0]).encode("latin-1", "replace"), path)
    return end_of_file(path) if isinstance(error, _ABSENT) else None


def _other_end(found: OtherEnd, path: str) -> str:
    """Return the reason for a path that is no control channel.

    The text has no byte of the answer.
    """
    match found:
        case OtherEnd.FOLDER | OtherEnd.STATE | OtherEnd.STORE:
            in_run = Path(path, "control.sock")  # it is there in a folder `run`
            right = in_run if in_run.is_socket() else Path(path, _CONTROL)
            return f"it is {found.value}; the socket of a system is {right}"
        case OtherEnd.DATA | OtherEnd.MOBILITY:
            return f"this is {found.value}; the control channel is {Path(path).with_name('control.sock')}"
        case OtherEnd.CONSOLE | OtherEnd.WHERE | OtherEnd.FILE:
            return f"this is {found.value}; the control channel of a system is its {_CONTROL}"
        case _:
            return f"the program that listens there is no control channel, which is {_CONTROL} of a state"


class Console:
    """`BlockingConsole` for Trio.

    `target` is the path of a socket, or a transport of httpx. For a path, a worker thread carries the
    request, and not httpx: its Trio function takes a full queue for a connection. If the caller is
    cancelled, the request may or may not be carried out. The transport is not closed, because it belongs to
    the caller. `hcall_client.control_transport` makes a transport for TCP with mutual TLS.

    At most `PLACES` requests to a path are sent at once.  The others wait, within their own timeouts.
    """

    def __init__(
        self, target: str | os.PathLike[str] | httpx.AsyncBaseTransport, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        if not isinstance(target, str | os.PathLike) and not hasattr(target, "handle_async_request"):
            raise WrongType(f"a console is at a path or behind a transport of httpx, not {kind_of(target)}")
        self.target = target
        self.timeout = _checked_timeout(timeout)
        self._threads: Threads | None = None

    def __repr__(self) -> str:
        return f"Console({self.target!r})"

    async def call(self, request: ConsoleRequest[T]) -> T:
        """Make one request and return its answer."""
        _check(request)
        # This module needs Trio, so it is loaded by the first call only.
        from hcall_client.mistakes import check_loop

        check_loop("a call of Console", "swpks.BlockingConsole(path)")
        if isinstance(self.target, str | os.PathLike):
            return await self._call_in_thread(self.target, request)
        return await self._call_by(self.target, request)

    async def _call_by(self, transport: httpx.AsyncBaseTransport, request: ConsoleRequest[T]) -> T:
        # httpx is imported here, because a path does not need it. The import takes a large part of a
        # command's start.
        import httpx

        from hcall_client.in_thread import in_time
        from hcall_client.over_httpx import bounded, client_of, reason_of

        async def ask() -> tuple[httpx.Response, bytes | None]:
            async with client_of(transport, self.timeout) as client:
                asked = client.build_request(
                    request.verb.method, request.path, content=request.content, headers=request.headers
                )
                # The answer is a stream, so the size of the body is bounded while it is read. Otherwise all
                # of it would be in memory first.
                answer = await client.send(asked, stream=True)
                return answer, await bounded(answer, LARGEST_ANSWER)

        try:
            # The timeout of httpx begins again with each step, so `in_time` bounds the whole request.
            answer, content = await in_time(ask, self.timeout)
        except (httpx.HTTPError, OSError) as error:
            raise ConsoleUnreachable(transport, reason_of(error)) from None
        if content is None:
            raise ConsoleMisspoken(request.verb.operation, f"a body of more than {LARGEST_ANSWER} bytes")
        return answer_of(request, answer.status_code, answer.headers.get("content-type", ""), content)

    async def _call_in_thread(self, path: str | os.PathLike[str], request: ConsoleRequest[T]) -> T:
        from hcall_client.in_thread import Threads

        self._threads = self._threads or Threads(PLACES)
        # The timeout includes the wait for a thread, so the clock starts here.
        console, patience = BlockingConsole(path, self.timeout), Patience(self.timeout, time.monotonic)
        try:
            return await self._threads.run(partial(console._call_within, patience, request), patience)
        except TimeoutError as error:
            raise ConsoleUnreachable(path, str(error)) from None


def _check(request: object) -> None:
    """Raise TypeError for a value that is no request, such as a function without its parentheses."""
    if not isinstance(request, ConsoleRequest):
        from hcall_client.mistakes import no_request

        raise no_request(request, 'ipl("lpar1")')


def _checked_timeout(seconds: float | None) -> float:
    """Return a timeout that a socket can have; OperatorError for any other."""
    check_seconds("timeout", seconds)
    if seconds is None or not 0 < seconds <= LONGEST_TIMEOUT:
        raise OperatorError(rules.CONSOLE_TIMEOUT, f"a timeout of {seconds} seconds")
    return seconds
