"""R-84: the page in Chromium: a real console and a real system, and one server of ready-made overviews.

Playwright's own API needs a thread without a running Trio loop, so these tests are no coroutines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hcall_client.calls import Authorization, write_object
from hcall_client.console import power_off
from swpks.hmc.page.listener import PageListener
from swpks.hmc.page.place import PagePlace
from swpks.testing import ConsoleProcess, ServerProcess
from tests.hmc.pages import MARKUP, job, overview, partition, system

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this module."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        made = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
        yield made
        made.close()


class Ready:
    """Stands for a lookout: its overview never changes."""

    def __init__(self, shown: Any) -> None:
        self.shown = shown
        self.number = 0

    async def look(self) -> tuple[int, Any]:
        await trio.lowlevel.checkpoint()
        return 1, self.shown

    @contextmanager
    def opened(self) -> Iterator[Ready]:
        yield Ready(self.shown)

    async def next(self) -> Any:
        if self.number:
            await trio.sleep_forever()
        self.number = 1
        return self.shown


@contextmanager
def served(shown: Any) -> Iterator[str]:
    """Serve the page of an overview in a thread; yield its URL."""
    listener = PageListener(PagePlace("127.0.0.1", 0))
    lookout: Any = Ready(shown)
    begun: list[trio.lowlevel.TrioToken] = []
    ready = threading.Event()
    scope = trio.CancelScope()

    async def main() -> None:
        begun.append(trio.lowlevel.current_trio_token())
        with scope:
            ready.set()
            await listener.run(lookout)

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    ready.wait(20)
    try:
        yield listener.url
    finally:
        begun[0].run_sync_soon(scope.cancel)
        thread.join(20)
        listener.close()


def opened(browser: Browser, url: str, errors: list[str], **options: Any) -> Page:
    """Return a page; errors of its script and of its policy go to `errors`."""
    page = browser.new_page(**options)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.goto(url)
    return page


@pytest.fixture(scope="module")
def large() -> Iterator[str]:
    """A page with 100 partitions, a system that is away, a migration, and names with markup."""
    parts = [partition(f"lpar{number}", number=number, used_bytes=600 * number) for number in range(1, 100)]
    away = system(
        "b", partition("q"), connected=False, trouble="no answer", attention=["b is away: no answer"]
    )
    with served(overview(system("a", *parts, partition(MARKUP)), away, jobs=(job(1),))) as url:
        yield url


@pytest.mark.parametrize("width", [1280, 400])
def test_a_hundred_partitions_stay_readable(browser, large, width) -> None:
    """R-84: Each partition has its row, nothing scrolls sideways, and a name with markup is text."""
    errors: list[str] = []
    page = opened(browser, large, errors, viewport={"width": width, "height": 800})
    expect(page.locator("#link")).to_have_text("live")
    assert page.locator("[data-system=a] tr[data-partition]").count() == 100
    expect(page.locator("[data-system=a] tbody th").last).to_contain_text(MARKUP)
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    assert errors == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_keyboard(browser, large, scheme) -> None:
    """R-84: The accessibility checker finds nothing, and the Tab key reaches each link visibly."""
    page = opened(browser, large, [], color_scheme=scheme)
    expect(page.locator("#link")).to_have_text("live")
    found = Axe().run(page)
    assert [each["id"] for each in found.response["violations"]] == []
    page.keyboard.press("Tab")
    expect(page.locator("#to-1")).to_be_focused()
    style = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(style) == "solid"
    page.keyboard.press("Tab")
    expect(page.locator("#to-2")).to_be_focused()
    page.close()


def test_a_console_and_its_system(browser, tmp_path: Path) -> None:
    """R-84: Changes appear within 2 s; a restart is named; an open page delays no stop."""
    machine = ServerProcess(tmp_path / "sys1", ["lpar1:64"])
    console = ConsoleProcess(tmp_path / "hmc", options=["--page", "127.0.0.1:0"])
    try:
        console.systems = [f"sys1={machine.start().control_socket}"]
        url = console.start().ready["page"]
        page = opened(browser, url, [])
        expect(page.locator("#link")).to_have_text("live")
        bare = browser.new_context(java_script_enabled=False).new_page()
        bare.goto(url)
        bare_power = bare.locator("tr[data-partition=lpar1] .power")
        assert bare_power.inner_text() == "running"
        row = page.locator("tr[data-partition=lpar1]")
        expect(row.locator(".space")).to_contain_text("0 of 65536 B")
        with machine.connect_blocking("lpar1") as channel:
            channel.call(write_object(Authorization(3), b"label", b"data"))
        expect(row.locator(".space")).not_to_contain_text("0 of 65536 B", timeout=2000)
        machine.console.call(power_off("lpar1"))
        expect(row.locator(".power")).to_have_text("off", timeout=2000)
        # Without scripts the browser loads the page again every 5 seconds.
        expect(bare_power).to_have_text("off", timeout=7000)
        bare.context.close()
        before = time.monotonic()
        assert console.stop() == 0
        assert time.monotonic() - before < 5
        expect(page.locator("#link")).to_contain_text("connection lost since")
        console.options = ["--page", url.removeprefix("http://").rstrip("/")]
        console.start()
        expect(page.locator("#link")).to_contain_text("the console was restarted", timeout=10000)
        machine.kill()
        expect(page.locator(".system .trouble").first).not_to_be_empty(timeout=5000)
        page.close()
    finally:
        console.kill()
        machine.kill()
