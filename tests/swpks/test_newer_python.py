"""swpks on the newest Python of the machine: a server start, h-calls, and the tests of some folders.

`make test` prepares the environment (`tools/newer_python.py`).  `make test PYTHON=...` runs all tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import newer_python
from tools.newer_python import FOLDER, NONE_NEWER

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
from pathlib import Path
import swpks
from swpks.testing import ServerProcess

server = ServerProcess(Path(sys.argv[1]), ["lpar1:8"]).start()
try:
    with swpks.BlockingChannel.connect(server.socket("lpar1"), timeout=20) as channel:
        operating_system = swpks.Authorization(3)
        channel.call(swpks.write_object(operating_system, b"label", b"data"))
        assert channel.call(swpks.get_config()).used_space > 0
        assert channel.call(swpks.read_object(operating_system, b"label")).data == b"data"
    assert server.stop() == 0
finally:
    server.kill()
print(*sys.version_info[:2])
"""


@pytest.fixture(scope="module")
def newer() -> Path:
    """The newer interpreter. If there is none, the test is skipped with the reason.

    In CI only one reason is accepted: the machine has no newer interpreter.
    """
    python, file = FOLDER / "bin" / "python", FOLDER / "why-not"
    if python.exists():
        return python
    reason = f"`make test` has not prepared {FOLDER.name}: python -m tools.newer_python"
    if file.is_file():
        reason = file.read_text("utf-8").strip()
    if os.environ.get("CI") and not reason.startswith(NONE_NEWER):
        pytest.fail(reason)
    pytest.skip(reason)


def run(python: Path, *words: str | Path) -> str:
    """Run the interpreter in this folder with our packages; return its output. Warnings are errors."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'spec'}",
        "PYTHONWARNINGS": "error",
    }
    done = subprocess.run(
        [python, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_a_start_and_h_calls(newer: Path, tmp_path: Path) -> None:
    """A server process starts, stores and returns an object, and stops in good order, without a warning."""
    printed = run(newer, "-c", PROGRAM, tmp_path / "state")
    assert tuple(map(int, printed.split()[-2:])) > sys.version_info[:2]


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_some_rooms(newer: Path) -> None:
    """The tests for rules of a keystore, wrapped objects and consoles pass without a warning.

    Python 3.13 is the first one that warns of a database which is not closed.
    """
    files = ("contents", "key_ids", "provided", "tokens", "used")
    consoles = (
        "tests/console/test_store.py",
        "tests/console/test_jobs.py",
        "tests/client/test_console_fixture.py",
    )
    rooms = ("tests/wrapping", *(f"tests/keystore/test_{name}.py" for name in files), *consoles)
    options = ("-q", "-p", "no:cacheprovider", "-p", "swpks.testing.pytest_plugin")
    printed = run(newer, "-m", "pytest", *options, *rooms)
    found = re.search(r"^(\d+) passed in", printed, re.MULTILINE)
    assert found
    assert int(found[1]) > 50


def test_the_newest_release_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest release that runs is chosen; a preview is not.

    Versions are compared as numbers.
    """
    minor = sys.version_info[1]
    said = {f"python3.{minor + 1}": f"3.{minor + 1}.10final", f"python3.{minor + 2}": f"3.{minor + 2}.0beta"}
    said |= {f"python3.{minor - 1}": f"3.{minor - 1}.9final", f"python3.{minor + 3}": ""}
    for name, version in said.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n[ -n '{version}' ] && echo '{version}'\n")
        path.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    monkeypatch.setenv("PYENV_ROOT", f"{tmp_path / 'nothing'}")
    assert newer_python.newest() == (tmp_path / f"python3.{minor + 1}", f"3.{minor + 1}.10")
    (tmp_path / f"python3.{minor + 1}").unlink()
    folder = tmp_path / "environment"
    newer_python.main(folder)
    assert (folder / "why-not").read_text().startswith(f"no Python newer than 3.{minor} ")
    assert [path.name for path in folder.iterdir()] == ["why-not"]


def test_the_interpreter_that_make_takes(tmp_path: Path) -> None:
    """`make PYTHON=...` finds interpreters of pyenv. For one that does not run, it fails with a message."""
    shims, versions = tmp_path / "shims", tmp_path / "versions"
    for path, answer in (
        (shims / "python3.98", "exit 127"),
        (shims / "python3.99", "exit 127"),
        (versions / "3.99.2" / "bin" / "python3.99", "echo 3.99"),
        (versions / "3.99.10" / "bin" / "python3.99", "echo 3.99"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{answer}\n")
        path.chmod(0o700)
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    environment = {
        **outside,
        "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}",
        "PYENV_ROOT": f"{tmp_path}",
    }

    def make(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    planned = make("-n", "setup", "PYTHON=python3.99").stdout
    assert f'tools/make-venv "{versions}/3.99.10/bin/python3.99" ".venv-3.99"' in planned
    refused = make("setup", "PYTHON=python3.98")
    assert refused.returncode == 2
    assert "swpks needs Python 3.11 or newer; 'python3.98' is " in refused.stderr


def test_the_lock_of_the_smoke_test() -> None:
    """The lock has what swpks needs at run time, each package with hashes, and no linter."""
    lock = newer_python.requirements()
    names = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    assert {"trio", "msgspec", "cryptography", "cffi", "pytest", "wsproto"} <= names
    assert names & {"mypy", "ruff", "matplotlib", "numpy"} == set()
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\S)", lock.strip()))
