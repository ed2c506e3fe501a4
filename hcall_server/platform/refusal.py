"""What the management console says when one of its rules forbids a request."""

from __future__ import annotations

from hcall_abi.errors import OperatorError


class ConsoleRefusal(OperatorError):
    """The management console refuses; `code` is its message number where it has one."""

    def __init__(self, message: str, *, rule: str, section: str, code: str | None = None) -> None:
        super().__init__(f"{code}: {message}" if code else message, rule=rule, section=section)
        self.code = code
