"""The words that each state sends: source, target and console agree with one table (R-51)."""

from __future__ import annotations

from itertools import product

import pytest

from hcall_abi.control_views import CustodyView
from hcall_server.console.carried import words_for
from hcall_server.console.entries import Entry, asks, begun
from hcall_server.mobility.source import Phase, phase_of
from hcall_server.mobility.target import word_for_source
from hcall_server.platform.custody import SAYS, Custody, Mode, Party, Standing, Word, says

E, UUID, S, T = 5, "11111111-0000-4000-8000-000000000000", "a" * 32, "b" * 32
STATES = [Standing(*each, E) for each in product(Custody, Mode)]
PHASES = {Phase.SENDING: Word.FINAL, Phase.RELEASED: Word.ACTIVATE, Phase.ABORTED: Word.ABORTED}
HEARS = {
    Word.PREPARED: (Custody.FROZEN, S, T),
    Word.ACTIVE: (Custody.FROZEN, S, T),
    Word.ACTIVATE: (Custody.PREPARED, T, S),
    Word.ABORTED: (Custody.PREPARED, T, S),
}
"""A record in which each word has an effect, the receiver of the word, and its sender."""


def words(at: Standing, party: Party) -> set[Word]:
    """Return the words that the table has for this party, computed independently."""
    return {
        row.word for row in SAYS if row.at is at.custody and row.mode in (None, at.mode) and party in row.to
    }


def view(at: Standing, peer: str) -> CustodyView:
    """Return the custody view of a system."""
    return CustodyView(
        uuid=UUID,
        name="x",
        custody=at.custody.name.lower(),  # type: ignore[arg-type]
        mode=at.mode.value,
        epoch=at.epoch,
        generation=9,
        peer_id=peer,
    )


@pytest.mark.parametrize("at", STATES, ids=lambda at: f"{at.custody.name}-{at.mode.value}")
def test_every_driver_says_what_the_table_says(at: Standing) -> None:
    """R-51: Source and target send exactly the words that the table has for their state.

    A copying source has the record of an earlier attempt, and sends nothing.
    """
    every = {each.word for each in says(at)}
    assert every == words(at, Party.SOURCE) | words(at, Party.TARGET) | words(at, Party.CONSOLE)
    phase = phase_of(at, E)
    if at.mode is not Mode.COPYING:
        assert ({PHASES[phase]} if phase in PHASES else set()) == words(at, Party.TARGET)
        assert (phase is Phase.IN_DOUBT) == (at.custody is Custody.FROZEN and at.mode is not Mode.WAITING)
    sent_word = word_for_source(at, E)
    assert ({sent_word} if sent_word else set()) == words(at, Party.SOURCE)
    assert word_for_source(at, E + 1) is None
    assert asks(view(at, T)) == (Word.ASK in words(at, Party.CONSOLE))


@pytest.mark.parametrize("at", STATES, ids=lambda at: f"{at.custody.name}-{at.mode.value}")
def test_the_console_carries_every_word_that_a_channel_has(at: Standing) -> None:
    """R-51: The console also carries each word of the channel, except FINAL."""
    entry = begun(Entry(UUID, "x"), "live", E, S, T)
    for word, (custody, hearer, speaker) in HEARS.items():
        mode = Mode.IN_DOUBT if custody is Custody.FROZEN else Mode.SETTLED
        facts = {hearer: view(Standing(custody, mode, E), speaker), speaker: view(at, hearer)}
        carried = {each.word for each in words_for(entry, hearer, facts)}
        assert (word.value in carried) == (word in {each.word for each in says(at)}), word


def test_aborted_of_no_attempt_is_not_said() -> None:
    """A partition without any migration sends no word."""
    assert says(Standing(Custody.OWN, Mode.SERVING, 0)) == ()
    assert [each.word for each in says(Standing(Custody.OWN, Mode.ASKING, 0))] == [Word.ASK]
    assert phase_of(Standing(Custody.OWN, Mode.SERVING, 0), E) is Phase.OVER
