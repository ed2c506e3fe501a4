"""The ASGI application: Starlette's router, and the table of verbs.

The checks of each request are made here: method, query, identity of the system, existence of the partition,
and the body (size, time, type, shape).  Every error becomes a problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hcall_abi.bounds import MAX_REQUEST_BODY, REQUEST_BODY_SECONDS
from hcall_abi.control import CONSOLE_HEADER, JSON, PROBLEM_JSON, SYSTEM_HEADER, VERBS, Verb
from hcall_abi.control_bodies import Body
from hcall_abi.problems import problem_of
from hcall_abi.rules import console as rules
from hcall_server.control_channel import openapi
from hcall_server.control_channel.loading import loaded
from hcall_server.control_channel.performing import Answer, Call, Reply, StreamAnswer, Text, performed
from hcall_server.control_channel.problems import ProblemError, explained_error
from hcall_server.control_channel.verbs import PERFORMED
from hcall_server.machine.logs import Log, explained
from hcall_server.machine.machine import Machine
from hcall_server.machine.noise import CONTROL, PeerLog

DISCARD_SECONDS = 1.0
"""Seconds in which the body of a request has to come that is refused by its header."""

_log = Log()


def make_app(machine: Machine) -> Starlette:
    """Return the application that controls `machine`."""
    paths: dict[str, dict[str, Verb]] = {}
    for verb in VERBS:
        paths.setdefault(verb.path, {})[verb.method] = verb
    routes = [Route(path, _Path(machine, verbs)) for path, verbs in paths.items()]
    routes.append(Route(openapi.PATH, _Description()))
    app = Starlette(routes=routes, exception_handlers={HTTPException: _not_routed})
    # If a path ends with one slash too many, Starlette would answer with a redirect.  The table of verbs has
    # no redirects.
    app.router.redirect_slashes = False
    app.state.allowance = machine.noise.of(CONTROL)
    return app


class _Path:
    """The verbs of one path, as an ASGI application."""

    def __init__(self, machine: Machine, verbs: Mapping[str, Verb]) -> None:
        self._machine = machine
        self._verbs = verbs
        self._loaded: set[str] = set()
        self._decoders = {
            method: msgspec.json.Decoder(verb.body) for method, verb in verbs.items() if verb.body
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except Exception as error:  # an error of one request must not end the server
            response = _refused(request, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            verb, name = self._demanded(request)
        except Exception:
            await _discard_body(request)
            raise
        body = await self._body(request, verb)
        row = PERFORMED[verb.operation]
        if row.load and verb.operation not in self._loaded:
            # The modules are imported at the first request that needs them, which makes a start short.  A
            # thread imports them, so that h-calls go on.
            await loaded(partial(row.load, self._machine), self._machine.reserve)
            self._loaded.add(verb.operation)
        call = Call(self._machine, name, body, request.headers.get(CONSOLE_HEADER))
        return _response(verb, await performed(row, call))

    def _demanded(self, request: Request) -> tuple[Verb, str]:
        """Return the verb, and the name of the partition, "" for a verb without one; check the header."""
        verb = self._verb(request)
        # The identity is checked before the partition is looked up.  Another system may have a partition of
        # the same name, and the request must not change that one.
        self._machine.system.demand_identity(request.headers.get(SYSTEM_HEADER, ""))
        name = request.path_params.get("name", "")
        if "name" in request.path_params:
            self._machine.system.find(name)
        return verb, name

    def _verb(self, request: Request) -> Verb:
        # HEAD is performed as GET.  The server then leaves out the body.
        verb = self._verbs.get("GET" if request.method == "HEAD" else request.method)
        if verb is None:
            allowed = ", ".join(sorted(self._verbs))
            raise ProblemError(
                rules.REQUEST_METHOD, f"{request.method} is not one of {allowed}", allow=allowed
            )
        if request.url.query:
            raise ProblemError(rules.REQUEST_FORM, f"{verb.operation} takes no query")
        return verb

    async def _body(self, request: Request, verb: Verb) -> Body | None:
        # The body is read even if the verb takes none.  So a body is refused, and not ignored.
        content = await _content(request)
        decoder = self._decoders.get(verb.method)
        if decoder is None:
            if content:
                raise ProblemError(rules.REQUEST_FORM, f"{verb.operation} takes no body")
            return None
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != JSON:
            raise ProblemError(rules.REQUEST_JSON, f"{verb.operation} takes {JSON}")
        try:
            return decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProblemError(rules.REQUEST_FORM, str(error)) from None


class _Description:
    """The OpenAPI description, encoded at its first request."""

    def __init__(self) -> None:
        self._encoded = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if request.method not in {"GET", "HEAD"}:
            error = ProblemError(rules.REQUEST_METHOD, f"{request.method} is not GET", allow="GET")
            response = _refused(request, error)
        else:
            self._encoded = self._encoded or msgspec.json.encode(openapi.description())
            response = Response(self._encoded, media_type=JSON)
        await response(scope, receive, send)


async def _content(request: Request) -> bytes:
    """Return the whole body.

    ProblemError if it is too large, or takes too long.
    """
    content = bytearray()
    with trio.move_on_after(REQUEST_BODY_SECONDS) as limit:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                content += chunk
                # The bytes are counted as they come, because Content-Length may be missing or wrong.
                if len(content) > MAX_REQUEST_BODY:
                    raise ProblemError(rules.REQUEST_SIZE, f"the body has more than {MAX_REQUEST_BODY} bytes")
    if limit.cancelled_caught:
        raise ProblemError(
            rules.REQUEST_TIME, f"the body was not here within {REQUEST_BODY_SECONDS:.0f} seconds"
        )
    return bytes(content)


async def _discard_body(request: Request) -> None:
    """Read the body of a request that is refused by its header, within `DISCARD_SECONDS`.

    After the answer the server closes the connection.  With an unread body, the client could not send the
    rest, and over TCP it could lose the answer.
    """
    size = 0
    with trio.move_on_after(DISCARD_SECONDS), suppress(ClientDisconnect):
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > MAX_REQUEST_BODY:
                    return


def _response(verb: Verb, answer: Answer) -> Response:
    if isinstance(answer, StreamAnswer):
        return answer.response
    if isinstance(answer, Text):
        return Response(answer.content, media_type=answer.media_type)
    status, body = answer if isinstance(answer, Reply) else (next(iter(verb.answers)), answer)
    return Response(msgspec.json.encode(body), status, media_type=JSON)


def _refused(request: Request, error: Exception) -> Response:
    """Log an error by its rule, and turn it into a problem."""
    found = explained_error(error)
    problem = problem_of(found)
    context = _log.bind(method=request.method, path=request.url.path, status=problem.status)
    log = PeerLog(request.app.state.allowance, context)
    # An error without a rule of its own is a bug of the server.  So its trace is logged.
    if found.rule is not rules.REQUEST_ANSWERED:
        log.info("control.refused", kind=found.rule.id, **explained(found))
    else:
        log.error("control.failed", exc_info=error)
    headers = {"allow": error.allow} if isinstance(error, ProblemError) and error.allow else None
    return Response(msgspec.json.encode(problem), problem.status, headers, media_type=PROBLEM_JSON)


async def _not_routed(request: Request, error: Exception) -> Response:
    """Answer a request whose path is not in the table."""
    await _discard_body(request)
    return _refused(request, ProblemError(rules.REQUEST_PATH, f"no verb has the path {request.url.path!r}"))
