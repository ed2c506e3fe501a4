"""Fixtures of the tests about replaceable parts.

Each filled system is made once, and copied for each test.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.components.swtpm import Swtpm
from tests.parts.scenes import Stage
from tests.parts.systems import System, contents


class Originals(dict[str, System]):
    """Filled systems by name, which have stopped. Each is made on first use; a test starts only copies."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, name: str) -> System:
        if name.endswith("cleared"):
            self[name] = self._cleared(name)
        elif name == "swtpm":
            with Swtpm(self._folder / "tpm-state") as swtpm:
                self[name] = System(self._folder / name, ["--tpm", f"swtpm:{swtpm.path}"]).filled()
        else:
            self[name] = System(self._folder / name).filled()
        return self[name]

    def _cleared(self, name: str) -> System:
        """Make a system in the state Recovery: it starts on a new service processor."""
        whole = self["swtpm" if name.startswith("swtpm") else "ours"]
        made = whole.copied(self._folder / name)
        made.remove("service-processor")
        with Swtpm(self._folder / "tpm-state") if name.startswith("swtpm") else nullcontext(), made.on():
            pass
        return made


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    """The systems that tests copy."""
    return Originals(tmp_path_factory.mktemp("o"))


@pytest.fixture
def stage(tmp_path: Path, originals: Originals) -> Iterator[Stage]:
    """A stage without a system yet, for one scene."""
    made = Stage(tmp_path, originals)
    yield made
    made.end()


@pytest.fixture
def ours(tmp_path: Path, originals: Originals) -> Iterator[System]:
    """A copy of a filled system, which the test may change."""
    made = originals["ours"].copied(tmp_path / "state")
    yield made
    made.server.kill()


@pytest.fixture
def other(originals: Originals) -> Iterator[System]:
    """Another filled system, from which a test takes parts; no test changes it."""
    found = originals["other"]
    before = contents(found.state)
    yield found
    assert contents(found.state) == before
