"""The rule of a session that has ended by a GOODBYE."""

import pytest

from hcall_client.errors import SessionEnded


@pytest.mark.parametrize(
    "reason, text, rule",
    [
        (1, "hcall.overlap: malformed HCALL: segments 0 and 1 overlap", "hcall.overlap"),
        (1, "no.rule: of a later server", "session.over"),
        (1, "", "session.over"),
        (0, "hcall.overlap: is no reason of this end", "session.over"),
        (77, "hcall.overlap", "session.over"),
    ],
)
def test_the_rule_that_the_server_names(reason: int, text: str, rule: str) -> None:
    """A GOODBYE about a protocol error names the broken rule, and the error has this rule."""
    assert SessionEnded(reason, text).rule.id == rule
