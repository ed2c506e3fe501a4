"""R-73: driver and model give the same results over random histories: objects, IPLs, kexecs, secrets."""

from ctypes import c_bool

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hcall_abi.consumers import SecureBoot
from hcall_client.calls import get_config
from tests.driver import fdt
from tests.driver.build import Build
from tests.driver.driver import LINUX, Driver
from tests.driver.hypervisor import Machine, Scripted
from tests.driver.model import (
    AUDIT,
    BLOB_HEADER,
    ENFORCE,
    IMMUTABLE,
    INVALID,
    KEY_NAME,
    NOT_FOUND,
    NOT_PERMITTED,
    PWSET,
    SIGNED,
    TRANSIENT,
    WORLD,
    WRAPPING,
    Model,
    Wrapped,
)

KBYTES = 8
WRAPPER = b"PLPKSWR"
NAMES = st.sampled_from([b"a", b"b", b"/default/pri\0", b"n" * 239, b"\xff\0\x01"])
DATA = st.binary(min_size=1, max_size=40) | st.integers(1, 4000).map(lambda size: b"\x5a" * size)
BITS = (0, 0, AUDIT, ENFORCE, PWSET, WORLD, IMMUTABLE, TRANSIENT, SIGNED, WRAPPING, 0x8, 0x2, 0x80000000, 0x1)
POLICIES = st.lists(st.sampled_from(BITS), max_size=3).map(lambda bits: sum(set(bits)))
MODES = st.sampled_from([0, 1, 2])


class Life(RuleBasedStateMachine):
    """A random history of one partition of 8 KiB, over several IPLs. Subclasses set the kernel."""

    build: Build
    blobs = Bundle("blobs")

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(kbytes=KBYTES)
        config = self.machine.do(get_config())
        self.model = Model(config.total_size, config.used_space, config.object_overhead)
        self.driver = self._load()
        assert self.driver.init() == 0
        self.wraps = self.build.kernel >= (7, 0)
        assert not self.wraps or self.driver.number("plpks_wrapping_is_supported", c_bool)

    def _load(self) -> Driver:
        return Driver(self.build, Scripted(self.machine), sleep=self.machine.sleep)

    def _replace(self, driver: Driver) -> None:
        self.driver.close()
        self.driver = driver
        assert driver.init() == 0

    def teardown(self) -> None:
        self.driver.close()

    @rule(name=NAMES, data=DATA, policy=POLICIES)
    def write(self, name, data, policy):
        assert self.driver.write(name, data, policy=policy) == self.model.write(name, data, policy)

    @rule(name=NAMES, room=st.sampled_from([1, 39, 4000]))
    def read(self, name, room):
        error, thing = self.model.read(name)
        found = self.driver.read(name, room)
        assert found.error == error
        if thing:
            assert (found.data, found.policy) == (thing.data[:room], thing.policy)
            assert found.size == min(room, len(thing.data))

    @rule(name=NAMES)
    def remove(self, name):
        assert self.driver.remove(name) == self.model.remove(name)

    @rule(mode=MODES, flush_after=st.sampled_from([0, 20_000, 4_000_000]))
    def ipl(self, mode, flush_after):
        self.machine.flush()
        self.machine.clock, self.machine.flush_after = 0, flush_after
        self.machine.system.set_attributes("lpar1", {"secure_boot": SecureBoot(mode)})
        self.machine.ipl()
        self.model.ipl(mode)
        self._replace(self._load())

    @rule()
    def kexec(self):
        new = self._load()
        if self.build.of_2022 or self.model.locked:
            self.model.locked = True
        else:
            tree = fdt.make()
            assert self.driver.populate(tree) == 0
            new.early_init(tree)
        self._replace(new)

    @rule()
    def kexec_without_the_password(self):
        self._replace(self._load())
        self.model.locked = True

    @precondition(lambda self: self.wraps)
    @rule()
    def generate(self):
        assert self.driver.gen_wrapping_key() == self.model.generate()

    @precondition(lambda self: self.wraps)
    @rule()
    def remove_key(self):
        assert self.driver.remove(KEY_NAME, component=WRAPPER, os=LINUX) == self.model.remove_key()

    @precondition(lambda self: self.wraps)
    @rule()
    def read_key(self):
        found = self.driver.read(KEY_NAME, 32, component=WRAPPER, os=LINUX)
        known = self.model.key or self.model.locked
        assert found == (NOT_PERMITTED if known else NOT_FOUND, 32, b"", 0)

    @precondition(lambda self: self.wraps)
    @rule(target=blobs, data=st.binary(min_size=1, max_size=300), flags=st.sampled_from([0, 0, 1, 2, 3]))
    def wrap(self, data, flags):
        error, wrapped = self.model.wrap(data, flags)
        found, blob = self.driver.wrap(data, flags)
        assert found == error
        if wrapped is None:
            return multiple()
        assert len(blob) == len(data) + BLOB_HEADER
        return (blob, wrapped)

    @precondition(lambda self: self.wraps)
    @rule(pair=blobs)
    def unwrap(self, pair: tuple[bytes, Wrapped]):
        blob, wrapped = pair
        assert self.driver.unwrap(blob) == self.model.unwrap(wrapped)

    @precondition(lambda self: self.wraps)
    @rule(pair=consumes(blobs), data=st.data())
    def unwrap_damaged(self, pair: tuple[bytes, Wrapped], data: st.DataObject):
        """If any bit of a blob is flipped, it is not unwrapped."""
        place = data.draw(st.integers(0, len(pair[0]) - 1))
        damaged = bytearray(pair[0])
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
        error, found = self.driver.unwrap(bytes(damaged))
        assert error in ({NOT_PERMITTED} if self.model.locked else {INVALID, NOT_FOUND})
        assert found == b""

    @invariant()
    def space_is_what_the_model_says(self):
        assert self.driver.config("usedspace") == self.model.used
        assert self.driver.allocated == (0 if self.model.locked else 1)


def test_driver_and_model_agree(build):
    """R-73: every version of the driver gives the same results as the model."""
    tuned = settings(max_examples=settings().max_examples // 6, stateful_step_count=40)
    lives = type("Lives", (Life,), {"build": build})
    run_state_machine_as_test(lives, settings=tuned)
