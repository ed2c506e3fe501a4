"""The typed h-calls, and no other name: a program may import all of them.

    from swpks.calls import *

    channel.call(write_object(Authorization(3), b"label", b"data"))

Each returns a request, which a channel carries (`hcall_client.calls`).
"""

from hcall_client.calls import *  # noqa: F403 - the names that its __all__ lists
from hcall_client.calls import __all__  # noqa: F401
