"""The fixtures that other projects get with swpks; pytest imports this module through its entry point.

`pks_partition`        a fresh partition inside the test's process (an asynchronous fixture for pytest-trio)
`pks_partition_sync`   the same for a plain test: the server runs in a thread
`pks_console`          a management console with two systems, `a` and `b`, in the test's process as well
`swpks_server`         a real server process with one partition, `lpar1` of 64 KiB

A mark changes the defaults for a test:

    @pytest.mark.pks_partition(level="FW950", kbytes=8, faults=["READ_OBJECT=H_BUSY,times=3"])
    @pytest.mark.pks_console(partitions={"a": ["lpar1", "lpar2"], "b": []}, level="FW1030")
    @pytest.mark.swpks_server(partitions=["a:4", "b:64"], options=["--firmware", "FW950"])

docs/testing.md is the page about them.  This module loads only pytest.  The first test that uses a fixture
loads the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from swpks.testing import BlockingPartition, EmulatedConsole, EmulatedPartition, ServerProcess

_MARKS = (
    "pks_partition(name, level, kbytes, secure_boot, ...): options of the fixture's partition",
    "pks_console(partitions, level, kbytes, ...): options of the systems of the fixture's console",
    "swpks_server(partitions, options, snapshot, passphrase): options of the fixture's server process",
)
_ASYNCHRONOUS = ("pks_partition", "pks_console")
_FIXTURES = (*_ASYNCHRONOUS, "pks_partition_sync", "swpks_server")
_READERS = {
    "pks_partition": ("pks_partition", "pks_partition_sync"),
    "pks_console": ("pks_console",),
    "swpks_server": ("swpks_server",),
}
"""The fixtures that read each mark."""
_SHOWN = 16_000
"""Most characters of a server's log in the report of a failed test; the end of the log is shown."""

_driven = pytest.StashKey[bool]()
"""Whether a plugin has run the asynchronous fixture of a test."""
_server = pytest.StashKey["ServerProcess"]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks of swpks with pytest."""
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)


@pytest.fixture
async def pks_partition(request: pytest.FixtureRequest) -> AsyncIterator[EmulatedPartition]:
    """A fresh, powered-on partition over memory streams, with an open channel."""
    _demand_trio(request)
    from swpks.testing import emulated_partition

    async with emulated_partition(**_given(request, "pks_partition")) as partition:
        yield partition


@pytest.fixture
def pks_partition_sync(request: pytest.FixtureRequest) -> Iterator[BlockingPartition]:
    """A fresh, powered-on partition with an open blocking channel, for a test without an event loop."""
    from swpks.testing import blocking_partition

    if request.node.get_closest_marker("pks_partition_sync"):
        message = "pks_partition_sync takes the mark of the other fixture: @pytest.mark.pks_partition(...)"
        pytest.fail(f"{request.node.nodeid}: {message}", pytrace=False)
    with blocking_partition(**_given(request, "pks_partition")) as partition:
        yield partition


@pytest.fixture
async def pks_console(request: pytest.FixtureRequest) -> AsyncIterator[EmulatedConsole]:
    """A running management console with two powered-on systems; none of it leaves the test's process."""
    _demand_trio(request)
    from swpks.testing import emulated_console

    async with emulated_console(**_given(request, "pks_console")) as console:
        yield console


@pytest.fixture
def swpks_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """A running server process on a state folder of its own; killed at the end if it still runs."""
    from swpks.testing import ServerProcess
    from swpks.testing.short_paths import short_path

    with short_path(tmp_path) as folder:
        server = ServerProcess(folder / "state", **_given(request, "swpks_server"))
        request.node.stash[_server] = server
        try:
            yield _started(server, request.node.nodeid)
        finally:
            server.kill()


def _started(server: ServerProcess, test: str) -> ServerProcess:
    """Start a server and return it; fail the test with the end of the log if it does not become ready."""
    from swpks.testing import ServerFailed

    try:
        return server.start()
    except ServerFailed as error:
        # The log has the reason, such as a wrong option. Frames of this module would add nothing.
        message = str(error).strip().replace("\n", ": ", 1)
        raise pytest.fail.Exception(f"swpks_server of {test}: {message}", pytrace=False) from None


# Options.  They are checked before the fixture begins.  pytest-trio runs an asynchronous fixture within the
# test: its error would be shown in a group of exceptions, below the lines of four modules.


def _given(request: pytest.FixtureRequest, mark: str) -> dict[str, Any]:
    """Return the options in the nearest mark of this name."""
    found = request.node.get_closest_marker(mark)
    return dict(found.kwargs) if found else {}


