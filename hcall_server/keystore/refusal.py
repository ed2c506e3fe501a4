"""The guest's errors: a call that is refused, with its status and the rule that it broke."""

from __future__ import annotations

from hcall_abi.errors import Fault, SwpksError
from hcall_abi.statuses import Status


class Refusal(SwpksError):
    """An h-call is answered with a status other than H_SUCCESS, and nothing was changed.

    `outputs` are the values of r4, r5, ... that go with the status; `argument` is the name of the
    argument to blame, where one is.
    """

    fault = Fault.GUEST

    def __init__(
        self,
        status: Status,
        message: str,
        *,
        rule: str,
        section: str,
        argument: str | None = None,
        outputs: tuple[int, ...] = (),
    ) -> None:
        super().__init__(message, rule=rule, section=section)
        self.status = status
        self.argument = argument
        self.outputs = outputs
