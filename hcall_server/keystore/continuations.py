"""Continue tokens of calls that were answered "busy": which call goes on with which token.

Nothing is kept but the token: a busy answer has done nothing yet, so the call that goes on is
judged as if it were the first.
"""

from __future__ import annotations

from hcall_abi.calls import Opcode
from hcall_server.keystore.tokens import Tokens


class Continuations(Tokens[Opcode]):
    """The busy calls of one partition; a token is good for one more call of the same h-call."""

    def __contains__(self, key: tuple[Opcode, int]) -> bool:
        call, token = key
        return self._open.get(token) is call
