"""The guest memory of one call: only the segments of its frame."""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.frames import Access, Piece

Registers = tuple[int, ...]
"""r4 to r12."""
Pieces = tuple[Piece, ...]
"""The segments of a call."""

IN, OUT = int(Access.IN), int(Access.OUT)


class Place(NamedTuple):
    """An output buffer: its address, and its length in bytes."""

    address: int
    length: int


def unreached(segments: Pieces, address: int, length: int, access: int) -> str:
    """Return why no segment has a whole buffer with an access, for the log; only a refusal calls this."""
    what = f"its {length} bytes at 0x{address:X}"
    wanted = "readable" if access == IN else "writable"
    # Segments never overlap, so one at most has the address.  One without bytes has none.
    for start, extent, granted, _ in segments:
        if start <= address < start + extent:
            if not granted & access:
                return f"{what} are in a segment that is not {wanted}"
            return f"{what} end beyond their segment of {extent} bytes at 0x{start:X}"
    return f"{what} are in no segment"


def readable_at(segments: Pieces, address: int) -> tuple[bytes, int]:
    """Return the readable segment around `address` and the offset in it; (b"", 0) if there is none."""
    # The search is linear, because a plain call has four segments at most, one for each buffer.
    for start, extent, access, data in segments:
        if start <= address < start + extent and access & IN:
            return data, address - start
    return b"", 0
