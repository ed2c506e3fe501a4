"""The built package contains the pages and the completion scripts; an installed swpks needs no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from hcall_server import __version__
from swpks.cli import pages
from swpks.cli.completion import SHELLS, script_of
from swpks.cli.manual.collected import manual
from tests.spec.markdown import ROOT, SPEC

pytestmark = pytest.mark.usefixtures("not_measured")
OTHERS = ("tools/build_hook.py", "README.md", *pages.GUIDES)
EXAMPLES = "docs/examples/c"
DATA = f"swpks-{__version__}.data/data"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel of this checkout."""
    return built(tmp_path_factory.mktemp("wheel"), "standard")


def built(folder: Path, version: str) -> zipfile.Path:
    """Build a wheel in a folder, without a change in the checkout; return the path of the wheel."""
    (made,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=[version])
    return zipfile.Path(made)


def test_what_a_build_needs_is_in_the_sdist() -> None:
    """The sdist has the pages, the test vectors and the build hook."""
    held = {file.distribution_path for file in SdistBuilder(str(ROOT)).recurse_included_files()}
    needed = [*SPEC.rglob("*.md"), *SPEC.rglob("*.json"), *map(ROOT.joinpath, OTHERS)]
    assert [each for each in needed if str(each.relative_to(ROOT)) not in held] == []


def test_an_editable_install_has_completion_and_no_second_pages(tmp_path: Path) -> None:
    """An editable install has completion, and shows the pages of the checkout, which a developer may edit."""
    names = [each.filename for each in built(tmp_path, "editable").root.infolist()]
    assert {f"{DATA}/{place}" for place, _ in SHELLS.values()} <= set(names)
    assert [name for name in names if name.endswith(".md")] == []


def test_every_page_is_in_the_wheel(wheel: zipfile.Path) -> None:
    """The wheel has each page below swpks/spec or swpks/docs, byte for byte."""
    for name in pages.names():
        assert (wheel / "swpks" / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_examples_in_c_are_in_the_wheel(wheel: zipfile.Path) -> None:
    """The wheel has each C example in the folder that `swpks c-header --examples` prints."""
    examples = {path.name: path.read_bytes() for path in (ROOT / EXAMPLES).glob("*.c")}
    assert "firmware.c" in examples
    assert {each.name: each.read_bytes() for each in (wheel / "swpks" / EXAMPLES).iterdir()} == examples


def test_the_headers_are_in_the_wheel(wheel: zipfile.Path) -> None:
    """The wheel has each C header below the folder that `swpks c-header --include` prints."""
    headers = sorted((ROOT / "swpks/include").rglob("*.h"))
    assert len(headers) == 3
    for header in headers:
        assert (wheel / str(header.relative_to(ROOT))).read_bytes() == header.read_bytes()


def test_the_templates_of_the_page_are_in_the_wheel(wheel: zipfile.Path) -> None:
    """R-84: The wheel has each template of the console's page."""
    templates = sorted((ROOT / "swpks/hmc/page/templates").iterdir())
    assert len(templates) == 4
    for each in templates:
        assert (wheel / str(each.relative_to(ROOT))).read_bytes() == each.read_bytes()


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_in_the_wheel(shell: str, wheel: zipfile.Path) -> None:
    """The wheel has each completion script in the shell's own folder, as this checkout makes it."""
    assert (wheel / DATA / SHELLS[shell][0]).read_text("utf-8") == script_of(shell)


def test_the_manual_is_in_the_wheel(wheel: zipfile.Path) -> None:
    """The wheel has each manual page in the folder of its section, as this checkout makes it."""
    for place, text in manual().items():
        assert (wheel / DATA / place).read_text("utf-8") == text


def test_addresses_of_the_project(wheel: zipfile.Path) -> None:
    """Each address in the metadata is a URL or a file of this repository."""
    metadata = Parser().parsestr((wheel / f"swpks-{__version__}.dist-info/METADATA").read_text("utf-8"))
    urls = dict(each.split(", ") for each in metadata.get_all("Project-URL", []))
    assert {"Documentation", "Changelog"} <= urls.keys()
    assert [url for url in urls.values() if "://" not in url and not (ROOT / url).is_file()] == []


def test_an_installed_swpks_shows_its_pages(wheel: zipfile.Path, tmp_path: Path) -> None:
    """An installed swpks shows the pages of the wheel; no folder of the checkout is on its path."""
    archive = wheel.root
    archive.extractall(tmp_path / "site")
    shutil.rmtree(tmp_path / "site" / DATA)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import swpks; print(swpks.__file__); "
    )
    code += "from swpks.cli.main import main; "
    code += "sys.exit(main(['explain', 'object.exists']) or main(['explain', 'docs/testing.md#options'])"
    code += " or main(['c-header', '--examples']))"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert "Order of checks (spec/hcalls/index.md#order-of-checks)" in done.stdout
    assert "Options (docs/testing.md#options)" in done.stdout
    assert done.stdout.endswith(f"{tmp_path / 'site' / 'swpks' / EXAMPLES}\n")
