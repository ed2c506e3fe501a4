"""Makes docs/page.png, the console's page with ready-made facts: tools/page_picture.py [FILE]."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "spec")]

from tests.hmc.pages import pictured  # noqa: E402
from tests.hmc.test_page_browser import served  # noqa: E402

MADE = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs" / "page.png"


with served(pictured()) as url, sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1180, "height": 760})
    page.goto(url)
    page.get_by_text("live", exact=True).wait_for()
    page.screenshot(path=MADE, full_page=True)
    browser.close()
