"""The format of wrapped objects: the output of WRAP and the input of UNWRAP (spec/wrapped.md).

Pure: the caller passes the salt.  The keystore finds the key and checks its use.
"""

from hcall_server.wrapping.blobs import Header, open_wrapped, read_header, wrap
from hcall_server.wrapping.errors import DamagedObject, UnknownFormat, WrappedObjectError
from hcall_server.wrapping.formats import SALT_SIZE

__all__ = [
    "SALT_SIZE",
    "DamagedObject",
    "Header",
    "UnknownFormat",
    "WrappedObjectError",
    "open_wrapped",
    "read_header",
    "wrap",
]
