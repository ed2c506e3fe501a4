"""HTTP requests to the members of an etcd cluster, from the thread of NVRAM commits."""

# A request is sent to one member after the other until one answers.  That is right for each request of this
# room: a transaction of the chain is carried out at most once (`chain`), and all others may be repeated.  So
# the transport need not distinguish a request that was not sent from one without an answer.  If no member has
# answered, the outcome is unknown.
#
# A member without a leader answers late or with an error; a stopped member does not answer.  So each attempt
# has a short time-out, and the member that answered last is asked first.
#
# httpx has a time-out for each read from a socket, and none for a request.  A member that sends single bytes
# would be read for ever.  So `TotalTimeouts` gives each read and write only the rest of the attempt's time.
# The search for a host's address has no time-out: endpoints should have addresses, or names in /etc/hosts.

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Sequence
from typing import TypeVar

import httpx

from hcall_abi.rules import storage as rules
from hcall_server.nvram.etcd import wire
from hcall_server.nvram.etcd.deadlines import TotalTimeouts
from hcall_server.nvram.etcd.tls import tls_cause
from hcall_server.nvram.etcd.wire import AnswerFormError, ErrorAnswer
from hcall_server.nvram.seam import NvramError

ATTEMPT = 1.0
"""Seconds that one member gets for an answer."""
MAX_ANSWER = 32 << 20
"""Most bytes of an answer that are read."""
_EXHAUSTED = 8
_ELSEWHERE = frozenset({1, 2, 4, 10, 13, 14})
"""Codes of gRPC that another member may not answer: cancelled, unknown, deadline, aborted, internal, away."""

F = TypeVar("F", wire.TxnAnswer, wire.RangeAnswer, wire.LeaseAnswer, wire.KeepAnswer, wire.AnyAnswer)


class EtcdCluster:
    """The members of a cluster; `endpoints` are URLs, `client` is closed with this object.

    One thread at a time uses it.
    """

    def __init__(self, endpoints: Sequence[str], client: httpx.Client) -> None:
        self._endpoints = list(endpoints)
        self._client = client

    def __repr__(self) -> str:
        return f"EtcdCluster({self._endpoints})"

    def ask(self, path: str, body: bytes, form: type[F], within: float = math.inf) -> F:
        """Return the answer to a request, from the first member that has one within so many seconds.

        NvramError if etcd refuses the request, or if no member answers: then the outcome is unknown.
        """
        reasons = []
        until = time.monotonic() + within
        for endpoint in tuple(self._endpoints):
            left = until - time.monotonic()
            if left <= 0:
                break
            try:
                return self._answer(endpoint, path, body, form, left)
            except _NoAnswerError as error:
                reasons.append(f"{endpoint}: {error}")
                self._endpoints.remove(endpoint)
                self._endpoints.append(endpoint)
        message = f"NVRAM: no member of etcd has answered ({'; '.join(reasons)})"
        raise NvramError(
            "io", f"{message}: start a majority of the members, or cure the reason", rules.NVRAM_REACHED
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _answer(self, endpoint: str, path: str, body: bytes, form: type[F], left: float) -> F:
        seconds = min(left, self._client.timeout.read or ATTEMPT)
        try:
            with self._client.stream("POST", endpoint + path, content=body, timeout=seconds) as response:
                answer = _read(response)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _NoAnswerError(_cause(endpoint, error)) from None
        try:
            if response.status_code == httpx.codes.OK:
                return wire.parsed(answer, form)
            refused = wire.parsed(answer, ErrorAnswer)
        except AnswerFormError as error:
            # A proxy or another program has answered.  Its report about the request does not count.
            raise _NoAnswerError(f"no answer of etcd, HTTP {response.status_code}: {error}") from None
        if not refused.code or refused.code in _ELSEWHERE:
            raise _NoAnswerError(refused.text or f"HTTP {response.status_code}")
        raise _refusal(endpoint, refused)


def connected(context: ssl.SSLContext | None = None, attempt: float = ATTEMPT) -> httpx.Client:
    """Return a client; `context` is that of https (`tls`)."""
    # Without a context of its own, httpx would load the authorities of the system.
    transport = TotalTimeouts(context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    # trust_env: a proxy of the environment must not carry NVRAM.
    return httpx.Client(transport=transport, timeout=attempt, trust_env=False, follow_redirects=False)


class _NoAnswerError(Exception):
    """A member has not answered, or not as etcd does."""


def _read(response: httpx.Response) -> bytes:
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if size > MAX_ANSWER:
            raise _NoAnswerError(f"an answer of more than {MAX_ANSWER} bytes")
        parts.append(part)
    return b"".join(parts)


def _refusal(endpoint: str, refused: ErrorAnswer) -> NvramError:
    """Return the error for a request that etcd has refused."""
    text = f"NVRAM: etcd at {endpoint} refuses: {refused.text}"
    # A request that is too large has another code; an alarm has this one.
    if refused.code == _EXHAUSTED and "space" in refused.text:
        cure = "compact and defragment every member, then run `etcdctl alarm disarm`, or raise the quota"
        return NvramError("full", f"{text}; {cure}", rules.NVRAM_QUOTA)
    return NvramError("io", text, rules.NVRAM_COMMIT)


def _cause(endpoint: str, error: BaseException) -> str:
    if reason := tls_cause(error):
        return reason
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    ended = isinstance(error, httpx.ReadError | httpx.RemoteProtocolError)
    return f"{text}; does this member serve https?" if ended and endpoint.startswith("http:") else text
