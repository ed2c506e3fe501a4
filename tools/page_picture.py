"""Makes docs/page.png, the console's page with ready-made facts: tools/page_picture.py [FILE]."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "spec")]

from tests.hmc.pages import job, overview, partition, system  # noqa: E402
from tests.hmc.test_page_browser import served  # noqa: E402

MADE = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs" / "page.png"


def shown():
    a = [
        partition(
            "lpar1", secure_boot="enforce", used_bytes=41_200, generation=218, flushed=218, passwords=["os"]
        ),
        partition(
            "lpar2", secure_boot="audit", used_bytes=9_800, generation=31, flushed=29, copy_behind=True
        ),
        partition(
            "lpar3", state="off", secure_boot="off", used_bytes=512, passwords=[], generation=4, flushed=4
        ),
    ]
    b = [
        partition(
            "db", state="running, migrating", used_bytes=60_900, generation=77, flushed=77, copy_minutes=2
        )
    ]
    away = "the system was stopped"
    systems = [
        system("sys1", *a),
        system("sys2", *b, type_model_serial="9105-22A*0456DEF", connected=False, trouble=away,
               advice="start it: swpks serve --state state2", attention=[f"sys2 is away: {away}"]),
    ]  # fmt: skip
    return overview(*systems, jobs=(job(7, system="sys1", partition="db", row="row 6: RELEASED(7) at sys1"),))


with served(shown()) as url, sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1180, "height": 760})
    page.goto(url)
    page.get_by_text("live", exact=True).wait_for()
    page.screenshot(path=MADE, full_page=True)
    browser.close()
