"""The ceiling of calls: a server that only finds the frames, and answers each with a frame of the right size.

    python -m bench.echo --socket PATH --answers FILE --ready-fd N [--stream trio|plain]

It does the least work of a Trio program: one buffered receive, and one send for all complete frames in it.
`trio` is Trio's own SocketStream, and is the ceiling of the goals. `plain` is the non-blocking socket that
swpks itself uses. Its difference to swpks is the cost of codec, checks and engine.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
from pathlib import Path

import trio

HEADER_SIZE = 16
RECEIVE_SIZE = 64 * 1024
_LENGTH = struct.Struct(">I")
_NUMBERS = struct.Struct("=II")


def read_answers(path: Path) -> dict[int, bytes]:
    """Return the answer for each size of a request, from a file that bench/programs.py has written."""
    content, at, answers = path.read_bytes(), 0, {}
    while at < len(content):
        size, length = _NUMBERS.unpack_from(content, at)
        answers[size] = content[at + 8 : at + 8 + length]
        at += 8 + length
    return answers


async def echo(stream: trio.abc.Stream, answers: dict[int, bytes]) -> None:
    """Serve one connection until the peer closes it."""
    rest = b""
    try:
        while received := await stream.receive_some(RECEIVE_SIZE):
            data = rest + received if rest else received
            at, found = 0, []
            while len(data) - at >= HEADER_SIZE:
                size = HEADER_SIZE + _LENGTH.unpack_from(data, at + 12)[0]
                if len(data) - at < size:
                    break
                found.append(answers[size])
                at += size
            rest = bytes(data[at:])
            if found:
                await stream.send_all(b"".join(found))
    except trio.BrokenResourceError:
        pass  # the load generator closes its sockets without a shutdown


async def serve(path: str, answers: dict[int, bytes], kind: str, ready: int) -> None:
    """Listen and serve until the process is ended."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(1024)
    listener = trio.socket.from_stdlib_socket(listening)
    async with trio.open_nursery() as nursery:
        os.write(ready, b"ready\n")
        os.close(ready)
        while True:
            peer, _ = await listener.accept()
            nursery.start_soon(echo, stream_of(kind, peer), answers)


def stream_of(kind: str, peer: trio.socket.SocketType) -> trio.abc.Stream:
    """Return a stream of the given kind over a socket."""
    if kind == "trio":
        return trio.SocketStream(peer)
    from hcall_server.data_channel.stream import SocketStream

    return SocketStream(socket.socket(fileno=peer.detach()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.echo")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--stream", choices=("trio", "plain"), default="trio")
    options = parser.parse_args()
    trio.run(serve, options.socket, read_answers(options.answers), options.stream, options.ready_fd)


if __name__ == "__main__":
    main()
