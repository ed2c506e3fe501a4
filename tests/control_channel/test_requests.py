"""Every request: paths, methods, queries, bodies, and errors of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hcall_abi.bounds import MAX_COUNT, MAX_SECONDS
from hcall_abi.errors import StorageError
from hcall_abi.rules import storage
from tests.control_channel.rig import flushed, in_process, make_machine


@pytest.fixture
def machine():
    machine = make_machine()
    machine.system.create("a", 8)
    return machine


@pytest.fixture
async def client(machine):
    async with in_process(machine) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/partitions/", "/v2/system", "/v1/partitions/a/", "/v1/partitions/a/b", "/docs"]
)
async def test_unknown_paths(client, path) -> None:
    """A path that is not in the table gets 404, and no path is redirected."""
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["b", "A", "%00", "..%2f..", "%F0%9F%A6%8A", "a%20"])
async def test_unknown_partitions(client, name) -> None:
    """A request about an unknown partition gets 404, whatever its body is."""
    for call in (
        client.get(f"/v1/partitions/{name}"),
        client.post(f"/v1/partitions/{name}/ipl", content=b"{"),
    ):
        assert (await call).status_code == 404


@pytest.mark.parametrize("path,status", [("partitions/b/ipl", 404), ("none", 404), ("system", 405)])
async def test_a_refused_request_is_read(client, path, status) -> None:
    """The server reads a body before it refuses the request by its header: the client can send all of it."""
    pieces = [b"{", b"}"]

    async def content() -> AsyncIterator[bytes]:
        while pieces:
            yield pieces.pop(0)

    assert (await client.post(f"/v1/{path}", content=content())).status_code == status
    assert pieces == []


@pytest.mark.parametrize(
    "method,path,allowed",
    [
        ("DELETE", "/v1/partitions/a", "GET, PATCH"),
        ("GET", "/v1/partitions", "POST"),
        ("GET", "/v1/partitions/a/ipl", "POST"),
        ("POST", "/v1/partitions/a/attributes", "PATCH"),
        ("OPTIONS", "/health", "GET"),
        ("POST", "/openapi.json", "GET"),
    ],
)
async def test_methods(client, method, path, allowed) -> None:
    """A wrong method is refused, and the answer names the allowed methods."""
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


async def test_head_is_get(client) -> None:
    """A monitor that only needs the status may use HEAD."""
    assert (await client.head("/health")).status_code == 200
    assert (await client.head("/openapi.json")).status_code == 200


async def test_queries_are_refused(client) -> None:
    """A request with a query is refused, because the query would have no effect."""
    assert (await client.get("/v1/system?verbose=1")).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"2",
        b'{"secure_boot": "audit"}',
        b'{"secure_boot": 3}',
        b'{"secure_boot": null}',
        b'{"secure_boot": 1, "now": true}',
        b'{"secure_boot": 1} {}',
        b'{"secure_boot": "1\xff"}',
        b'{"SECURE_BOOT": 1}',
    ],
)
async def test_bodies_that_are_not_as_the_table_says(machine, client, body) -> None:
    """Unknown fields, wrong types and broken JSON are refused, and nothing changes."""
    answer = await client.patch(
        "/v1/partitions/a/attributes", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["section"] == "spec/control.md#requests"
    assert await flushed(machine) == set()


async def test_a_field_without_a_default_is_needed(machine, client) -> None:
    """A body without the field is refused as a whole."""
    answer = await client.post("/v1/partitions", json={})
    assert (answer.status_code, answer.json()["section"]) == (400, "spec/control.md#requests")
    assert await flushed(machine) == set()


@pytest.mark.parametrize("kbytes", [-1, 2**16, 10**400, 8.0, "8", True, None])
async def test_sizes_that_are_no_numbers(client, kbytes) -> None:
    """R-31: a size is a number of KiB, not a string with one."""
    for answer in (
        await client.patch("/v1/partitions/a/attributes", json={"keystore_kbytes": kbytes}),
        await client.post("/v1/partitions", json={"name": "b", "keystore_kbytes": kbytes}),
    ):
        assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json5", None]
)
async def test_other_media_types(client, kind) -> None:
    """A body of another media type is refused, so a form of a web page has no effect."""
    headers = {"content-type": kind} if kind else {}
    answer = await client.patch("/v1/partitions/a/attributes", content=b'{"secure_boot":0}', headers=headers)
    assert answer.status_code == 415


async def test_a_charset_is_allowed(client) -> None:
    """A media type with a charset is accepted, because many clients send one."""
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    answer = await client.patch("/v1/partitions/a/attributes", content=b'{"secure_boot":0}', headers=headers)
    assert answer.status_code == 200


async def test_a_body_where_none_belongs(machine, client) -> None:
    """A body for a verb without a body is refused, because it would have no effect."""
    answer = await client.post("/v1/partitions/a/power-on", json={"secure_boot": "enforce"})
    assert answer.status_code == 400
    assert await flushed(machine) == set()


async def test_trouble_with_storage_is_told(machine, client, monkeypatch) -> None:
    """If the machine's storage fails, the `fault` in the answer is `storage`, and not `operator`."""

    def fail(name):
        raise StorageError(storage.IMAGE_LENGTHS, "the disk is full")

    monkeypatch.setattr(machine, "power_on", fail)
    answer = await client.post("/v1/partitions/a/power-on")
    assert answer.status_code == 503
    assert (answer.json()["fault"], answer.json()["detail"]) == ("storage", "the disk is full")


