"""Settings for all tests: profiles of Hypothesis, the folder for temporary files, and common fixtures.

`HYPOTHESIS_PROFILE=thorough make test PYTEST_ARGS=tests/abi/test_layout.py` tries many more examples.
No profile has a deadline: a busy machine would exceed it, and that says nothing about the code.
"""

import os
import signal
from collections.abc import Generator, Iterator

import coverage
import pytest
from hypothesis import HealthCheck, settings

from tests.memory import in_memory
from tests.pages.page_blocks import note_outcome, page_blocks

__all__ = ["page_blocks"]  # pytest finds this fixture here for all folders of tests

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("ci"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# A process under `nohup` or in the background ignores these signals, and its children inherit that. The
# servers of the tests need the default actions.
for ignored in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(ignored, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if memory := in_memory():
    # pytest makes the folder of each `tmp_path` below this one.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report to the fixture `page_blocks` whether the test has passed."""
    report = yield
    note_outcome(item, report)
    return report


@pytest.fixture
def not_measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Exclude a test, and the processes that it starts, from the measurement of coverage.

    Two kinds of tests use it. Some repeat branches that other tests reach a hundred thousand times; coverage
    would make them four times slower. Others start processes in which coverage would load modules or write
    files.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    measured = coverage.Coverage.current()
    if measured:
        measured.stop()
    yield
    if measured:
        measured.start()
