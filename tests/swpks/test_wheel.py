"""The built package: pages and completion are in it, and it shows the pages without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from swpks.cli import pages
from swpks.cli.completion import SHELLS, script_of
from tests.spec.markdown import ROOT, SPEC

pytestmark = pytest.mark.usefixtures("not_measured")
DATA = "swpks-0.1.0.data/data"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of an sdist, so that a build leaves nothing in the checkout, and an sdist is enough for it."""
    folder = tmp_path_factory.mktemp("sdist")
    (made,) = SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with tarfile.open(made) as archive:
        archive.extractall(folder, filter="data")
    return next(each for each in folder.iterdir() if each.is_dir())


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel of that tree."""
    folder = tmp_path_factory.mktemp("wheel")
    (made,) = WheelBuilder(str(tree)).build(directory=str(folder), versions=["standard"])
    return zipfile.Path(made)


def test_every_page_is_in_the_sdist(tree: Path) -> None:
    """And the vectors, and what builds the wheel."""
    for page in [
        *SPEC.rglob("*.md"),
        *SPEC.rglob("*.json"),
        ROOT / "tools/build_hook.py",
        ROOT / "README.md",
    ]:
        assert (tree / page.relative_to(ROOT)).read_bytes() == page.read_bytes()


def test_every_page_is_in_the_wheel(wheel: zipfile.Path) -> None:
    """Below swpks/spec, byte for byte."""
    for name in pages.names():
        assert (wheel / "swpks" / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_in_the_wheel(shell: str, wheel: zipfile.Path) -> None:
    """Where the shell looks, as the parser of this checkout makes it."""
    assert (wheel / DATA / SHELLS[shell][0]).read_text("utf-8") == script_of(shell)


def test_addresses_of_the_project(wheel: zipfile.Path) -> None:
    """Each is a place of this repository until there is a public one."""
    metadata = Parser().parsestr((wheel / "swpks-0.1.0.dist-info/METADATA").read_text("utf-8"))
    urls = dict(each.split(", ") for each in metadata.get_all("Project-URL", []))
    assert {"Documentation", "Changelog"} <= urls.keys()
    assert [url for url in urls.values() if "://" not in url and not (ROOT / url).is_file()] == []


def test_an_installed_swpks_shows_its_pages(wheel: zipfile.Path, tmp_path: Path) -> None:
    """Out of the wheel alone: no folder of the checkout is on the path."""
    archive = wheel.root
    archive.extractall(tmp_path / "site")
    shutil.rmtree(tmp_path / "site" / DATA)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import swpks; print(swpks.__file__); "
    )
    code += "from swpks.cli.main import main; sys.exit(main(['explain', 'object.exists']))"
    told = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=told
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert "Order of checks (spec/hcalls/index.md#order-of-checks)" in done.stdout
