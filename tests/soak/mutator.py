"""A plain mutator: bytes from a seed input and a generator; the same generator gives the same bytes."""

from __future__ import annotations

from random import Random

NUMBERS = (b"\0", b"\xff", b"\0\0\0\1", b"\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0\0\0\0\0")


def mutated(seeds: list[bytes], chance: Random) -> bytes:
    """Return a seed with one to four changes: bits, bytes, cuts, insertions, pieces of any seed."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randint(0, len(data))
        size = chance.choice((1, 1, 2, 4, 16))
        match chance.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at : at + size] = chance.randbytes(size)
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = chance.randbytes(size)
            case 4:
                data[at : at + size] = data[chance.randint(0, len(data)) :][:size]
            case 5:
                data[at:] = chance.choice(seeds)[chance.randint(0, len(data)) :]
            case _:
                number = chance.choice(NUMBERS)
                data[at : at + len(number)] = number
    return bytes(data)
