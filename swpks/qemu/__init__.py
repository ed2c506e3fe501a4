"""A real kernel in QEMU with swpks as its keystore.

QEMU's pseries machine has no H_PKS call.  The bridge attaches to QEMU's gdb stub, and stops the guest where
the kernel's keystore driver makes an h-call.  It sends the call over the data channel to a partition, and
puts the answer into the guest's registers and memory (spec/qemu.md).  The kernel is not changed and not
rebuilt.

    rsp           packets of the GDB remote serial protocol, without I/O
    registers     the registers of the stub, and their order
    stub          the gdb stub as an object: registers, memory, breakpoints, step and continue
    elf           symbols and code of a kernel
    callsites     the places where the driver makes its h-calls
    devicetree    the flattened device tree, and the properties that the bridge adds
    bridge        the action at each stop
    breakpoints   breakpoints that are set and cleared together
    bootdisk      the boot loader in the PReP partition of a disk
    firmware      the keystore's client services in SLOF
    chain         the bridge of a machine that boots from a disk
    boot          how far such a boot is, and its failures
    inferior      calls of a kernel function from outside, as a debugger makes them
    qmp           QEMU's own channel: it reports resets
    console       IPL, power-on and power-off of the partition, over the control channel
    machine       QEMU's command line and process
    claims        locks, so that one machine at a time uses a partition
    cleanup       the process that ends QEMU and a server if this one is killed
    race          runs tasks, and returns the result of the first that ends
    run           runs a kernel with all these parts

Front ends other than `swpks qemu` put the same parts together.
"""
