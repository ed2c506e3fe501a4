"""Physical presence when the process is killed or a system call fails: each comparison uses up a try."""

from __future__ import annotations

import errno
import hmac
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hcall_abi.errors import SwpksError
from hcall_abi.rules import service as rules
from hcall_abi.rules import storage
from hcall_server.service.presence import TRIES, Presence
from tests.scarcity.nth import failing
from tests.service.present import ACTION, Clock, tries


@pytest.fixture
def presence(tmp_path: Path) -> Presence:
    """Physical presence in an empty folder."""
    return Presence(tmp_path, Clock(), os.urandom)


class Killed(BaseException):
    """Raised to end the process at this point."""


@pytest.mark.parametrize("guess", ["right", "wrong"])
def test_a_kill_gives_no_free_try(presence: Presence, monkeypatch: pytest.MonkeyPatch, guess: str) -> None:
    """A try is counted durably before the comparison, so a kill during the comparison gives no free try."""
    word = presence.ask(ACTION)
    events: list[str] = []
    fsync = os.fsync

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        events.append(f"{Path(f'/proc/self/fd/{descriptor}').readlink().name} {tries(presence)}")

    def kill(*_: object) -> bool:
        raise Killed

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(hmac, "compare_digest", kill)
    for made in range(1, TRIES + 1):
        presence.path.write_text(word if guess == "right" else "WRONG")
        with pytest.raises(Killed):
            presence.proven(ACTION)
        assert tries(presence) == made
        assert events[-3:-1] == [f"request.new {made - 1}", f"asmi {made}"]
        assert not presence.path.exists()
    monkeypatch.undo()
    presence.path.write_text(word)
    assert not presence.proven(ACTION)


def outcome(function: Callable[[str], object]) -> object:
    """Return the result of a call, or the id of the rule in its error."""
    try:
        return function(ACTION)
    except SwpksError as error:
        return error.rule


FAILURES = {rules.SCARCE_SPACE, storage.STATE_WRITABLE, rules.PRESENCE_FILE}


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("guess", ["right", "wrong"])
def test_each_failing_call(
    presence: Presence, monkeypatch: pytest.MonkeyPatch, guess: str, number: int
) -> None:
    """If a system call fails, the error has a rule.

    Even then, each try is counted before its word is compared.
    """
    counted: list[int] = []
    compare = hmac.compare_digest

    def compared(a: str, b: str) -> bool:
        counted.append(tries(presence))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compared)
    expected = True if guess == "right" else rules.PRESENCE_WORD
    for nth in itertools.count(1):
        word = presence.ask(ACTION)
        presence.path.write_text(word if guess == "right" else "WRONG")
        counted.clear()
        with failing(nth, number) as system:
            done = outcome(presence.proven)
        assert counted in ([], [1])
        if not system.failed:
            assert done == expected
            break
        assert done in {*FAILURES, expected, False}
    assert nth > 6


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_asking_fails_with_a_rule(presence: Presence, number: int) -> None:
    """If a system call of a request fails, the error has a rule. The next request succeeds."""
    for nth in itertools.count(1):
        with failing(nth, number) as system:
            done = outcome(presence.ask)
        assert isinstance(done, str) or done in FAILURES
        if not system.failed:
            break
    presence.path.write_text(presence.ask(ACTION))
    assert presence.proven(ACTION)
