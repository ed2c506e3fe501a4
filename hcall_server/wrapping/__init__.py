"""The format of wrapped objects: bytes under a wrapping key, as WRAP gives them out and UNWRAP takes them.

Pure: the salt is handed in.  Which key, and who may use it, is the keystore's business.  Every byte:
spec/wrapped.md.
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
