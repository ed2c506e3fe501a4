"""The network before a cluster in memory: requests that are late, lost or repeated, by plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import httpx

if TYPE_CHECKING:
    from random import Random

    from swpks.testing.etcd.model import EtcdModel

Fate = Literal["answered", "refused", "lost", "late", "unanswered", "repeated", "unavailable"]
"""The fate of one request:

    answered       carried out, with its answer
    refused        no connection: not carried out
    lost           not carried out, and the client waits until its time-out
    late           carried out after some later requests; the client has given it up by then
    unanswered     carried out, and the answer is lost
    repeated       carried out twice; the client gets the second answer
    unavailable    not carried out, with an error of etcd
"""
FATES: tuple[Fate, ...] = get_args(Fate)
_UNAVAILABLE = (
    b'{"error":"etcdserver: request timed out","message":"etcdserver: request timed out","code":14}'
)


class ModelNetwork(httpx.BaseTransport):
    """Carries requests to a model.  `fates` returns the fate of the next request, by its path.

    `lateness` returns after how many further requests a late one arrives, at least 1.
    """

    def __init__(
        self,
        model: EtcdModel,
        fates: Callable[[str], Fate] = lambda path: "answered",
        lateness: Callable[[], int] = lambda: 1,
    ) -> None:
        self.fates = fates
        self.met: dict[Fate, int] = dict.fromkeys(FATES, 0)
        """The number of requests by their fates."""
        self._model = model
        self._lateness = lateness
        self._late: list[tuple[int, str, bytes]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Carry a request to the model, or not, as the plan says."""
        path, body = request.url.path, request.read()
        fate = self.fates(path)
        self.met[fate] += 1
        self._deliver()
        if fate == "refused":
            raise httpx.ConnectError("planned: refused")
        if fate == "unavailable":
            return httpx.Response(503, content=_UNAVAILABLE)
        if fate == "late":
            self._late.append((self._lateness(), path, body))
        if fate in ("late", "lost"):
            raise httpx.ReadTimeout(f"planned: {fate}")
        status, answer = self._model.answer(path, body)
        if fate == "repeated":
            status, answer = self._model.answer(path, body)
        if fate == "unanswered":
            raise httpx.ReadTimeout(f"planned: {fate}")
        return httpx.Response(status, content=answer)

    def deliver_all(self) -> None:
        """Deliver all late requests now, in order."""
        late, self._late = self._late, []
        for _, path, body in late:
            self._model.answer(path, body)

    def _deliver(self) -> None:
        """Count a request, and deliver the late ones that are due."""
        counted = [(left - 1, path, body) for left, path, body in self._late]
        self._late = [each for each in counted if each[0] > 0]
        for left, path, body in counted:
            if left <= 0:
                self._model.answer(path, body)


def drawn(chance: Random, share: float, fates: Sequence[Fate] = FATES[1:]) -> Callable[[str], Fate]:
    """Return a plan: each request meets one of `fates` with the probability `share`."""
    return lambda path: chance.choice(fates) if chance.random() < share else "answered"
