"""Cuts one direction of a data channel into frames, for a trace.  Pure.

A trace must also show the frames that break the protocol.  So this cutter is more tolerant than
`hcall_abi.session`: it needs the magic and a possible length, and checks nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.codec import HEADER_LAYOUT
from hcall_abi.frames import MAGIC, MAX_BODY

HEADER_SIZE = HEADER_LAYOUT.size


class CutFrame(NamedTuple):
    """A frame as it came; `length` is that of the whole frame, of which `data` may be only the start."""

    data: bytes
    length: int


class FrameCutter:
    """Cuts bytes into frames; memory is bounded by one frame and one piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lost = False

    def cut(self, data: bytes | bytearray) -> list[CutFrame]:
        """Return the frames that these bytes complete.

        A frame without the magic, or with too long a body, is the last one: nothing tells where the next one
        begins, and the server ends the session.
        """
        frames: list[CutFrame] = []
        if self._lost:
            return frames
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= HEADER_SIZE:
            size = HEADER_SIZE + int.from_bytes(buffer[start + 12 : start + HEADER_SIZE])
            if buffer[start : start + 4] != MAGIC:
                self._lost, size = True, len(buffer) - start
            elif size > HEADER_SIZE + MAX_BODY:
                self._lost = True
            elif len(buffer) - start < size:
                break
            frames.append(CutFrame(bytes(buffer[start : start + size]), size))
            start += size
            if self._lost:
                start = len(buffer)
        del buffer[:start]
        return frames

    def rest(self) -> list[CutFrame]:
        """Return the frame that the end of the stream has cut off, if there is one."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._lost = True
        if not rest:
            return []
        whole = len(rest) >= HEADER_SIZE
        return [CutFrame(rest, HEADER_SIZE + int.from_bytes(rest[12:HEADER_SIZE]) if whole else len(rest))]
