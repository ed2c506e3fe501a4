"""Calls of a kernel function from outside, as a debugger makes an inferior call.

A hook stops the guest at the start of a function.  At that point, the call may use all registers that the
function may change.  The called function gets its arguments and returns to the address of the hook.  Then the
registers are restored, and the hooked function runs.
"""

from __future__ import annotations

from swpks.qemu.bridge import Bridge
from swpks.qemu.errors import GuestStopped
from swpks.qemu.stub import Ended, Stop

FIRST_ARGUMENT = 3
MOST_ARGUMENTS = 8
"""Arguments in registers, r3 to r10; further ones would need the stack."""

_SAVED = (*(f"r{number}" for number in range(13)), "lr", "pc")
"""Registers that a callee may change.  r13 belongs to the processor, and the task may move to another."""
_WORD = (1 << 64) - 1


async def call_function(bridge: Bridge, stop: Stop, name: str, *arguments: int) -> int:
    """Call a kernel function while the guest is stopped at a hook; return r3 as an unsigned number.

    The guest runs during the call, and its h-calls are served.  KernelUnsuitable if the kernel has no such
    function, GuestStopped if the machine ends during the call.
    """
    function = bridge.image.find(name)
    if len(arguments) > MOST_ARGUMENTS:
        raise ValueError(f"{len(arguments)} arguments: at most {MOST_ARGUMENTS} go into registers")
    await bridge.stub.select(stop.thread)
    saved = dict(zip(_SAVED, await bridge.stub.read(*_SAVED), strict=True))
    given = {f"r{FIRST_ARGUMENT + n}": value & _WORD for n, value in enumerate(arguments)}
    # The call uses the global entry with its address in r12: by the ELFv2 ABI the function computes r2 from
    # it. The local entry would use the r2 of the hooked function.
    entry = {"r12": function.address, "lr": saved["pc"], "pc": function.address}
    await bridge.stub.write({**given, **entry})
    await _until(bridge, saved["pc"], saved["r1"])
    (result,) = await bridge.stub.read("r3")
    await bridge.stub.write(saved)
    return result


async def _until(bridge: Bridge, address: int, stack: int) -> None:
    """Serve the guest until it stops at this address with this stack pointer."""
    while True:
        stop = await bridge.stub.resume()
        if isinstance(stop, Ended):
            raise GuestStopped("the machine has ended in the middle of a call from outside")
        await bridge.stub.select(stop.thread)
        # The address alone is not enough: meanwhile another task, with another stack, may call the hooked
        # function.
        if await bridge.stub.read("pc", "r1") == [address, stack]:
            return
        await bridge.handle(stop)
