"""The targets of fuzzing: functions that get any bytes and raise if a promise about hostile bytes is broken.

`TARGETS` has each with seeds, from which a fuzzer starts. The same functions run under atheris (`fuzz.py`)
and under the plain mutator of `make test` (`mutator.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from hcall_abi.codec import ProtocolError, decode, decode_by_definition, encode
from hcall_abi.console import AT_FIRST
from hcall_abi.efi import STORED_SIZE
from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.frames import (
    Frame,
    Goodbye,
    HCall,
    Hello,
    HReturn,
    Open,
    Opened,
    Segment,
    Write,
)
from hcall_abi.session import Role, Session
from hcall_client.guests import authvar
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.platform.profile import PartitionProfile
from hcall_server.sealing import (
    Listed,
    PartitionRecord,
    SystemRecord,
    decode_image,
    decode_partition,
    decode_system,
    encode_image,
    encode_partition,
    encode_system,
)
from hcall_server.sealing.errors import PlaintextError
from hcall_server.secvar.update import Decision, Delete, DeleteEverything, Refused, Replace
from tests.secvar.judge import judge
from tests.secvar.keys import NOW, update
from tests.soak import records
from tests.soak.fixed_keys import holder

HEADER = 16
CONTENTS = b"contents"
GENERATION = 5
UUID_OF_ALL = UUID(int=7)


class Target(NamedTuple):
    """A function to be fuzzed. `seeds` makes inputs that pass its first checks."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def codec(data: bytes) -> None:
    """Check that both decoders of a body agree, and that an accepted body is encoded to the same bytes.

    The first byte chooses the frame, the next how the stream of a session is cut into pieces.
    """
    if len(data) < 2:
        return
    kind, piece, body = data[0] % 6 + 1, data[1] + 1, data[2:]
    slow = _outcome(lambda: decode_by_definition(kind, 7, body))
    assert _outcome(lambda: decode(kind, 7, b"\xaa" * 3 + body + b"\xbb", 3, 3 + len(body))) == slow
    if slow is not None:
        assert encode(slow)[HEADER:] == body
        assert repr(slow)
    whole = _events(body, len(body) or 1)
    assert _events(body, piece) == whole, "a stream means the same in any pieces"


def _outcome(read: Callable[[], Frame]) -> Frame | None:
    try:
        return read()
    except ProtocolError:
        return None


def _events(stream: bytes, piece: int) -> list[object]:
    """Return the events of a server's session for a stream that arrives in pieces of one size."""
    session, found = Session(Role.SERVER), list[object]()
    session.send(Hello(1, 1, 1 << 20, 0, bytes(32), "swpks"))
    try:
        for at in range(0, len(stream), piece):
            session.receive_data(stream[at : at + piece])
            for event in session.events():
                # A loop takes the events one by one, because events before a bad frame count too.
                found.append(event)
    except PeerError as error:
        found.append(error.rule.id)
    return found


def _codec_seeds() -> list[bytes]:
    segments = (Segment(0x1000, 4, 1, b"data"), Segment(0x2000, 8, 2, b""))
    frames: list[Frame] = [
        Hello(1, 1, 1 << 20, 0, bytes(32), "swpks"),
        Open(1, 1, 1, bytes(32), bytes(range(32)), "client"),
        Opened(1, 0, 1, 3, bytes(32), "FW1110"),
        HCall(7, 0x434, tuple(range(9)), segments),
        HReturn(7, -4, tuple(range(9)), (Write(0x2000, b"written"),)),
        Goodbye(1, "bye"),
    ]
    bodies = [bytes([number, 3]) + encode(frame)[HEADER:] for number, frame in enumerate(frames)]
    return [*bodies, b"\0\7" + encode(frames[1]) + encode(frames[3]) + encode(frames[5])]


