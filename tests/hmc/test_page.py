"""R-84: the page over ASGI, in memory: headers, hosts, methods, limits, escapes."""

from __future__ import annotations

import re

import httpx
import pytest
import trio

from hcall_abi.errors import OperatorError, PeerError
from swpks.hmc.lookout import Lookout
from swpks.hmc.page import app as page_app
from swpks.hmc.page.app import PageApp, event
from swpks.hmc.page.place import PagePlace, demand_host, place_of
from swpks.hmc.page.rendering import Rendering
from tests.console.stand import standing
from tests.hmc.pages import MARKUP, job, overview, partition, system

PLACE = PagePlace("127.0.0.1", 8080)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:99", "LOCALHOST", "[::1]:8080", "127.0.0.1:1"])
def test_hosts_of_this_machine(host) -> None:
    """A name of loopback is ours at any port, because a tunnel may have another one."""
    demand_host(PLACE, [host])


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["evil.example"],
        ["localhost", "localhost"],
        ["127.0.0.1.evil.example"],
        ["192.0.2.1"],
        [""],
        ["a:b"],
    ],
)
def test_foreign_hosts_are_refused(given) -> None:
    """R-84: A foreign name is refused, because it may lead here by DNS."""
    with pytest.raises(PeerError):
        demand_host(PLACE, given)


@pytest.mark.parametrize("host", ["[2001:db8::1]", "[2001:DB8:0::1]:80", "[2001:db8:0:0:0:0:0:1]"])
def test_an_ipv6_address_in_any_form(host) -> None:
    """An address is the same in each of its forms; another address is refused."""
    place = place_of("[2001:DB8:0:0::1]:80", insecure=True)
    demand_host(place, [host])
    demand_host(PLACE, ["[0:0::1]"])
    with pytest.raises(PeerError, match="use this host, or name the host in --page"):
        demand_host(place, ["[2001:db8::2]"])


def test_all_interfaces_take_an_address_and_no_name() -> None:
    """At 0.0.0.0 a request may name any address, and no foreign name."""
    place = place_of("0.0.0.0:80", insecure=True)
    demand_host(place, ["192.0.2.7"])
    with pytest.raises(PeerError, match="use an address, or name the host in --page"):
        demand_host(place, ["evil.example"])


def test_places() -> None:
    """HOST:PORT with a name, an address or IPv6 in brackets; anything else is refused."""
    assert place_of("[::1]:0", insecure=False).at(80) == "http://[::1]:80/"
    assert place_of("localhost:8080", insecure=False) == ("localhost", 8080)
    for wrong in ("", "8080", "::1:80", "h:70000", "a b:1", "10.0.0.1:80"):
        with pytest.raises(OperatorError):
            place_of(wrong, insecure=False)


def test_names_with_markup_stay_text() -> None:
    """R-84: Every text that comes from a system or an operator is escaped."""
    part = partition(MARKUP, trouble=MARKUP, secure_boot=MARKUP, passwords=[MARKUP])
    ill = system(MARKUP, part, type_model_serial=MARKUP, attention=[MARKUP])
    away = system(MARKUP, part, connected=False, trouble=MARKUP, advice=MARKUP)
    jobs = (job(1, kind=MARKUP, system=MARKUP, row=MARKUP, line=MARKUP, waiting=MARKUP),)
    shown = overview(ill, away, jobs=jobs, run=MARKUP)
    shown.console = MARKUP
    html = Rendering().page(1, shown, "n", live=True)
    assert MARKUP not in html
    assert html.count("<script") == 1


def test_the_page_has_the_currency_of_the_copies() -> None:
    """R-84: The age of the oldest copy stands with the number of stores that have changed since."""
    html = Rendering().state(1, overview(system("a", partition("p", copy_behind=True))))
    assert "1 store changed since its copy" in html


def test_one_rendering_serves_all_viewers() -> None:
    """The same number is rendered once."""
    rendering, shown = Rendering(), overview(system("a", partition("p")))
    assert rendering.state(1, shown) is rendering.state(1, shown)


def test_an_event_is_one_event() -> None:
    """An event has a number, and no empty line inside."""
    assert event(7, "<p>\n\n</p>") == b"id: 7\nevent: state\ndata: <p>\ndata: \ndata: </p>\n\n"


async def test_the_page_over_http(autojump_clock) -> None:
    """R-84: The page has strict headers and a new nonce; wrong hosts, methods and paths are refused."""
    async with standing("S") as stand, trio.open_nursery() as nursery:
        lookout = Lookout(stand.console)
        nursery.start_soon(lookout.run)
        transport = httpx.ASGITransport(PageApp(lookout, PLACE, Rendering()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            first, second = await client.get("/"), await client.get("/?live=0")
            policy = first.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            nonce = re.search("'nonce-([^']+)'", policy)
            assert nonce is not None
            assert first.text.count(f'nonce="{nonce[1]}"') == 2
            assert nonce[1] not in second.headers["content-security-policy"]
            assert first.headers["cache-control"] == "no-store"
            assert first.headers["x-content-type-options"] == "nosniff"
            assert ("<script" in first.text, "<script" in second.text) == (True, False)
            assert (await client.post("/")).status_code == 405
            assert (await client.get("/healthz")).status_code == 404
            assert (await client.get("/", headers={"host": "evil.example"})).status_code == 421
            assert (await client.head("/events")).status_code == 200
        nursery.cancel_scope.cancel()


async def test_one_live_page_too_many(autojump_clock, monkeypatch) -> None:
    """More than MAX_VIEWERS live pages are refused with 503; a stop ends the open ones."""
    monkeypatch.setattr(page_app, "MAX_VIEWERS", 1)
    async with standing("S") as stand, trio.open_nursery() as nursery:
        lookout = Lookout(stand.console)
        nursery.start_soon(lookout.run)
        app = PageApp(lookout, PLACE, Rendering())
        sent: list[dict[str, object]] = []

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/events",
            "query_string": b"",
            "http_version": "1.1",
        }
        scope["headers"] = [(b"host", b"localhost")]
        ended = trio.Event()

        async def stream() -> None:
            await app(scope, trio.sleep_forever, send)
            ended.set()

        nursery.start_soon(stream)
        await trio.sleep(2)
        assert b"event: state" in b"".join(each.get("body", b"") for each in sent)  # type: ignore[misc]
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            refused = await client.get("/events")
            assert (refused.status_code, "/?live=0" in refused.text) == (503, True)
        app.stop()
        await ended.wait()
        nursery.cancel_scope.cancel()