def _check_options(request: pytest.FixtureRequest, fixture: str) -> None:
    """Fail the test if an option in the fixture's mark is wrong; the report names the mark."""
    mark = fixture.removesuffix("_sync")
    found = request.node.get_closest_marker(mark)
    if found is None:
        return
    from swpks.testing import option_trials

    if reason := option_trials.reason_against(mark, found.args, found.kwargs):
        pytest.fail(f"@pytest.mark.{mark} of {request.node.nodeid}: {reason}", pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that has a mark which no fixture of the test reads.

    Without this, the options in the mark would change nothing.
    """
    # Only the test's own marks are checked. A mark of a class or a module may be for other tests in it.
    for mark in {each.name for each in item.own_markers} & _READERS.keys():
        readers = _READERS[mark]
        if isinstance(item, pytest.Function) and not _may_use(item, readers):
            message = f"no fixture of the test reads it: take {' or '.join(readers)}, or remove the mark"
            used = [name for name in item.fixturenames if name in _FIXTURES]
            message += "".join(f"; {name} reads {name.removesuffix('_sync')}" for name in used)
            pytest.fail(f"@pytest.mark.{mark} of {item.nodeid}: {message}", pytrace=False)


def _may_use(item: pytest.Function, fixtures: tuple[str, ...]) -> bool:
    """Whether a test uses one of these fixtures, or may request one of them while it runs."""
    # A test or fixture that takes `request` can ask for any fixture, and can read any mark. The fixtures of
    # pytest and of this module never do that, so they do not count.
    if not set(fixtures).isdisjoint(item.fixturenames):
        return True
    known = item._fixtureinfo
    found = (each for defined in known.name2fixturedefs.values() for each in defined)
    takers = {each.func.__module__ for each in found if "request" in each.argnames} - {__name__}
    return "request" in known.argnames or not all(name.startswith("_pytest.") for name in takers)


# The asynchronous fixtures need Trio, and a plugin of pytest has to run them.  Without a plugin, pytest
# passes a generator to the test, or names a plugin that would not help.  With the wrong plugin, the first
# error comes from deep inside Trio and is about a missing loop.


def _demand_trio(request: pytest.FixtureRequest) -> None:
    """Fail the test if the event loop is not Trio's.

    The function also notes that a plugin runs the fixture.
    """
    import trio

    request.node.stash[_driven] = True
    if not trio.lowlevel.in_trio_run():
        pytest.fail(_reason(request, "another event loop than Trio's runs"), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Check the options of a fixture of this module.

    If the fixture is asynchronous, check that a plugin runs it.
    """
    name = fixturedef.argname
    # A project may have a fixture of its own with one of these names. Such a fixture is not checked.
    if name not in _FIXTURES or fixturedef.func.__module__ != __name__:
        return (yield)
    with _failure_kept(fixturedef, request):
        _check_options(request, name)
        if name not in _ASYNCHRONOUS:
            return (yield)
        # Without a plugin, pytest fails or returns a generator that was never started. If the fixture was
        # started, the exception is an error of the fixture itself.
        try:
            value = yield
        except (RuntimeError, pytest.fail.Exception):
            if request.node.stash.get(_driven, False):
                raise
            value = None
        if value is None or inspect.isasyncgen(value):
            pytest.fail(_reason(request, "no plugin runs"), pytrace=False)
        return value


@contextmanager
def _failure_kept(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Iterator[None]:
    """Store an exception of the block as the result of the fixture, as pytest itself does."""
    # pytest tears down only fixtures that have a result. Without a result, the next test with such a fixture
    # would fail within pytest.
    try:
        yield
    except BaseException as error:
        key = getattr(request, "param", None)
        fixturedef.cached_result = (None, key, (error, error.__traceback__))
        raise


def _reason(request: pytest.FixtureRequest, trouble: str) -> str:
    """Return why a test does not get its asynchronous fixture, and what its author has to change."""
    test, fixture = request.node.nodeid, request.fixturename
    plain = fixture == "pks_partition"
    if not _is_asynchronous(request):
        other = " or take pks_partition_sync" if plain else ""
        return f"{fixture} is asynchronous, and {test} is a plain test: write `async def`{other}"
    other = "; or take pks_partition_sync, which needs no event loop" if plain else ""
    todo = " and ".join(_missing(request.config)) or _other_runner(request)
    return f"{fixture} needs Trio, and {trouble} {test}: {todo}{other} (swpks explain docs/testing.md)"


def _missing(config: pytest.Config) -> Iterator[str]:
    """Yield the changes of installation and configuration that the project needs for asynchronous tests."""
    installed = any(map(config.pluginmanager.hasplugin, ("trio", "pytest_trio.plugin")))
    if not installed:
        yield "install pytest-trio"
    if not installed or not config.getini("trio_mode"):
        yield "set trio_mode = true in the configuration of pytest"
    if any(map(config.pluginmanager.hasplugin, ("asyncio", "pytest_asyncio.plugin"))):
        yield "set asyncio_mode = strict"


def _other_runner(request: pytest.FixtureRequest) -> str:
    """Return the remedy for a test that another plugin runs in spite of a right configuration."""
    found = next((each for each in ("anyio", "asyncio") if request.node.get_closest_marker(each)), None)
    return f"remove the mark {found}, so that pytest-trio runs the test" if found else "run it by pytest-trio"


def _is_asynchronous(request: pytest.FixtureRequest) -> bool:
    test = request.function
    # Hypothesis puts a plain function in place of an asynchronous test. `inner_test` is the test itself.
    inner = getattr(getattr(test, "hypothesis", None), "inner_test", test)
    return inspect.iscoroutinefunction(inner)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the server's log to the report of a failed test, unless the setup failed."""
    # If the setup failed, its error has the end of the log already. So the log is added only for other
    # failures.
    report = yield
    server = item.stash.get(_server, None)
    if server and report.failed and call.when != "setup" and (log := server.log):
        report.sections.append((f"Log of swpks_server ({server.log_path.resolve()})", log[-_SHOWN:]))
    return report
