"""HTTP requests to the members of an etcd cluster, from the thread of NVRAM commits."""

# A request is sent to one member after the other until one answers.  That is right for each request of this
# room: a transaction of the chain is carried out at most once (`chain`), and all others may be repeated.  So
# the transport need not distinguish a request that was not sent from one without an answer.  If no member has
# answered, the outcome is unknown.
#
# A member without a leader answers late or with an error; a stopped member does not answer.  So each attempt
# has a short time-out, and the member that answered last is asked first.
#
# But a member may be slow and alive: a far site, a busy disk, a thin link.  If no member has answered, those
# that had too little time are asked once more, with long time-outs.  The member that answers then keeps the
# long one until it is fast again.  Otherwise each commit would reach etcd twice, and a fence that comes twice
# learns nothing (`nvram`).  Dropped: long time-outs from the beginning.  Each request to a stopped member
# would take so long.
#
# A server tries a failed commit again anyway, and its operator should see soon that it fails.  So a `hasty`
# request leaves the long time-outs to the next ones, up to the first one that is as large.  A fence comes
# before the repeated commit.  It is small: over a thin link it is fast, and the commit is not.
#
# httpx has a time-out for each read from a socket, and none for a request.  A member that sends single bytes
# would be read for ever.  So `TotalTimeouts` gives each read and write only the rest of the attempt's time.
# The search for a host's address has no time-out: endpoints should have addresses, or names in /etc/hosts.

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import httpx

from hcall_abi.rules import storage as rules
from hcall_abi.scarcity import BY_ERRNO
from hcall_server.nvram.etcd import wire
from hcall_server.nvram.etcd.deadlines import TotalTimeouts
from hcall_server.nvram.etcd.tls import tls_cause
from hcall_server.nvram.etcd.wire import AnswerFormError, ErrorAnswer
from hcall_server.nvram.seam import NvramError

ATTEMPT = 1.0
"""Seconds that one member gets for an answer."""
LONG_ATTEMPT = 5.0
"""Seconds for a member that was too slow, if no other one has answered."""
MAX_ANSWER = 32 << 20
"""Most bytes of an answer that are read."""
_PLAIN = "identity"
_EXHAUSTED = 8
_ELSEWHERE = frozenset({1, 2, 4, 10, 13, 14})
"""Codes of gRPC that another member may not answer: cancelled, unknown, deadline, aborted, internal, away."""

F = TypeVar(
    "F", wire.TxnAnswer, wire.RangeAnswer, wire.LeaseAnswer, wire.KeepAnswer, wire.LifeAnswer, wire.AnyAnswer
)


