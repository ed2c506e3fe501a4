"""The typed h-calls, and no other name: a program may import all of them.

    from swpks.calls import *

    channel.call(write_object(Authorization(3), b"label", b"data"))

Each returns a request, which a channel carries (`hcall_client.calls`).
"""

from hcall_client.calls import (
    Authorization,
    Confirmation,
    HcallError,
    Labels,
    ObjectRead,
    Request,
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

__all__ = [
    "Authorization",
    "Confirmation",
    "HcallError",
    "Labels",
    "ObjectRead",
    "Request",
    "confirm_object_flushed",
    "gen_key",
    "gen_password",
    "gen_wrapping_key",
    "get_config",
    "get_object_labels",
    "raw_call",
    "read_object",
    "remove_object",
    "revoke_object",
    "set_password",
    "signed_update",
    "unrevoke_object",
    "unwrap_object",
    "wrap_object",
    "write_object",
]
