"""Tokens: how they are made, how many are open, and when they become stale."""

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_server.keystore.tokens import MAX_OPEN, Continuations, Listings
from tests.guest import Chance

WRAP, UNWRAP = Opcode.WRAP_OBJECT, Opcode.UNWRAP_OBJECT
LAST = 2**64 - 1


@pytest.mark.parametrize(
    "number,tokens",
    [(7, [7, 8, 9]), (0, [1, 2, 3]), (2**63, [2**63, 2**63 + 1, 2**63 + 2]), (LAST, [LAST, 1, 2])],
    ids=["small", "0", "half", "the last"],
)
def test_a_number_that_is_taken_leads_to_the_next(number: int, tokens: list[int]) -> None:
    """R-75: a token uses all 64 bits and is never 0. Two open tokens differ, whatever the entropy returns."""
    made = Continuations(lambda length: number.to_bytes(length, "big"))
    assert [made.issue(WRAP) for _ in tokens] == tokens
    assert all((WRAP, token) in made for token in tokens)


def test_a_token_belongs_to_its_call() -> None:
    """R-75: a token is valid until it is retired, and only for the call that got it."""
    made = Continuations(Chance())
    token = made.issue(WRAP)
    assert ((WRAP, token) in made, (UNWRAP, token) in made, (WRAP, token + 1) in made) == (True, False, False)
    made.retire(token)
    made.retire(token)
    made.retire(0)
    assert (WRAP, token) not in made


def test_the_oldest_of_too_many_goes_stale() -> None:
    """R-75: at most 16 tokens are open, so a guest that never continues a call uses bounded memory."""
    made = Continuations(Chance())
    tokens = [made.issue(WRAP) for _ in range(MAX_OPEN + 1)]
    assert MAX_OPEN == 16
    assert [(WRAP, token) in made for token in tokens] == [False] + [True] * 16


def test_a_list_goes_on_where_it_stopped() -> None:
    """R-03: the token of a list is valid once, for its consumer. At the end of the list it is 0."""
    made = Listings(Chance())
    first = made.keep(Consumer.FIRMWARE, 0, [b"a", b"b"])
    assert (Consumer.FIRMWARE, first) in made
    assert (Consumer.BOOT_LOADER, first) not in made
    assert made.take(first) == [b"a", b"b"]
    second = made.keep(Consumer.FIRMWARE, first, [b"b"])
    assert (Consumer.FIRMWARE, first) not in made
    assert made.take(second) == [b"b"]
    assert made.keep(Consumer.FIRMWARE, second, []) == 0
    assert (Consumer.FIRMWARE, second) not in made
