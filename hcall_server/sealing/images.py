"""The partition image: the whole store of one partition, within its record (spec/sealed.md#partition-image).

Encoding runs at every flush, and Construct is too slow for that.  So both directions use `struct` codecs
that are derived from the Construct definitions in `formats`.  A property test holds the two equal.
"""

from __future__ import annotations

from hcall_abi.consumers import Consumer
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import storage as rules
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.sealing.errors import PlaintextError
from hcall_server.sealing.formats import IMAGE_HEADER, IMAGE_LEVEL, OBJECT_HEADER

_HEADER = FixedLayout(IMAGE_HEADER)
_OBJECT = FixedLayout(OBJECT_HEADER)
_CONSUMERS = frozenset(int(consumer) for consumer in Consumer)


def encode_image(image: StoreImage) -> bytes:
    """Return the bytes of an image, without its generation, which stands in the envelope."""
    pack = _OBJECT.pack_raw
    parts = [_HEADER.pack(len(image.objects))]
    for consumer, label, policy, data in image.objects:
        parts += (pack(consumer, 0, len(label), policy, len(data)), label, data)
    return b"".join(parts)


def decode_image(plaintext: bytes, generation: int) -> StoreImage:
    """Return the image that `plaintext` holds, as of `generation`.

    Any bytes give either an image or a PlaintextError.
    """
    count = _object_count(plaintext)
    objects: dict[tuple[int, bytes], StoredObject] = {}
    offset = _HEADER.size
    for number in range(count):
        found, offset = _object(plaintext, offset, number)
        if (found.consumer, found.label) in objects:
            raise PlaintextError(rules.IMAGE_LABELS, f"object {number} repeats a label of its consumer")
        objects[found.consumer, found.label] = found
    if offset != len(plaintext):
        raise PlaintextError(rules.IMAGE_END, f"{len(plaintext) - offset} bytes after the last object")
    return StoreImage(generation, tuple(objects.values()))


def _object_count(plaintext: bytes) -> int:
    """Return the number of objects from an image's header, bounded by the bytes that are there."""
    if len(plaintext) < _HEADER.size:
        raise PlaintextError(rules.IMAGE_HEADER, "truncated in its header")
    level, reserved, count = _HEADER.unpack_raw(plaintext)
    if level != IMAGE_LEVEL:
        raise PlaintextError(rules.IMAGE_LEVEL, f"image level {level} where level {IMAGE_LEVEL} is known")
    if reserved:
        raise PlaintextError(rules.IMAGE_RESERVED, f"reserved bytes hold 0x{reserved:04x}")
    if count > (len(plaintext) - _HEADER.size) // _OBJECT.size:
        raise PlaintextError(rules.IMAGE_OBJECTS, f"{count} objects can't be in {len(plaintext)} bytes")
    return int(count)


def _object(plaintext: bytes, offset: int, number: int) -> tuple[StoredObject, int]:
    """Return the object at `offset` and the offset behind it."""
    if len(plaintext) - offset < _OBJECT.size:
        raise PlaintextError(rules.IMAGE_OBJECTS, f"truncated in the header of object {number}")
    consumer, reserved, label_length, policy, data_length = _OBJECT.unpack_raw(plaintext, offset)
    if consumer not in _CONSUMERS or reserved:
        raise PlaintextError(
            rules.IMAGE_CONSUMER, f"object {number}: consumer {consumer}, reserved byte {reserved}"
        )
    label_end = offset + _OBJECT.size + label_length
    data_end = label_end + data_length
    if data_end > len(plaintext):
        raise PlaintextError(rules.IMAGE_LENGTHS, f"truncated in object {number}")
    label = plaintext[label_end - label_length : label_end]
    return StoredObject(consumer, label, policy, plaintext[label_end:data_end]), data_end
