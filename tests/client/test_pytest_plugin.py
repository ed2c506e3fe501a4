"""The pytest plugin in other projects: wrong marks, wrong loops, long folders, the server's log."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hcall_abi.bounds import LONGEST_SOCKET_PATH
from swpks.testing.short_paths import short_path
from tests.pages.sessions import ONLY_OURS, SECONDS

pytestmark = pytest.mark.process

MISTAKES = """
import pytest

@pytest.mark.pks_partition(secure_boot="enforce")
async def test_word(pks_partition):
    assert pks_partition.partition.attributes.secure_boot == "enforce"

@pytest.mark.pks_partition("FW950")
async def test_positional(pks_partition): ...

@pytest.mark.pks_partition("FW950")
def test_positional_sync(pks_partition_sync): ...

@pytest.mark.pks_partition(lvl="FW950")
def test_unknown(pks_partition_sync): ...

@pytest.mark.pks_partition(level="FW99")
async def test_level(pks_partition): ...

@pytest.mark.pks_partition_sync(kbytes=8)
def test_other_mark(pks_partition_sync): ...

def test_plain(pks_partition): ...
def test_plain_again(pks_partition): ...
def test_plain_console(pks_console): ...

@pytest.mark.pks_console(partitions={"a": "lpar1"})
async def test_text(pks_console): ...

@pytest.mark.pks_console(partitions=["a"])
async def test_list(pks_console): ...

@pytest.mark.pks_console(keep=0)
async def test_keep(pks_console): ...

@pytest.mark.pks_console(level="FW940")
async def test_size(pks_console): ...

@pytest.mark.pks_console(copy_interval=0)
async def test_interval(pks_console): ...

@pytest.mark.swpks_server(partitions="a:4")
def test_server_text(swpks_server): ...

@pytest.mark.swpks_server(["a:4"])
def test_server_positional(swpks_server): ...

@pytest.mark.pks_console(level="FW950")
def test_mark_of_another(pks_partition_sync, tmp_path): ...

@pytest.mark.swpks_server(partitions=["a:4"])
def test_mark_of_none(): ...

@pytest.mark.pks_console(level="FW950")
def test_mark_that_may_be_read(request): ...

@pytest.fixture
def reader(request):
    return request.node.get_closest_marker("pks_console")

@pytest.mark.pks_console(level="FW950")
def test_mark_of_a_fixture_of_the_project(reader):
    assert reader.kwargs == {"level": "FW950"}

@pytest.mark.pks_console(level="FW950")
class TestGroup:
    def test_mark_of_a_class(self): ...

@pytest.mark.swpks_server(options=["--firmwre", "FW950"])
def test_server_option(swpks_server): ...

@pytest.mark.pks_console(partitions={"a": ["l", "l"]})
async def test_twice(pks_console): ...

@pytest.mark.pks_console(partitions={"a": [f"l{number}" for number in range(300)]})
async def test_too_many(pks_console): ...

@pytest.mark.pks_console(attributes={"secure_boot": "audit"})
async def test_console_word(pks_console):
    lpar1 = await pks_console.partition("lpar1", "a")
    assert lpar1.partition.attributes.secure_boot == "audit"
"""
TOLD = {
    "test_other_mark": "takes the mark of the other fixture: @pytest.mark.pks_partition",
    "test_positional": "'FW950' has no name: write level='FW950'; the names are name, level, kbytes,",
    "test_positional_sync": "'FW950' has no name",
    "test_unknown": "there is no option 'lvl'; the names are name, level, kbytes, secure_boot,",
    "test_level": "level='FW99': the levels are FW940, FW950,",
    "test_plain": "is a plain test: write `async def` or take pks_partition_sync",
    "test_plain_again": "is a plain test: write `async def` or take pks_partition_sync",
    "test_plain_console": "is a plain test: write `async def`",
    "test_text": "partitions['a']='lpar1': it is a list, such as partitions['a']=[\"lpar1\"]",
    "test_list": 'partitions=[\'a\']: it is a dictionary, such as {"a": ["lpar1"], "b": []}',
    "test_keep": "keep=0: a console keeps 1 copy",
    "test_size": "64 KiB is no size for a keystore: 0 alone on FW940",
    "test_interval": "copy_interval=0: it is 0.01 to 86400 seconds",
    "test_mark_of_another": "no fixture of the test reads it: take pks_console, or remove the mark"
    "; pks_partition_sync reads pks_partition",
    "test_mark_of_none": "no fixture of the test reads it: take swpks_server, or remove the mark",
    "test_server_option": "ended before it was ready: swpks serve: unrecognized arguments: --firmwre",
    "test_twice": "the partitions are l, l",
    "test_too_many": "64 KiB do not fit: 16384 of 16384 KiB are taken",
    "test_server_text": "partitions='a:4': it is a list, such as partitions=[\"lpar1:64\"]",
    "test_server_positional": "['a:4'] has no name: write partitions=['a:4']; the names are",
}
ASYNCHRONOUS = """
import pytest

async def test_partition(pks_partition): ...
async def test_console(pks_console): ...
def test_plain(pks_partition): ...

