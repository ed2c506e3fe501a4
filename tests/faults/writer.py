"""The writer of a partition in a real server process: works until the server dies, then looks around."""

from __future__ import annotations

import time

from hcall_abi.statuses import Status
from hcall_client import calls
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import Authorization, HcallError
from tests.faults.history import CONSUMERS, History, State, used

PATIENCE = 20.0
"""Seconds within which a healthy server has flushed; generous, because test machines are busy."""

LOOK = b"look"
"""The password of every consumer after `look`."""


def work(channel: BlockingChannel, history: History, longest: int) -> None:
    """Send a batch of calls and check every answer; raises what ends the session."""
    batch = history.batch(longest)
    for foretold, result in zip(batch, channel.pipeline(each.request for each in batch), strict=True):
        history.check(foretold, result)


def confirm_all(channel: BlockingChannel, history: History) -> None:
    """Ask until everything that was written is flushed; what is not by then never will be."""
    deadline = time.monotonic() + PATIENCE
    while not history.settled:
        assert time.monotonic() < deadline, "not flushed"
        foretold = history.newest_confirm()
        history.check(foretold, channel.call(foretold.request))


def look(channel: BlockingChannel, history: History) -> State:
    """Read the whole store of a fresh IPL: its passwords are gone (R-04), and it is as full as it tells.

    Every consumer gets a new password, so that what PWSET guards can be read too.
    """
    state: State = {}
    for consumer in CONSUMERS:
        if consumer in history.lost_passwords:
            lost = Authorization(consumer, history.lost_passwords[consumer])
            assert status_of(channel, calls.get_object_labels(lost)) == Status.H_AUTHORITY
        channel.call(calls.get_object_labels(Authorization(consumer)))
        channel.call(calls.set_password(consumer, LOOK))
        state |= _objects(channel, Authorization(consumer, LOOK))
    assert channel.call(calls.get_config()).used_space == used(state)
    return state


def status_of(channel: BlockingChannel, request: calls.Request[object]) -> int:
    """The status of a call."""
    try:
        channel.call(request)
    except HcallError as error:
        return error.status
    return 0


def _objects(channel: BlockingChannel, who: Authorization) -> State:
    """Every object of one consumer."""
    token, more, labels = 0, True, []
    while more:
        part = channel.call(calls.get_object_labels(who, token, 256))
        labels += part.labels
        token, more = part.token, part.more
    assert len(set(labels)) == len(labels)
    state: State = {}
    for label in labels:
        read = channel.call(calls.read_object(who, label))
        state[who.consumer, label] = (int(read.policy), read.data)
    return state
