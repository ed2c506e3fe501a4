"""Commands of a TPM 2.0: define an area of NV memory, read it, write it.  The owner's password is empty."""

from __future__ import annotations

import struct

_OWNER = 0x4000_0001
_PASSWORD = struct.pack(">IHBH", 0x4000_0009, 0, 0, 0)
"""A session of an empty password: TPM_RS_PW, no nonce, no attributes, no password."""
_AREA = 0x0150_0000
_SHA256 = 0x000B
_ATTRIBUTES = 1 << 1 | 1 << 17 | 1 << 25
"""OWNERWRITE, OWNERREAD and NO_DA: a wrong password of the area causes no lockout."""
_DEFINE, _WRITE, _READ = 0x12A, 0x137, 0x14E


def nv_define(size: int) -> bytes:
    """Return the command TPM2_NV_DefineSpace for an area of `size` bytes."""
    public = struct.pack(">IHIHH", _AREA, _SHA256, _ATTRIBUTES, 0, size)
    return _command(_DEFINE, [_OWNER], struct.pack(">HH", 0, len(public)) + public)


def nv_write(data: bytes) -> bytes:
    """Return the command TPM2_NV_Write for the area's first bytes."""
    return _command(_WRITE, [_OWNER, _AREA], struct.pack(">H", len(data)) + data + bytes(2))


def nv_read(size: int) -> bytes:
    """Return the command TPM2_NV_Read for the area's first bytes."""
    return _command(_READ, [_OWNER, _AREA], struct.pack(">HH", size, 0))


def _command(code: int, handles: list[int], parameters: bytes) -> bytes:
    body = struct.pack(f">{len(handles)}I", *handles)
    body += struct.pack(">I", len(_PASSWORD)) + _PASSWORD + parameters
    return struct.pack(">HII", 0x8002, 10 + len(body), code) + body
