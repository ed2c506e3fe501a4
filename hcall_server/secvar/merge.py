"""Appends signature lists without duplicates."""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.efi import GUID_X509, SignatureList


class _Open(NamedTuple):
    """A signature list that can still grow."""

    type: bytes
    header: bytes
    signatures: list[bytes]


def merge(stored: list[SignatureList], added: list[SignatureList]) -> list[SignatureList]:
    """Return the stored lists with the new signatures of `added`; in linear time.

    A signature is not new if a list of its type has the same bytes and owner.  A new certificate gets a new
    list, after the others.  The tools of this family read only one certificate from each list.

    Any other new signature goes to the first list of its type, its length and its header.  If there is
    none, it starts one.
    """
    lists = [_Open(each.type, each.header, list(each.signatures)) for each in stored]
    # A guest chooses the number of signatures.  Without sets and dicts, each new signature would need a
    # search of all stored lists: quadratic time.
    present = {(each.type, signature) for each in stored for signature in each.signatures}
    shared: dict[tuple[bytes, bytes, int], _Open] = {}
    for each in lists:
        shared.setdefault(_shape(each, each.signatures[0]), each)
    for new in added:
        for signature in new.signatures:
            if (new.type, signature) in present:
                continue
            present.add((new.type, signature))
            place = None if new.type == GUID_X509 else shared.get(_shape(new, signature))
            if place is None:
                place = shared[_shape(new, signature)] = _Open(new.type, new.header, [])
                lists.append(place)
            place.signatures.append(signature)
    return [SignatureList(each.type, each.header, tuple(each.signatures)) for each in lists]


def _shape(each: _Open | SignatureList, signature: bytes) -> tuple[bytes, bytes, int]:
    """Return the properties that all signatures of one list share."""
    return each.type, each.header, len(signature)
