"""Kernels by their suite of Debian, and drivers that are switched off after the test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.debian.reporting import reported
from tests.driver.build import Build, driver_of
from tests.driver.driver import Driver, Hypervisor
from tests.driver.hypervisor import Machine, Scripted

SUITES = ("bookworm", "bookworm-backports", "sid")
Boot = Callable[..., Driver]


@pytest.fixture(scope="session", params=SUITES)
def build(request: pytest.FixtureRequest) -> Build:
    """Each kernel's driver in turn; sid has the newest."""
    with reported():
        return driver_of(request.param)


@pytest.fixture(scope="session", params=SUITES[1:])
def newer(request: pytest.FixtureRequest) -> Build:
    """Each kernel's driver but the first merged one, which has no signed updates and no kexec."""
    with reported():
        return driver_of(request.param)


@pytest.fixture(scope="session")
def newest() -> Build:
    """The newest driver, which is the one that wraps."""
    with reported():
        return driver_of("sid")


@pytest.fixture
def machine() -> Machine:
    """A partition of FW1110 that flushes at once."""
    return Machine()


@pytest.fixture
def hypervisor(machine: Machine) -> Scripted:
    """The partition of `machine`, with answers to be scripted."""
    return Scripted(machine)


@pytest.fixture
def load(machine: Machine, hypervisor: Scripted) -> Iterator[Boot]:
    """Load a driver on that partition, or on another hypervisor; its initcall has not run."""
    loaded: list[Driver] = []

    def make(build: Build, other: Hypervisor | None = None, **wishes: Any) -> Driver:
        loaded.append(Driver(build, other or hypervisor, sleep=machine.sleep, **wishes))
        return loaded[-1]

    yield make
    for driver in loaded:
        driver.close()


@pytest.fixture
def boot(load: Boot) -> Boot:
    """Load a driver and run its initcall, which must succeed."""

    def booted(build: Build, other: Hypervisor | None = None, **wishes: Any) -> Driver:
        driver = load(build, other, **wishes)
        assert driver.init() == 0
        driver.opcodes()
        return driver

    return booted
