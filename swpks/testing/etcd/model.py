"""The store of an etcd cluster in memory: revisions, leases, transactions, compaction, quota.

It answers the JSON of etcd's gateway like etcd 3.4.  tests/nvram compares both, request by request.
"""

# The model does not use `hcall_server.nvram.etcd.wire`: a mistake there would be made twice, and not be
# found.  It has the part of etcd that the back end uses, and etcd's limits.  It is one store: whatever the
# cluster has acknowledged is durable, and requests are carried out one by one.  Several members add
# delay, loss and repetition: `network` has these.

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any

MAX_REQUEST = 1_572_864
MAX_OPERATIONS = 128

Body = dict[str, Any]


class EtcdRefusal(Exception):
    """A request that etcd refuses: HTTP status, gRPC code, message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": message, "message": message, "code": code}


_TOO_LARGE = (400, 3, "etcdserver: request is too large")
_TOO_MANY = (400, 3, "etcdserver: too many operations in txn request")
_DUPLICATE = (400, 3, "etcdserver: duplicate key given in txn request")
_NO_LEASE = (404, 5, "etcdserver: requested lease not found")
_NO_SPACE = (429, 8, "etcdserver: mvcc: database space exceeded")
_COMPACTED = (400, 11, "etcdserver: mvcc: required revision has been compacted")
_FUTURE = (400, 11, "etcdserver: mvcc: required revision is a future revision")


class _Entry:
    """One key in one revision."""

    def __init__(self, value: bytes, created: int, changed: int, lease: int) -> None:
        self.value = value
        self.created = created
        self.changed = changed
        self.lease = lease


Store = dict[bytes, _Entry]


class EtcdModel:
    """A cluster's store.  `clock` returns seconds; leases end by it.

    With a `quota`, the store is full after so many bytes of history; compaction makes room.
    """

    def __init__(self, clock: Callable[[], float], quota: int | None = None) -> None:
        self.revision = 1
        self.compacted = 0
        self.alarm = False
        """Whether NOSPACE was raised; only an operator ends it."""
        self.quota = quota
        self.on_change: Callable[[Mapping[bytes, bytes | None]], None] = lambda changes: None
        """Called after each revision with the keys that it has put; None for those that it has removed."""
        self._clock = clock
        self._history: dict[int, Store] = {1: {}}
        self._leases: dict[int, tuple[int, float]] = {}
        self._next_lease = 7
        self._used = 0

    def __repr__(self) -> str:
        return f"EtcdModel(revision {self.revision}, {len(self._store)} keys)"

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Carry out a request, and return the HTTP status and the body of the answer."""
        self._expire()
        handlers: dict[str, Callable[[Body], Body]] = {
            "/v3/kv/txn": self._txn,
            "/v3/kv/range": self._range,
            "/v3/kv/compaction": self._compact,
            "/v3/lease/grant": self._grant,
            "/v3/lease/keepalive": self._keep,
            "/v3/lease/revoke": self._revoke,
            "/v3/lease/timetolive": self._time_to_live,
        }
        if path not in handlers:
            return 404, b"Not Found\n"
        try:
            return 200, _bytes({"header": self._header(), **handlers[path](json.loads(body))})
        except EtcdRefusal as refusal:
            return refusal.status, _bytes(refusal.body)

    def values(self) -> dict[bytes, bytes]:
        """Return the present value of every key."""
        self._expire()
        return {key: entry.value for key, entry in self._store.items()}

    def expire_lease(self, lease: int) -> None:
        """End a lease now."""
        self._leases.pop(lease, None)
        self._remove([key for key, entry in self._store.items() if entry.lease == lease])

    @property
    def _store(self) -> Store:
        return self._history[self.revision]

    def _header(self) -> Body:
        return {"revision": str(self.revision)}

    def _expire(self) -> None:
        now = self._clock()
        for lease, (_, until) in list(self._leases.items()):
            if until <= now:
                self.expire_lease(lease)

    # Leases

    def _grant(self, body: Body) -> Body:
        ttl = max(int(body["TTL"]), 2)
        lease, self._next_lease = self._next_lease, self._next_lease + 1
        self._leases[lease] = (ttl, self._clock() + ttl)
        return {"ID": str(lease), "TTL": str(ttl)}

    def _keep(self, body: Body) -> Body:
        lease = int(body["ID"])
        if lease not in self._leases:
            return {"result": {"ID": str(lease)}}
        ttl = self._leases[lease][0]
        self._leases[lease] = (ttl, self._clock() + ttl)
        return {"result": {"ID": str(lease), "TTL": str(ttl)}}

    def _revoke(self, body: Body) -> Body:
        lease = int(body["ID"])
        if lease not in self._leases:
            raise EtcdRefusal(*_NO_LEASE)
        self.expire_lease(lease)
        return {}

    def _time_to_live(self, body: Body) -> Body:
        lease = int(body["ID"])
        if lease not in self._leases:
            return {"ID": str(lease), "TTL": "-1"}
        ttl, until = self._leases[lease]
        left = int(until - self._clock())
        return {"ID": str(lease), **({"TTL": str(left)} if left else {}), "grantedTTL": str(ttl)}

    # Keys

    def _range(self, body: Body) -> Body:
        revision = int(body.get("revision", 0)) or self.revision
        if revision > self.revision:
            raise EtcdRefusal(*_FUTURE)
        if revision < self.compacted:
            raise EtcdRefusal(*_COMPACTED)
        return self._found(self._history[revision], body)

    def _found(self, store: Store, body: Body) -> Body:
        keys = sorted(key for key in store if _in_range(key, body))
        limit = int(body.get("limit", 0)) or len(keys)
        found: Body = {"count": str(len(keys))} if keys else {}
        if keys:
            found["kvs"] = [_key_value(key, store[key]) for key in keys[:limit]]
        return {**found, "more": True} if len(keys) > limit else found

    def _txn(self, body: Body) -> Body:
        for branch in ("success", "failure"):
            self._check_operations(body.get(branch, []))
        succeeded = all(self._holds(each) for each in body.get("compare", []))
        operations = body.get("success" if succeeded else "failure", [])
        self._check_leases(operations)
        if any("request_put" in each for each in operations):
            self._check_space()
        responses = self._carried_out(operations)
        answer: Body = {"header": self._header(), "responses": responses}
        return {**answer, "succeeded": True} if succeeded else answer

    def _check_operations(self, operations: list[Body]) -> None:
        if len(operations) > MAX_OPERATIONS:
            raise EtcdRefusal(*_TOO_MANY)
        puts = [each["request_put"] for each in operations if "request_put" in each]
        keys = [b64decode(put["key"]) for put in puts]
        removals = [each["request_delete_range"] for each in operations if "request_delete_range" in each]
        removed = [key for each in removals for key in keys if _in_range(key, each)]
        if removed or len(set(keys)) < len(keys):
            raise EtcdRefusal(*_DUPLICATE)
        if sum(len(b64decode(put["key"])) + len(b64decode(put["value"])) for put in puts) > MAX_REQUEST:
            raise EtcdRefusal(*_TOO_LARGE)

    def _check_leases(self, operations: list[Body]) -> None:
        for each in operations:
            lease = int(each.get("request_put", {}).get("lease", 0))
            if lease and lease not in self._leases:
                raise EtcdRefusal(*_NO_LEASE)

    def _check_space(self) -> None:
        if self.quota is not None and self._used > self.quota:
            self.alarm = True
        if self.alarm:
            raise EtcdRefusal(*_NO_SPACE)

    def _holds(self, compare: Body) -> bool:
        entry = self._store.get(b64decode(compare["key"]))
        target = compare["target"]
        if target == "CREATE":
            return (entry.created if entry else 0) == int(compare["create_revision"])
        return (entry.changed if entry else 0) == int(compare["mod_revision"])

    def _carried_out(self, operations: list[Body]) -> list[Body]:
        # All changes of a transaction have one revision, and a range before a put reads the old value.
        store, revision, changed = dict(self._store), self.revision + 1, False
        responses: list[Body] = []
        for each in operations:
            if "request_range" in each:
                found = self._found(store, each["request_range"])
                responses.append({"response_range": {"header": self._header(), **found}})
                continue
            applied = self._applied(each, store, revision)
            changed = changed or applied > 0
            deleted = {"deleted": str(applied)} if applied else {}
            put = "request_put" in each
            responses.append({"response_put": {}} if put else {"response_delete_range": deleted})
        if changed:
            self._advance(store)
        return responses

    def _applied(self, operation: Body, store: Store, revision: int) -> int:
        """Carry out a put or a removal; return the number of keys that have changed."""
        if "request_put" not in operation:
            removed = [key for key in store if _in_range(key, operation["request_delete_range"])]
            for key in removed:
                del store[key]
            return len(removed)
        put = operation["request_put"]
        key, value = b64decode(put["key"]), b64decode(put["value"])
        created = store[key].created if key in store else revision
        store[key] = _Entry(value, created, revision, int(put.get("lease", 0)))
        self._used += len(key) + len(value)
        return 1

    def _remove(self, keys: list[bytes]) -> None:
        if keys:
            self._advance({key: entry for key, entry in self._store.items() if key not in keys})

    def _advance(self, store: Store) -> None:
        before = self._store
        self.revision += 1
        self._history[self.revision] = store
        # A put makes a new entry, also with the same value.
        put = {key: entry.value for key, entry in store.items() if before.get(key) is not entry}
        self.on_change({**put, **dict.fromkeys(before.keys() - store.keys())})

    def _compact(self, body: Body) -> Body:
        revision = int(body["revision"])
        if revision <= self.compacted:
            raise EtcdRefusal(*_COMPACTED)
        if revision > self.revision:
            raise EtcdRefusal(*_FUTURE)
        self.compacted = revision
        self._history = {at: store for at, store in self._history.items() if at >= revision}
        self._used = sum(len(key) + len(entry.value) for key, entry in self._store.items())
        return {}


def _in_range(key: bytes, body: Body) -> bool:
    """Return whether a key is that of a request, or in its range."""
    start, end = b64decode(body["key"]), b64decode(body.get("range_end", ""))
    return start <= key < end if end else key == start


def _key_value(key: bytes, entry: _Entry) -> Body:
    found: Body = {
        "key": _text(key),
        "create_revision": str(entry.created),
        "mod_revision": str(entry.changed),
    }
    if entry.value:
        found["value"] = _text(entry.value)
    return {**found, "lease": str(entry.lease)} if entry.lease else found


def _text(value: bytes) -> str:
    return b64encode(value).decode()


def _bytes(body: Body) -> bytes:
    return json.dumps(body).encode()
