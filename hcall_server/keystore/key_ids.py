"""The ids of wrapping keys, by which UNWRAP finds the key that a wrapped object names.

An id is a function of the key (spec/wrapped.md#the-key-id) and is not stored in NVRAM.
"""

# An id is derived once, when a key enters the keystore.  We dropped a search at every UNWRAP: it derived
# the id of every wrapping key.  With 1,900 keys it stopped all partitions for 15 ms.

from __future__ import annotations

import hmac

KEY_ID_SIZE = 16
"""Length of a wrapping key's id in bytes."""

_KEY_ID_INFO = b"swpks wrapping key id 1"


def key_id_of(key: bytes) -> bytes:
    """Return the id of a wrapping key: one way, from the key alone (spec/wrapped.md#the-key-id)."""
    return hmac.digest(key, _KEY_ID_INFO, "sha256")[:KEY_ID_SIZE]


class KeyIds:
    """An index of the wrapping keys: ids by owner and label, and labels by owner and id."""

    def __init__(self) -> None:
        self._ids: dict[tuple[int, bytes], bytes] = {}
        self._labels: dict[tuple[int, bytes], list[bytes]] = {}

    def __repr__(self) -> str:
        return f"KeyIds({len(self._ids)} keys)"

    def copy(self) -> KeyIds:
        """Return an index of the same keys, which changes apart from this one."""
        made = KeyIds()
        made._ids = dict(self._ids)
        made._labels = {key: list(labels) for key, labels in self._labels.items()}
        return made

    def add(self, owner: int, label: bytes, key: bytes) -> None:
        """Add a key.  The label must not have one yet."""
        self._ids[owner, label] = key_id = key_id_of(key)
        # Two labels may have the same key, so each id has a list of labels.
        self._labels.setdefault((owner, key_id), []).append(label)

    def drop(self, owner: int, label: bytes) -> None:
        """Remove the key of a label; if another label has the same key, the id stays known."""
        key_id = self._ids.pop((owner, label))
        labels = self._labels[owner, key_id]
        labels.remove(label)
        if not labels:
            del self._labels[owner, key_id]

    def id_of(self, owner: int, label: bytes) -> bytes:
        """Return the id of a label's key; the key must exist."""
        return self._ids[owner, label]

    def label_of(self, owner: int, key_id: bytes) -> bytes | None:
        """Return the label of the owner's key with this id, None if there is none.

        If several keys have this id, it is the label of the oldest one.
        """
        labels = self._labels.get((owner, key_id))
        return labels[0] if labels else None
