"""A remedy has the real folder of the system that a command has asked."""

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import console
from hcall_abi.standstills import not_operating
from swpks.hmc.verb_remedies import Asked, with_remedy_for


@pytest.mark.parametrize(
    "end, right", [("--state 'my lab'", "--state 'my lab'"), ("--socket s", "--state DIR")]
)
def test_the_folder_of_the_asked_system(end: str, right: str) -> None:
    """Reset pending: `swpks asmi` needs the state folder, which --state has named."""
    error = OperatorError(console.RECOVERY_STATE, not_operating("Reset pending"), advised=True)
    told = with_remedy_for(error, Asked(end=end))
    assert told.message.endswith(f"swpks asmi reset-settings {right}")
    assert (told.rule, told.advised) == (error.rule, True)
