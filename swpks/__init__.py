"""swpks, the PowerVM Platform KeyStore in software: the names that a program or a test uses first.

    async with swpks.emulated_partition() as partition:                 # a partition in this process
        config = await partition.channel.call(swpks.get_config())

    with swpks.BlockingChannel.connect("state/run/lpar1.sock") as channel:     # or a running server
        config = channel.call(swpks.get_config())

Each name is loaded at its first use, so `import swpks` is fast.  The packages behind them have more:
`hcall_client` the clients, `hcall_abi` the tables of the contract, `hcall_server` the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcall_server import __version__
from swpks._lazy import lazily

if TYPE_CHECKING:
    from hcall_abi.calls import Opcode
    from hcall_abi.consumers import Consumer, SecureBoot
    from hcall_abi.policies import Policy
    from hcall_abi.statuses import Status
    from hcall_client.blocking import BlockingChannel
    from hcall_client.blocking_following import FollowingBlockingChannel
    from hcall_client.busy import until_done, until_done_async
    from hcall_client.calls import (
        Authorization,
        confirm_object_flushed,
        gen_key,
        gen_password,
        gen_wrapping_key,
        get_config,
        get_object_labels,
        raw_call,
        read_object,
        remove_object,
        revoke_object,
        set_password,
        signed_update,
        unrevoke_object,
        unwrap_object,
        wrap_object,
        write_object,
    )
    from hcall_client.channel import Channel, open_channel
    from hcall_client.console import BlockingConsole, Console
    from hcall_client.errors import HcallError
    from hcall_client.following import FollowingChannel, locate_at_async, open_following
    from hcall_client.guests.boot import BootedChain, boot
    from hcall_client.guests.boot_loader import BootLoader
    from hcall_client.guests.firmware import PartitionFirmware
    from hcall_client.guests.kernel import KexecHandover, LinuxKernel, Name
    from hcall_client.where import locate_at
    from swpks import calls
    from swpks.testing.blocking import BlockingPartition, blocking_partition
    from swpks.testing.partition import EmulatedPartition, emulated_partition
    from swpks.testing.process import ServerFailed, ServerProcess
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "hcall_abi.calls": "Opcode",
            "hcall_abi.consumers": "Consumer SecureBoot",
            "hcall_abi.policies": "Policy",
            "hcall_abi.statuses": "Status",
            "hcall_client.blocking": "BlockingChannel",
            "hcall_client.blocking_following": "FollowingBlockingChannel",
            "hcall_client.busy": "until_done until_done_async",
            "hcall_client.calls": (
                "Authorization confirm_object_flushed gen_key gen_password gen_wrapping_key "
                "get_config get_object_labels raw_call read_object remove_object revoke_object "
                "set_password signed_update unrevoke_object unwrap_object wrap_object "
                "write_object"
            ),
            "hcall_client.channel": "Channel open_channel",
            "hcall_client.console": "BlockingConsole Console",
            "hcall_client.errors": "HcallError",
            "hcall_client.following": "FollowingChannel locate_at_async open_following",
            "hcall_client.guests.boot": "BootedChain boot",
            "hcall_client.guests.boot_loader": "BootLoader",
            "hcall_client.guests.firmware": "PartitionFirmware",
            "hcall_client.guests.kernel": "KexecHandover LinuxKernel Name",
            "hcall_client.where": "locate_at",
            "swpks": "calls",
            "swpks.testing.blocking": "BlockingPartition blocking_partition",
            "swpks.testing.partition": "EmulatedPartition emulated_partition",
            "swpks.testing.process": "ServerFailed ServerProcess",
        },
    )

__all__ = [
    "Authorization",
    "BlockingChannel",
    "BlockingConsole",
    "BlockingPartition",
    "BootLoader",
    "BootedChain",
    "Channel",
    "Console",
    "Consumer",
    "EmulatedPartition",
    "FollowingBlockingChannel",
    "FollowingChannel",
    "HcallError",
    "KexecHandover",
    "LinuxKernel",
    "Name",
    "Opcode",
    "PartitionFirmware",
    "Policy",
    "SecureBoot",
    "ServerFailed",
    "ServerProcess",
    "Status",
    "__version__",
    "blocking_partition",
    "boot",
    "calls",
    "confirm_object_flushed",
    "emulated_partition",
    "gen_key",
    "gen_password",
    "gen_wrapping_key",
    "get_config",
    "get_object_labels",
    "locate_at",
    "locate_at_async",
    "open_channel",
    "open_following",
    "raw_call",
    "read_object",
    "remove_object",
    "revoke_object",
    "set_password",
    "signed_update",
    "unrevoke_object",
    "until_done",
    "until_done_async",
    "unwrap_object",
    "wrap_object",
    "write_object",
]
