"""Appends signature lists without duplicates."""

from __future__ import annotations

from hcall_abi.efi import SignatureList


def merge(stored: list[SignatureList], added: list[SignatureList]) -> list[SignatureList]:
    """Return the stored lists with the new signatures of `added`; in linear time.

    A signature is not new if a list of its type has the same bytes and owner.  A new one goes to the first
    list that has its type, its length and its header.  If there is none, it gets a list of its own, after
    the others.
    """
    merged: dict[tuple[bytes, bytes, int, int], list[bytes]] = {}
    present: set[tuple[bytes, bytes]] = set()
    first: dict[tuple[bytes, bytes, int], tuple[bytes, bytes, int, int]] = {}
    for number, each in enumerate(stored):
        shape = _shape(each)
        merged[*shape, number] = list(each.signatures)
        first.setdefault(shape, (*shape, number))
        present.update((each.type, signature) for signature in each.signatures)
    for number, each in enumerate(added, len(stored)):
        shape = _shape(each)
        place = merged.setdefault(first.setdefault(shape, (*shape, number)), [])
        for signature in each.signatures:
            if (each.type, signature) not in present:
                present.add((each.type, signature))
                place.append(signature)
    return [SignatureList(key[0], key[1], tuple(kept)) for key, kept in merged.items() if kept]


def _shape(each: SignatureList) -> tuple[bytes, bytes, int]:
    return each.type, each.header, len(each.signatures[0])
