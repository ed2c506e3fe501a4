"""A real kernel in QEMU with swpks as its keystore.

QEMU's pseries machine has no H_PKS call.  The bridge attaches to QEMU's gdb stub, and stops the guest where
the kernel's keystore driver makes an h-call.  It sends the call over the data channel to a partition, and
puts the answer into the guest's registers and memory (spec/qemu.md).  The kernel is not changed and not
rebuilt.

    rsp           packets of the GDB remote serial protocol, without I/O
    registers     which registers the stub has, and in which order
    stub          the stub as an object: registers, memory, breakpoints, step and continue
    elf           symbols and code of a kernel
    callsites     where the driver makes its h-calls
    devicetree    the flattened device tree: a string for a list of strings
    bridge        the action at each stop
    inferior      a function of the kernel called from outside, as debuggers do
    qmp           QEMU's own channel: it reports resets
    console       IPL, power-on and power-off of the partition, over the control channel
    machine       QEMU's command line and process
    claims        one machine at a time on a partition
    cleanup       the process that ends QEMU and a server if this one is killed
    race          tasks of which the first one to end decides
    run           all of it together

Front ends other than `swpks qemu` put the same parts together.
"""