@pytest.mark.trio
async def test_marked(pks_partition): ...
"""
ANOTHER_LOOP = '''
import asyncio, inspect, types
import pytest

def pytest_configure(config):
    config.pluginmanager.register(types.SimpleNamespace(), "asyncio")

@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    """Run each asynchronous fixture in a loop of asyncio, as asyncio_mode=auto does."""
    if inspect.isasyncgenfunction(fixturedef.func):
        arguments = {name: request.getfixturevalue(name) for name in fixturedef.argnames}
        with asyncio.Runner() as runner:
            return runner.run(anext(fixturedef.func(**arguments)))
'''
SERVER = f"""
import os
import swpks

def test_log(swpks_server):
    with swpks_server.connect_blocking() as channel:
        channel.call(swpks.get_config())
    assert len(os.fsencode(swpks_server.socket("p" * 31))) <= {LONGEST_SOCKET_PATH}
    swpks_server.stop()
    print("short:", swpks_server.state.parent.parent)
    raise AssertionError("a failure of the test")
"""


def pytest_in(folder: Path, program: str, *options: str) -> str:
    """Run pytest on a program in a folder; return its output."""
    (folder / "test_project.py").write_text(program)
    words = ["-q", "--tb=short", "-c", "/dev/null", f"--rootdir={folder}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *options, folder],
        capture_output=True, text=True, timeout=SECONDS, check=False, env={**os.environ, **ONLY_OURS},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 1, done.stdout
    return done.stdout


def reasons(output: str) -> dict[str, str]:
    """Return the text of each setup error by the name of its test."""
    setups, *_ = re.split(r"^=+ short test summary", output, flags=re.MULTILINE)
    pieces = re.split(r"^_+ ERROR at setup of (\w+) _+$", setups, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_wrong_marks_are_named(tmp_path):
    """Each error is one line with the mark and the test, without a traceback; right options work."""
    options = ("-o", "trio_mode=true", "-W", "ignore::pytest.PytestUnknownMarkWarning")
    output = pytest_in(tmp_path, MISTAKES, *options)
    found = reasons(output)
    assert set(found) == set(TOLD)
    for test, text in TOLD.items():
        (line,) = found[test].strip().splitlines()
        assert text in line
        assert f"test_project.py::{test}" in line
    assert f"5 passed, {len(TOLD)} errors" in output


def test_without_trio_mode(tmp_path):
    """If `trio_mode = true` is missing in the configuration of pytest, the error names that line.

    A test with the mark `trio` does not need it.
    """
    output = pytest_in(tmp_path, ASYNCHRONOUS)
    found = reasons(output)
    todo = "no plugin runs test_project.py::test_{}: set trio_mode = true in the configuration of pytest"
    other = "; or take pks_partition_sync, which needs no event loop"
    assert f"pks_partition needs Trio, and {todo.format('partition')}{other}" in found["test_partition"]
    assert (
        f"pks_console needs Trio, and {todo.format('console')} (swpks explain docs/testing.md)"
        in found["test_console"]
    )
    assert "is a plain test" in found["test_plain"]
    assert "1 passed, 3 errors" in output


def test_without_pytest_trio(tmp_path):
    output = pytest_in(tmp_path, ASYNCHRONOUS, "-p", "no:trio", "-W", "ignore")
    found = reasons(output)
    for test in ("test_partition", "test_marked", "test_console"):
        assert "install pytest-trio and set trio_mode = true" in found[test]
    assert "is a plain test" in found["test_plain"]
    assert "4 errors" in output


def test_on_another_loop(tmp_path):
    """pytest-asyncio with asyncio_mode=auto claims all async fixtures: the error names the setting."""
    (tmp_path / "conftest.py").write_text(ANOTHER_LOOP)
    found = reasons(pytest_in(tmp_path, ASYNCHRONOUS, "-o", "trio_mode=true"))
    message = (
        "needs Trio, and another event loop than Trio's runs test_project.py::{}: set asyncio_mode = strict"
    )
    for test in ("test_partition", "test_console", "test_marked"):
        assert message.format(test) in found[test]
        assert "trio_mode" not in found[test]
    assert "is a plain test: write `async def` or take pks_partition_sync" in found["test_plain"]


def test_a_failed_test_shows_the_log_of_its_server(tmp_path):
    """A failed test shows the log of its server.

    The server also runs in a deep folder, as with a long TMPDIR. Its short link is removed at the end.
    """
    deep = tmp_path / ("d" * 100)
    output = pytest_in(tmp_path, SERVER, f"--basetemp={deep}")
    _, _, log = output.partition("- Log of swpks_server (")
    assert log.startswith(str(deep))
    assert '"event": "session.opened"' in log
    assert "1 failed" in output
    (short,) = re.findall(r"^short: (\S+)$", output, re.MULTILINE)
    assert not Path(short).exists()
    assert list(deep.glob("*/state/service-processor"))


def test_a_short_folder_is_used_as_it_is(tmp_path, monkeypatch):
    with short_path(Path("/tmp/short")) as path:
        assert path == Path("/tmp/short")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OSError, match="set TMPDIR to a shorter folder"), short_path(tmp_path / ("d" * 100)):
        pass
