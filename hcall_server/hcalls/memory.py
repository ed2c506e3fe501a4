"""Guest memory as one h-call sees it: the segments that came with the call, and nothing else.

A buffer has to lie inside one segment with the right access.  A buffer of length 0 needs no
memory.  The strict rules (alignment, one page) are those that PowerVM is reported to enforce
(R-76); a partition can be told to relax them.
"""

from __future__ import annotations

from hcall_abi.frames import Access, Piece

PAGE = 4096
_IN = int(Access.IN)
_OUT = int(Access.OUT)


def readable(segments: tuple[Piece, ...], address: int, length: int) -> bytes | None:
    """Return the bytes at `address`, or None where no one segment has them all."""
    if not length:
        return b""
    for start, size, access, data in segments:
        offset = address - start
        if offset >= 0 and offset + length <= size and access & _IN:
            return data if length == size else data[offset : offset + length]
    return None


def readable_from(segments: tuple[Piece, ...], address: int) -> bytes:
    """Return the bytes from `address` to the end of the readable segment around it, if there is one."""
    for start, size, access, data in segments:
        offset = address - start
        if 0 <= offset < size and access & _IN:
            return data[offset:]
    return b""


def writable(segments: tuple[Piece, ...], address: int, length: int) -> bool:
    """Say whether one segment lets the call write all of the buffer."""
    for start, size, access, _ in segments:
        if start <= address and address + length <= start + size and access & _OUT:
            return True
    return not length