async def test_an_error_of_ours_shows_nothing(machine, client, monkeypatch) -> None:
    """An internal error gives 500 without its text, which could have secrets. The next request is served."""

    def fail(name):
        raise RuntimeError("secret")

    monkeypatch.setattr(machine, "power_on", fail)
    answer = await client.post("/v1/partitions/a/power-on")
    assert answer.status_code == 500
    assert answer.json()["fault"] == "internal"
    assert "secret" not in answer.text
    assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    "body,status",
    [
        ({"trouble": "stall", "commits": 3}, 400),
        ({"trouble": "none", "commits": 1}, 400),
        ({"trouble": "full", "commits": 0}, 400),
        ({"trouble": "full", "commits": 3}, 200),
        ({"trouble": "io"}, 200),
        ({"trouble": "stall"}, 200),
    ],
    ids=repr,
)
async def test_a_number_of_commits_goes_with_what_counts_them(client, body, status) -> None:
    """R-75: A number of commits for a fault that does not count commits is refused."""
    assert (await client.put("/v1/nvram/fault", json=body)).status_code == status
    assert (await client.put("/v1/nvram/fault", json={"trouble": "none"})).status_code == 200


@pytest.mark.parametrize(
    "fields,status",
    [
        ({"nth": 0}, 400),
        ({"nth": MAX_COUNT, "times": MAX_COUNT}, 200),
        ({"nth": MAX_COUNT + 1}, 400),
        ({"times": 0}, 400),
        ({"times": MAX_COUNT + 1}, 400),
        ({"seconds": 0}, 400),
        ({"seconds": MAX_SECONDS}, 200),
        ({"seconds": MAX_SECONDS + 0.1}, 400),
    ],
    ids=repr,
)
async def test_a_fault_keeps_to_the_bounds_of_its_struct(client, fields, status) -> None:
    """R-75: a number outside the bounds, above or below, is a malformed request."""
    fault = {"hcall": "READ_OBJECT", "status": "H_BUSY", **fields}
    answer = await client.put("/v1/partitions/a/faults", json={"faults": [fault]})
    assert answer.status_code == status, answer.text
    if status == 400:
        assert answer.json()["rule_id"] == "request.form"
        assert next(iter(fields)) in answer.json()["detail"]
