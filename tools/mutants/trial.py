"""One trial in a process of its own: load the changed module, run tests, stop at the first failure."""

# Why a score is repeatable
#
# Hypothesis draws the same examples every time and does not shrink, so a score does not depend on chance.
# Tests that start processes are left out: such a process would load the unchanged module from the disk.
#
# If a test needs ten times its usual time, a signal ends it. The mutant then counts as killed by time. CPU
# time decides first, since it does not depend on how busy the machine is. Time on the clock decides about a
# test that waits.

import importlib.abc
import importlib.machinery
import importlib.util
import resource
import signal
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import coverage
import hypothesis
import pytest

from tools.mutants.rooms import ROOT
from tools.mutants.sample import Mutant
from tools.mutants.sites import changed

MEMORY = 6 << 30
"""Bytes of address space of a trial: a mutant that allocates without end fails."""
LOADING = 30.0
"""Most CPU seconds to load the tests."""

hypothesis.settings.register_profile(
    "mutants",
    deadline=None,
    derandomize=True,
    database=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=list(hypothesis.HealthCheck),
)


class ChangedModule(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An import hook that finds a mutant's module before Python does, and runs its changed code."""

    def __init__(self, mutant: Mutant) -> None:
        path = ROOT / mutant.file
        self._path = str(path)
        self.name = module_name(mutant.file)
        self._code = compile(changed(path.read_text("utf-8"), mutant.number), self._path, "exec")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of the changed module, None for any other."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(
            name, self._path, loader=self, submodule_search_locations=self._packages()
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Return None: Python creates the module object."""

    def exec_module(self, module: Any) -> None:
        """Run the changed code of the module."""
        exec(self._code, module.__dict__)

    def _packages(self) -> list[str] | None:
        path = Path(self._path)
        return [str(path.parent)] if path.name == "__init__.py" else None


def module_name(file: str) -> str:
    """Return the import name of a file: `spec/hcall_abi/codec.py` is hcall_abi.codec."""
    return file.removeprefix("spec/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class Watch:
    """A pytest plugin that orders the tests, ends those that take too long, and records which failed.

    `usual` has the tests to run, with their seconds; empty means all tests.  `first` are the tests to begin
    with: they have killed a mutant of this module.  `measured` is a Coverage whose context is the name of
    each test.
    """

    def __init__(
        self,
        usual: dict[str, float],
        first: Sequence[str] = (),
        measured: coverage.Coverage | None = None,
    ) -> None:
        self.usual = usual
        self.measured = measured
        self.first = {name: place for place, name in enumerate(first)}
        self.failed: list[str] = []
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Run the likely killers first, then the quick tests."""
        last = len(self.first)
        if self.usual:
            items[:] = [item for item in items if item.nodeid in self.usual]
        items.sort(key=lambda item: (self.first.get(item.nodeid, last), self.usual.get(item.nodeid, 0.0)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """End the process when a test takes ten times as long as it should."""
        usual = self.usual.get(item.nodeid, 5.0)
        # The constants are for short tests: ten times a few milliseconds would be less than the usual
        # variation of the machine.
        set_limits(10 * usual + 3, 20 * usual + 20)
        try:
            if self.measured:
                self.measured.switch_context(item.nodeid)
            return (yield)
        finally:
            set_limits(LOADING, 4 * LOADING)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record how long a test took, and whether it failed."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a test file that can't be loaded as a failed test.

        Such a file kills a mutant too.
        """
        if report.failed:
            self.failed.append(f"loading {report.nodeid}")


def set_limits(cpu: float, clock: float) -> None:
    """Set timers whose signals end this process: `cpu` seconds of CPU time, `clock` seconds on the clock."""
    signal.setitimer(signal.ITIMER_PROF, cpu)
    signal.setitimer(signal.ITIMER_REAL, clock)


def run_tests(plugin: object, tests: Sequence[str], *, stop: bool) -> int:
    """Run the tests in these folders or files with one plugin, and return pytest's exit status."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    set_limits(LOADING, 4 * LOADING)
    arguments = ["-q", "-m", "not process", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist"]
    if stop:
        arguments.append("-x")
    return int(pytest.main([*arguments, *tests], plugins=[plugin]))


def put_in_place(mutant: Mutant) -> None:
    """Make this process load the changed module instead of the unchanged one."""
    finder = ChangedModule(mutant)
    if finder.name in sys.modules:
        raise RuntimeError(f"{finder.name} is loaded already")
    # This finder is the first one: Python's own finders would find the unchanged file.
    sys.meta_path.insert(0, finder)
