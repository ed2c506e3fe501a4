"""The partition image: the whole store of one partition, within its record (spec/sealed.md#partition-image).

Encoding runs at every flush, so it only joins the entries that the keystore has encoded already.  Decoding
uses `struct` codecs that are derived from the Construct definitions in `formats`.  A property test checks
that codecs and definitions agree.
"""

from __future__ import annotations

from hcall_abi.consumers import Consumer
from hcall_abi.later import of_later_release
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import storage as rules
from hcall_server.keystore.image import OBJECT_HEADER, StoreImage
from hcall_server.sealing.errors import PlaintextError
from hcall_server.sealing.formats import IMAGE_HEADER, IMAGE_LEVEL

_HEADER = FixedLayout(IMAGE_HEADER)
_OBJECT = FixedLayout(OBJECT_HEADER)
_CONSUMERS = frozenset(int(consumer) for consumer in Consumer)


def encode_image(image: StoreImage) -> bytes:
    """Return the bytes of an image, without its generation, which the envelope has."""
    return _HEADER.pack(len(image.entries)) + b"".join(image.entries)


def decode_image(plaintext: bytes, generation: int) -> StoreImage:
    """Return the image that `plaintext` holds, with this generation.

    Any bytes give either an image or a PlaintextError.
    """
    count = _object_count(plaintext)
    entries: dict[tuple[int, bytes], bytes] = {}
    begin = _HEADER.size
    for number in range(count):
        key, end = _object(plaintext, begin, number)
        # A keystore finds objects by consumer and label. A second object under the same label could never be
        # read or removed, and would still take space.
        if key in entries:
            raise PlaintextError(rules.IMAGE_LABELS, f"object {number} repeats a label of its consumer")
        entries[key] = plaintext[begin:end]
        begin = end
    if begin != len(plaintext):
        raise PlaintextError(rules.IMAGE_END, f"{len(plaintext) - begin} bytes after the last object")
    return StoreImage(generation, tuple(entries.values()))


def _object_count(plaintext: bytes) -> int:
    """Return the number of objects from an image's header, bounded by the bytes that are there."""
    if len(plaintext) < _HEADER.size:
        raise PlaintextError(rules.IMAGE_HEADER, "truncated in its header")
    # unpack_raw does not check the constants. So each of them gets a rule and a message of its own below.
    level, reserved, count = _HEADER.unpack_raw(plaintext)
    if level != IMAGE_LEVEL:
        finding = of_later_release(level, [IMAGE_LEVEL]) if level else "the unknown level 0"
        raise PlaintextError(rules.IMAGE_LEVEL, f"the image has {finding}")
    if reserved:
        raise PlaintextError(rules.IMAGE_RESERVED, f"reserved bytes hold 0x{reserved:04x}")
    # Check the count before the loop: each object has at least a header. Otherwise a wrong count would be
    # reported as an object that is cut short.
    if count > (len(plaintext) - _HEADER.size) // _OBJECT.size:
        raise PlaintextError(rules.IMAGE_OBJECTS, f"{count} objects can't be in {len(plaintext)} bytes")
    return int(count)


def _object(plaintext: bytes, offset: int, number: int) -> tuple[tuple[int, bytes], int]:
    """Check the object at `offset`; return its owner and label, and the offset after the object."""
    if len(plaintext) - offset < _OBJECT.size:
        raise PlaintextError(rules.IMAGE_OBJECTS, f"truncated in the header of object {number}")
    consumer, reserved, label_length, _, data_length = _OBJECT.unpack_raw(plaintext, offset)
    if consumer not in _CONSUMERS or reserved:
        raise PlaintextError(
            rules.IMAGE_CONSUMER, f"object {number}: consumer {consumer}, reserved byte {reserved}"
        )
    label = offset + _OBJECT.size
    data_end = label + label_length + data_length
    if data_end > len(plaintext):
        raise PlaintextError(rules.IMAGE_LENGTHS, f"truncated in object {number}")
    return (consumer, plaintext[label : label + label_length]), data_end
