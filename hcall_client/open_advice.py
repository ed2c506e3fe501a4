"""The error of a refused OPEN, with advice: the argument that the program has to give or to change."""

from __future__ import annotations

from hcall_abi.bounds import ACCESS_KEY_SIZE
from hcall_abi.frames import OpenStatus
from hcall_client.errors import OpenRefused

KEY_PLACE = "DIR/access-keys/NAME.key"
"""The file of a partition's access key; DIR is the state folder of its server."""


def refused_open(status: int, partition: int, key: bytes | None) -> OpenRefused:
    """Return the error of an OPEN that the server refused with `status`.

    `partition` and `key` are those of the OPEN.
    """
    if status == OpenStatus.NOT_AUTHORISED:
        return OpenRefused(status, _of_key(partition, key))
    if status == OpenStatus.NO_SUCH_PARTITION:
        return OpenRefused(status, _of_id(partition))
    return OpenRefused(status)


def _of_key(partition: int, key: bytes | None) -> str:
    # If the key has a wrong length, the text shows that length, and never a byte of the key.
    if key is None:
        return (
            "no access key was given, and this listener demands that of the partition: "
            f"access_key=bytes.fromhex(TEXT), TEXT from {KEY_PLACE} of the server"
        )
    if len(key) != ACCESS_KEY_SIZE:
        return (
            f"the access key has {len(key)} bytes, not {ACCESS_KEY_SIZE}: "
            f"access_key=bytes.fromhex(TEXT), TEXT from {KEY_PLACE} of the server"
        )
    whose = f"partition {partition}" if partition else "the partition of this listener"
    return (
        f"the access key is not that of {whose}: the server has that in {KEY_PLACE}; if the id is right, "
        "the key is of another partition, or older than its last rotate-key"
    )


def _of_id(partition: int) -> str:
    # A wrong id and a partition that has moved away are refused in the same way, also at the partition's own
    # socket.
    if partition:
        told = f"this listener does not serve the id {partition}, or that partition has moved away"
    else:
        told = (
            "this listener serves several partitions, and partition=N says which; or its only one has moved"
        )
    return f"{told}: `swpks hmc status` lists the ids"
