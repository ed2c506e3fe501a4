"""Drivers of Debian's kernels, by the name of the suite. The fixtures unload each driver after the test."""

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
    """Each kernel's driver in turn; that of sid is the newest."""
    with reported():
        return driver_of(request.param)


@pytest.fixture(scope="session", params=SUITES[1:])
def newer(request: pytest.FixtureRequest) -> Build:
    """Each kernel's driver except the first merged one, which has no signed updates and no kexec."""
    with reported():
        return driver_of(request.param)


@pytest.fixture(scope="session")
def newest() -> Build:
    """The newest driver, the only one that can wrap."""
    with reported():
        return driver_of("sid")


@pytest.fixture
def machine() -> Machine:
    """A partition of level FW1110 whose changes are durable at once."""
    return Machine()


@pytest.fixture
def hypervisor(machine: Machine) -> Scripted:
    """The partition of `machine`; a test can script some of its answers."""
    return Scripted(machine)


@pytest.fixture
def load(machine: Machine, hypervisor: Scripted) -> Iterator[Boot]:
    """A function that loads a driver on that partition, or on another hypervisor.

    Its initcall has not run.
    """
    loaded: list[Driver] = []

    def make(build: Build, other: Hypervisor | None = None, **wishes: Any) -> Driver:
        loaded.append(Driver(build, other or hypervisor, sleep=machine.sleep, **wishes))
        return loaded[-1]

    yield make
    for driver in loaded:
        driver.close()


@pytest.fixture
def boot(load: Boot) -> Boot:
    """A function that loads a driver and runs its initcall, which must succeed."""

    def booted(build: Build, other: Hypervisor | None = None, **wishes: Any) -> Driver:
        driver = load(build, other, **wishes)
        assert driver.init() == 0
        driver.opcodes()
        return driver

    return booted
