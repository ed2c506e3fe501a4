"""Typed calls about keys: making them, wrapping with them, revoking them.

Each function returns a `Request`; `hcall_client.calls` has the same functions.  The server may answer WRAP
and UNWRAP with "busy" and a token; `hcall_client.busy` repeats them with the token.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hcall_abi.calls import CALLS, Opcode, Output
from hcall_abi.frames import HReturn
from hcall_abi.mistakes import of_caller
from hcall_abi.policies import Policy
from hcall_abi.rules import protocol as rules
from hcall_abi.wrapping import DEFAULT_WRAP_FLAGS, WRAP_OVERHEAD, WRAPPING_KEY_SIZE
from hcall_client.request import Authorization, Request, as_bytes, build, nothing, read_policy, untrue

__tracebackhide__ = of_caller


def gen_key(authorization: Authorization, label: bytes, length: int, policy: int = 0) -> Request[bytes]:
    """Make a new object of `length` random bytes.

    The result is the key.  The hypervisor stores it too.
    """

    def read(_: HReturn, written: bytes) -> bytes:
        if len(written) != length:
            raise untrue(rules.ANSWER_WHOLE, f"a key of {len(written)} bytes, not {length}")
        return written

    return build(Opcode.GEN_KEY, read, authorization=authorization, label=label, policy=policy, key=length)


def gen_wrapping_key(
    authorization: Authorization, label: bytes, policy: int = int(Policy.WRAPPINGKEY)
) -> Request[None]:
    """Make a wrapping key (AES-256); it never leaves the hypervisor, so the call has no output buffer."""
    # `build` takes a length from its buffer. This call alone has a length without a buffer, so its
    # registers are set afterwards.
    call = build(Opcode.GEN_KEY, nothing, authorization=authorization, label=label, policy=policy, key=b"")
    return _with_register(call, "key_length", WRAPPING_KEY_SIZE, without="key")


def wrap_object(
    authorization: Authorization,
    label: bytes,
    data: bytes,
    flags: int = DEFAULT_WRAP_FLAGS,
    token: int = 0,
) -> Request[bytes]:
    """Encrypt `data` under the wrapping key `label`; the wrapped object is 1024 bytes longer.

    `flags` are `hcall_abi.wrapping.WrapFlag` bits and the algorithm.  `token` is 0, or that of a busy answer.
    """
    plain = as_bytes(("data", "H_PKS_WRAP_OBJECT"), data)
    return build(
        Opcode.WRAP_OBJECT,
        partial(_read_output, CALLS[Opcode.WRAP_OBJECT].output("size")),
        authorization=authorization,
        label=label,
        flags=flags,
        input=plain,
        output=len(plain) + WRAP_OVERHEAD,
        token=token,
    )


def unwrap_object(
    authorization: Authorization, wrapped: bytes, flags: int = 0, token: int = 0, size: int | None = None
) -> Request[bytes]:
    """Decrypt a wrapped object, which names its wrapping key itself.

    `size` is the length of the output buffer in bytes; None is the length that Linux uses.
    """
    given = as_bytes(("the wrapped object", "H_PKS_UNWRAP_OBJECT"), wrapped)
    return build(
        Opcode.UNWRAP_OBJECT,
        partial(_read_output, CALLS[Opcode.UNWRAP_OBJECT].output("size")),
        authorization=authorization,
        flags=flags,
        input=given,
        # If the blob is too short, the length is 0, and the hypervisor refuses the call. This function
        # refuses nothing.
        output=max(0, len(given) - WRAP_OVERHEAD) if size is None else size,
        token=token,
    )


def _read_output(size_of: Output, answer: HReturn, written: bytes) -> bytes:
    size = size_of.of(answer.registers)
    if size > len(written):
        raise untrue(rules.ANSWER_SIZE, f"{size} bytes, of which {len(written)} came")
    return written[:size]


def revoke_object(authorization: Authorization, label: bytes, flags: int = 0) -> Request[Policy]:
    """Take a wrapping key out of use; the result is its policy word afterwards."""
    return _change_use(Opcode.REVOKE_OBJECT, authorization, label, flags)


def unrevoke_object(authorization: Authorization, label: bytes, flags: int = 0) -> Request[Policy]:
    """Put a revoked wrapping key into use again; the result is its policy word afterwards."""
    return _change_use(Opcode.UNREVOKE_OBJECT, authorization, label, flags)


def _change_use(opcode: Opcode, authorization: Authorization, label: bytes, flags: int) -> Request[Policy]:
    return build(
        opcode,
        lambda answer, _: read_policy(CALLS[opcode].output("policy").of(answer.registers)),
        authorization=authorization,
        label=label,
        flags=flags,
    )


def _with_register(call: Request[None], name: str, value: int, *, without: str) -> Request[None]:
    """Return a copy of `call` in which argument `name` is `value`.

    The parameter `without` names a buffer that the copy leaves out.
    """
    spec = CALLS[Opcode(call.opcode)]
    registers = list(call.registers)
    registers[spec.arg(name).place] = value
    place = spec.arg(without).place
    # The rule `key.address` wants the address 0. So the empty segment at the old address is removed too.
    segments = tuple(each for each in call.segments if each.address != registers[place])
    registers[place] = 0
    return replace(call, registers=tuple(registers), segments=segments)