def image(data: bytes) -> None:
    """Check that any plaintext is refused, or is a record that is encoded to the same plaintext.

    The first byte chooses the kind: a partition image, a partition record with its image, the system record.
    """
    way, plaintext = data[:1], data[1:]
    try:
        match way:
            case b"\0":
                again = encode_image(decode_image(plaintext, GENERATION))
            case b"\1":
                again = encode_partition(decode_partition(plaintext, UUID_OF_ALL, GENERATION))
            case b"\2":
                again = encode_system(decode_system(plaintext))
            case _:
                return
    except PlaintextError:
        return
    assert again == plaintext


def _image_seeds() -> list[bytes]:
    objects = tuple(
        StoredObject(consumer, b"label %d" % consumer, 0, bytes(consumer * 20)) for consumer in (1, 2, 3)
    )
    images = [StoreImage.of(GENERATION, objects[:count]) for count in range(4)]
    profile = PartitionProfile(
        number=4, name="lpar4", uuid=UUID_OF_ALL, auto_start=True, image_generation=GENERATION,
        access_key=bytes(32), attributes=AT_FIRST.with_numbers({"keystore_kbytes": 8}),
    )  # fmt: skip
    off = profile._replace(attributes=AT_FIRST, image_generation=0)
    partitions = [PartitionRecord(profile, images[3]), PartitionRecord(off, None)]
    system = SystemRecord("FW1110", 16384, (Listed(UUID_OF_ALL, 4, "lpar4"),))
    return [
        *(b"\0" + encode_image(each) for each in images),
        *(b"\1" + encode_partition(each) for each in partitions),
        b"\2" + encode_system(system),
    ]


def recovery(data: bytes) -> None:
    """Check a start on damaged records.

    The start is refused, or each partition is refused or unchanged. Only the server's own errors may be
    raised. The first byte chooses how the other bytes damage the records.
    """
    damaged = records.damage(records.sound(), data)
    try:
        found = records.recovered(damaged)
    except SwpksError:
        found = None
    whole = records.contents()
    if damaged == records.sound():
        assert found == whole
    if found is None:
        return
    assert len(found) >= len(whole), "a partition is gone without a report"
    for name, held in found.items():
        assert held is None or held == whole.get(name), f"{name} holds something else"


def updates(data: bytes) -> None:
    """Check that an update of any bytes is refused, or writes contents that its holder has signed."""
    for name in ("db", "PK"):
        decision = _decided(name, data)
        assert not isinstance(decision, Delete | DeleteEverything), "no holder has signed a deletion"
        if isinstance(decision, Replace):
            assert decision == _decided(name, _good(name)), "the contents differ from the signed ones"
        else:
            assert isinstance(decision, Refused)
    hostile = judge("db", _good("db"), platform_key=bytes(STORED_SIZE) + data, exchange_keys=None)
    assert isinstance(hostile, Refused) or _modulus() in data, "the key of the signer is in no variable"


def _decided(name: str, payload: bytes) -> Decision:
    platform_key, exchange_keys = _trusted()
    return judge(name, payload, platform_key=platform_key, exchange_keys=exchange_keys)


@functools.cache
def _trusted() -> tuple[bytes, bytes]:
    return holder("PK").variable, holder("KEK").variable


@functools.cache
def _modulus() -> bytes:
    return holder("KEK").key.public_key().public_numbers().n.to_bytes(256, "big")


@functools.cache
def _good(name: str) -> bytes:
    """Return the only update of a variable that is ever signed."""
    signer = holder("PK" if name == "PK" else "KEK")
    return update(name, signer.lists if name == "PK" else CONTENTS, signer)


def _update_seeds() -> list[bytes]:
    lists = holder("PK").lists + holder("KEK").lists
    return [_good("db"), _good("PK"), authvar.payload(NOW, b"-", CONTENTS), lists]


TARGETS = {
    "codec": Target(codec, _codec_seeds),
    "image": Target(image, _image_seeds),
    "recovery": Target(recovery, records.seeds),
    "updates": Target(updates, _update_seeds),
}
