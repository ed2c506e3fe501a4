"""Results of calls, for every kind of channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from hcall_abi.errors import PeerError
from hcall_abi.mistakes import of_caller
from hcall_client.conversation import Pending
from hcall_client.errors import HcallError
from hcall_client.request import Request

__tracebackhide__ = of_caller
T = TypeVar("T")

Complain = Callable[[PeerError], None]
"""Ends the session because an answer breaks a rule."""


def result_of(request: Request[T], pending: Pending, complain: Complain) -> T:
    """Return the result of a call.

    If the call was refused, raise HcallError.  If it has ended otherwise, raise the error that ended it.
    """
    answer = pending.result()
    try:
        return request.parse(answer)
    except PeerError as error:
        # An answer that breaks a rule makes all later ones doubtful, so the session ends here.
        complain(error)
        raise


def results_of(calls: Iterable[tuple[Request[T], Pending]], complain: Complain) -> list[T | HcallError]:
    """Return the result or the refusal of each call; raise the first error of any other kind."""
    # A refusal is a result of its call and stops no other call. Any other error is about the session.
    found: list[T | HcallError] = []
    for request, pending in calls:
        try:
            found.append(result_of(request, pending, complain))
        except HcallError as error:
            found.append(error)
    return found
