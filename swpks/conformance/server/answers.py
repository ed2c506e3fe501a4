"""The answer to an h-call, and the checks of an answer; each raises Deviation."""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.calls import HCallSpec, Opcode
from hcall_abi.frames import Access, HCall, HReturn
from hcall_abi.statuses import REGISTERS, Status, status_name
from swpks.conformance.case import Deviation
from swpks.conformance.server.draft import Draft

BUSY = {status for status in Status if status is Status.H_BUSY or status.name.startswith("H_LONG_BUSY")}
"""The statuses that ask for a repetition (spec/faults.md#busy-answers)."""


class Returned(NamedTuple):
    """An answer: r3, r4 to r12, and the bytes written from the start of the output buffer."""

    spec: HCallSpec
    status: int
    registers: tuple[int, ...]
    written: bytes

    @property
    def busy(self) -> bool:
        """Whether the caller has to repeat the call.  Always False for CONFIRM, which may not be busy."""
        return self.status in BUSY and self.spec.opcode is not Opcode.CONFIRM_OBJECT_FLUSHED

    def output(self, name: str) -> int:
        """Return the value of the result with this name."""
        return self.spec.output(name).of(self.registers)

    def expect(self, status: int, **outputs: int) -> Returned:
        """Return this answer; Deviation if its status or one of the named results differs."""
        if self.status != status:
            raise Deviation(f"{status_name(status)} of {self.spec.name}", status_name(self.status))
        for name, value in outputs.items():
            if self.output(name) != value:
                place = f"r{self.spec.output(name).register} ({name})"
                raise Deviation(f"{place} of 0x{value:X}", f"0x{self.output(name):X}")
        return self

    def expect_nothing_written(self) -> Returned:
        """Return this answer; Deviation if it wrote to guest memory."""
        if self.written:
            raise Deviation("no byte written to guest memory", f"{len(self.written)} bytes")
        return self

    def expect_written(self, data: bytes) -> Returned:
        """Return this answer; Deviation if it wrote other bytes."""
        if self.written != data:
            # The deviation has sizes and no bytes: they may be a password or a key, and reports are sent to
            # other people.
            same = "of other content" if len(self.written) == len(data) else "in place of them"
            raise Deviation(f"{len(data)} written bytes", f"{len(self.written)} bytes {same}")
        return self


def checked(draft: Draft, call: HCall, answer: HReturn) -> Returned:
    """Return the answer to a call; Deviation if it breaks a rule that holds for all calls.

    An answer has the tag of its call.  Only registers of results may differ from 0.  Only output buffers
    may be written.
    """
    spec = draft.spec
    if answer.tag != call.tag:
        raise Deviation(f"an HRETURN with the tag {call.tag} of its call", f"the tag {answer.tag}")
    # Every other register must be 0: a server could leak values of its own there.  No case looks at these
    # registers, so the check is here.
    results = {output.place for output in spec.outputs}
    for place in range(REGISTERS):
        if place not in results and answer.registers[place]:
            value = answer.registers[place]
            raise Deviation(f"0 in r{place + 4}, which is no result of {spec.name}", f"0x{value:X}")
    for address, data in answer.writes:
        if not any(
            access & Access.OUT and start <= address and address + len(data) <= start + length
            for start, length, access, _ in call.segments
        ):
            raise Deviation("writes into output buffers only", f"{len(data)} bytes at 0x{address:X}")
    return Returned(spec, answer.status, answer.registers, _from(draft.output(), answer))


def _from(start: int | None, answer: HReturn) -> bytes:
    """Return the bytes that the answer wrote from `start` on; Deviation if a byte lies elsewhere."""
    end = start or 0
    for address, data in sorted(write for write in answer.writes if write.data):
        if address != end:
            raise Deviation(f"the next written byte at 0x{end:X}", f"{len(data)} bytes at 0x{address:X}")
        end += len(data)
    return b"".join(data for _, data in sorted(answer.writes))