class EtcdCluster:
    """The members of a cluster; `endpoints` are URLs, `client` is closed with this object.

    The client's time-out is that of an attempt.  Slow members get up to `patience` seconds in a second one,
    if that is more.  One thread at a time uses this object.
    """

    def __init__(self, endpoints: Sequence[str], client: httpx.Client, patience: float = 0.0) -> None:
        self._endpoints = list(endpoints)
        self._client = client
        self._patience = patience
        self._late = ""
        """The member that has given the last answer, if it took longer than an attempt."""
        self.hasty = False
        """Whether the second attempt at slow members is left to the next requests."""
        self._owed = 0
        """The size of a request that still needs long time-outs; 0 if there is none."""
        self._urls: dict[tuple[str, str], httpx.URL] = {}

    def __repr__(self) -> str:
        return f"EtcdCluster({self._endpoints})"

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The members, in the order of the next request."""
        return tuple(self._endpoints)

    def ask(self, path: str, body: bytes, form: type[F], within: float = math.inf) -> F:
        """Return the answer to a request, from the first member that has one within so many seconds.

        NvramError if etcd refuses the request, or if no member answers: then the outcome is unknown.
        """
        reasons: dict[str, str] = {}
        until, again = time.monotonic() + within, self._owed > 0
        if len(body) >= self._owed:
            self._owed = 0
        members, slow = list(self._endpoints), list[str]()
        while (left := until - time.monotonic()) > 0 and members:
            endpoint = members.pop(0)
            seconds = self._seconds(endpoint, left, len(members) + 1, again=again)
            try:
                return self._timed(endpoint, path, body, form, seconds)
            except _NoAnswerError as error:
                reasons[endpoint] = str(error)
                self._put_last(endpoint)
                if error.slow:
                    slow.append(endpoint)
            if not (members or again or self.hasty) and self._patience > self._attempt:
                members, slow, again = slow, [], True
        self._owed = len(body) if self.hasty and slow and not again else 0
        raise _unreached(reasons)

    @property
    def _attempt(self) -> float:
        return self._client.timeout.read or ATTEMPT

    def _seconds(self, endpoint: str, left: float, members: int, *, again: bool) -> float:
        """Return the time of an attempt, if `members` share the time that is left."""
        if endpoint == self._late:
            longer = min(left / members, self._patience)
        elif again:
            longer = min(left, self._patience) / members
        else:
            longer = 0.0
        return min(left, max(self._attempt, longer))

    def _timed(self, endpoint: str, path: str, body: bytes, form: type[F], seconds: float) -> F:
        begun = time.monotonic()
        answer = self._answer(endpoint, path, body, form, seconds)
        self._late = endpoint if time.monotonic() - begun > self._attempt else ""
        return answer

    def _put_last(self, endpoint: str) -> None:
        self._late = "" if endpoint == self._late else self._late
        self._endpoints.remove(endpoint)
        self._endpoints.append(endpoint)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _answer(self, endpoint: str, path: str, body: bytes, form: type[F], seconds: float) -> F:
        try:
            url = self._url(endpoint, path)
            with self._client.stream("POST", url, content=body, timeout=seconds) as response:
                answer = _read(response)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            _check_scarcity(error)
            slow = isinstance(error, httpx.TimeoutException)
            raise _NoAnswerError(_cause(endpoint, error), slow=slow) from None
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

    def _url(self, endpoint: str, path: str) -> httpx.URL:
        """Return a URL; httpx would parse the text anew for each request."""
        found = self._urls.get((endpoint, path))
        return found or self._urls.setdefault((endpoint, path), httpx.URL(endpoint + path))


def connected(context: ssl.SSLContext | None = None, attempt: float = ATTEMPT) -> httpx.Client:
    """Return a client; `context` is that of https (`tls`)."""
    # Without a context of its own, httpx would load the authorities of the system.
    transport = TotalTimeouts(context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    headers = {"Accept-Encoding": _PLAIN}
    # trust_env: a proxy of the environment must not carry NVRAM.
    return httpx.Client(
        transport=transport, timeout=attempt, headers=headers, trust_env=False, follow_redirects=False
    )


class _NoAnswerError(Exception):
    """A member has not answered, or not as etcd does; `slow` if it had too little time."""

    def __init__(self, reason: str, *, slow: bool = False) -> None:
        super().__init__(reason)
        self.slow = slow


def _read(response: httpx.Response) -> bytes:
    if response.headers.get("Content-Encoding", _PLAIN) != _PLAIN:
        raise _NoAnswerError("no answer of etcd: it is compressed")
    parts, size = [], 0
    # Not iter_bytes: that decodes any number of codings, before it can count the bytes.
    for part in cast("httpx.SyncByteStream", response.stream):
        size += len(part)
        if size > MAX_ANSWER:
            raise _NoAnswerError(f"an answer of more than {MAX_ANSWER} bytes")
        parts.append(part)
    return b"".join(parts)


def _unreached(reasons: Mapping[str, str]) -> NvramError:
    """Return the error for a request without an answer; `reasons` are those of the members."""
    found = "; ".join(f"{endpoint}: {reason}" for endpoint, reason in reasons.items())
    cure = "start a majority of the members; if they run, they or the way to them may be slow"
    message = f"NVRAM: no member of etcd has answered ({found}): {cure}"
    return NvramError("io", message, rules.NVRAM_REACHED)


def _check_scarcity(error: BaseException) -> None:
    """Raise NvramError if this process lacks a resource for a connection: no member is at fault."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and (scarce := BY_ERRNO.get(found.errno or 0)):
            message = f"NVRAM: no connection to etcd can be made: {scarce.advice}"
            raise NvramError("io", message, rules.NVRAM_REACHED) from None
        found = found.__context__  # the pool of httpx removes __cause__


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
