"""R-73: every exported function of Linux's driver, in each version, on the real engine."""

import errno
from ctypes import c_bool

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, get_config, set_password, write_object
from hcall_client.guests.linux import MAX_DATA_SIZE, MAX_NAME_SIZE
from tests.driver.driver import (
    BOOT_LOADER,
    COMMON,
    FEATURE_LPAR,
    FEATURE_PLPKS,
    FIRMWARE,
    LINUX,
    SYSTEM,
    Driver,
    Object,
)
from tests.driver.hypervisor import Machine, Script, Scripted

GETTERS = (
    "version", "objoverhead", "maxpwsize", "maxobjectsize", "maxobjectlabelsize", "totalsize", "usedspace",
    "supportedpolicies", "maxlargeobjectsize", "signedupdatealgorithms", "passwordlen",
)  # fmt: skip
FIRST = {*(f"plpks_get_{getter}" for getter in GETTERS), "plpks_is_available", "plpks_read_bootloader_var",
         "plpks_read_fw_var", "plpks_read_os_var", "plpks_remove_var", "plpks_write_var"}  # fmt: skip
SINCE_2023 = {"plpks_early_init_devtree", "plpks_populate_fdt", "plpks_signed_update_var"}
WRAPPING = {"plpks_gen_wrapping_key", "plpks_get_wrappingfeatures", "plpks_wrapping_is_supported",
            "plpks_wrap_object", "plpks_unwrap_object"}  # fmt: skip
INVALID = -errno.EINVAL
READY = "plpks: POWER LPAR Platform KeyStore initialized successfully"
ABSENT = "plpks: POWER LPAR Platform KeyStore is not supported or enabled"


def errors(driver: Driver) -> list[str]:
    return [line for level, line in driver.log if level == 3]


def test_the_functions_of_each_version(build, load):
    driver = load(build)
    expected = (
        FIRST | (set() if build.of_2022 else SINCE_2023) | (WRAPPING if build.kernel >= (7, 0) else set())
    )
    assert {name for name in FIRST | SINCE_2023 | WRAPPING if driver.knows(name)} == expected


@pytest.mark.parametrize("level, password", [("FW950", 32), ("FW1110", 64)])
def test_start_and_every_figure_of_the_config_block(build, load, level, password):
    """R-74: the driver accepts the config block of each level, and returns its figures."""
    machine = Machine(level, kbytes=8)
    driver = load(build, Scripted(machine))
    assert driver.init() == 0
    assert (6, READY) in driver.log
    assert driver.opcodes() == [Opcode.GET_CONFIG, Opcode.GEN_PASSWORD]
    used = machine.do(get_config()).used_space
    old = level == "FW950"
    expected = (
        1 if old else 3, 0 if old else 32, password, 8192 if old else 0xFFFF, 255, 8192, used,
        0x7F000000 if old else 0x7F800000, 0 if old else 0x20000,
        machine.do(get_config()).signed_update_algorithms, password,
    )  # fmt: skip
    assert tuple(driver.config(field) for field in GETTERS) == expected
    assert driver.is_available()
    if driver.knows("plpks_get_wrappingfeatures"):
        supported = driver.number("plpks_wrapping_is_supported", c_bool)
        assert supported == bool(driver.config("wrappingfeatures"))
        assert not (old and supported)


def test_no_keystore_no_driver(build, load):
    """R-32: without a keystore, each driver logs the line of real machines, and makes no further call."""
    driver = load(build, Scripted(Machine(kbytes=0)))
    assert driver.init() == -errno.ENXIO
    assert errors(driver) == [ABSENT]
    assert driver.opcodes() == [Opcode.GET_CONFIG]
    assert not driver.is_available()
    assert driver.config("usedspace") == 0


def test_without_the_firmware_feature_no_call_is_made(build, load):
    """If the firmware has no `hcall-pks`, newer kernels make no call. The first driver always calls."""
    driver = load(build, features=FEATURE_LPAR)
    assert driver.init() == (0 if build.of_2022 else -errno.ENODEV)
    assert driver.is_available() == build.of_2022
    assert bool(driver.calls) == build.of_2022
    driver.shim.features = FEATURE_PLPKS
    assert driver.is_available() != build.of_2022


def test_a_second_start_in_one_ipl_goes_on_without_a_password(build, boot, load):
    """R-04: on a second start GEN_PASSWORD returns H_IN_USE.

    The driver warns, and reads only world-readable objects.
    """
    boot(build).write(b"seen", b"data", policy=0x08000000)
    second = load(build)
    assert second.init() == 0
    assert any(level == 4 and "assword" in line for level, line in second.log)
    assert second.config("passwordlen") == 0
    assert second.read(b"seen", 64).data == b"data"
    assert second.write(b"other", b"data") == -errno.EPERM
    assert second.remove(b"seen") == -errno.EPERM


def test_write_read_remove(build, boot):
    """R-10, R-11, R-12: the driver writes, reads and removes objects.

    The same name with another component or another OS is another object.
    """
    driver = boot(build)
    assert driver.write(b"/default/pri\0", b"key" * 21, policy=0x08000000) == 0
    assert driver.opcodes() == [Opcode.WRITE_OBJECT, Opcode.CONFIRM_OBJECT_FLUSHED]
    assert driver.read(b"/default/pri\0", 4000) == Object(0, 63, b"key" * 21, 0x08000000)
    assert driver.read(b"/default/pri\0", 3).data == b"key"
    asked = driver.read(b"/default/pri\0")
    assert (asked.size, asked.data) == (63, b"key" * 21 if build.of_2022 else b"")
    assert driver.write(b"/default/pri\0", b"again") == -errno.EEXIST
    assert driver.read(b"/default/pri\0", os=LINUX).error == -errno.ENOENT
    assert driver.read(b"/default/pri\0", component=b"sed-opa").error == -errno.ENOENT
    assert driver.remove(b"/default/pri\0") == 0
    assert driver.read(b"/default/pri\0", 3).error == -errno.ENOENT
    assert driver.remove(b"/default/pri\0") == -errno.ENOENT


@pytest.mark.parametrize("length", [1, MAX_NAME_SIZE])
@pytest.mark.parametrize("size", [1, MAX_DATA_SIZE])
def test_the_shortest_and_the_longest(build, boot, length, size):
    driver = boot(build)
    name, data = b"n" * length, bytes(range(250)) * 16
    assert driver.write(name, data[:size], component=b"8letters") == 0
    assert driver.read(name, MAX_DATA_SIZE, component=b"8letters").data == data[:size]
    assert driver.remove(name, component=b"8letters") == 0


def test_objects_of_firmware_and_boot_loader(build, boot, machine):
    """With raw labels and no password, the driver sees only world-readable objects."""
    for consumer, label, policy in (
        (1, b"SB_VERSION", 0x08000000),
        (2, b"grub", 0x08000000),
        (1, b"hidden", 0),
    ):
        machine.do(write_object(Authorization(consumer), label, b"\1", policy))
    machine.do(set_password(1, b"firmware's"))
    driver = boot(build)
    assert driver.read(b"SB_VERSION", 1, owner=FIRMWARE) == Object(0, 1, b"\1", 0x08000000)
    assert driver.read(b"grub", 1, owner=BOOT_LOADER).data == b"\1"
    assert driver.read(b"missing", 1, owner=BOOT_LOADER).error == -errno.ENOENT
    # The platform checks the password first, so a missing object also gives -EPERM.
    assert driver.read(b"missing", 1, owner=FIRMWARE).error == -errno.EPERM
    assert driver.read(b"hidden", 1, owner=FIRMWARE).error == -errno.EPERM
    assert driver.read(b"SB_VERSION", 1, owner=SYSTEM).error == -errno.ENOENT


def test_used_space_is_asked_for_each_time(build, boot, hypervisor):
    driver = boot(build)
    before = driver.config("usedspace")
    driver.write(b"name", b"x" * 100)
    assert driver.config("usedspace") == before + 100 + 16 + 4 + driver.config("objoverhead")
    driver.remove(b"name")
    assert driver.config("usedspace") == before
    hypervisor.next(Opcode.GET_CONFIG, Script(Status.H_FUNCTION))
    assert driver.config("usedspace") == 0
    assert "Couldn't get config, rc: -6" in errors(driver)[-1]


@pytest.mark.parametrize(
    "wishes",
    [
        {"name": b"n" * (MAX_NAME_SIZE + 1)},
        {"name": None},
        {"data": None},
        {"data": b""},
        {"data": b"x" * (MAX_DATA_SIZE + 1)},
        {"component": None},
        {"component": b"9-letters"},
        {"policy": 0x01000000},
    ],
    ids=str,
)
def test_writes_that_the_driver_refuses_itself(build, boot, wishes):
    driver = boot(build)
    assert driver.write(**({"name": b"name", "data": b"data"} | wishes)) == INVALID
    assert driver.opcodes() == []
    assert driver.allocated == 1


def test_removes_and_reads_that_the_driver_refuses_itself(build, boot):
    driver = boot(build)
    long = b"n" * (MAX_NAME_SIZE + 1)
    refused = [driver.remove(long), driver.remove(None), driver.read(long).error, driver.read(None).error]
    refused += [driver.read(long, owner=owner).error for owner in (FIRMWARE, BOOT_LOADER)]
    refused += [driver.remove(b"name", component=b"9-letters")]
    assert refused == [INVALID] * 7
    assert driver.opcodes() == []


def test_an_object_without_component(newer, boot):
    """Variables of signed updates have no component: the first eight bytes of the label's header are zero."""
    driver = boot(newer)
    assert driver.read(b"P\0K\0", component=None, os=LINUX).error == -errno.ENOENT
    assert driver.remove(b"P\0K\0", component=None, os=LINUX) == -errno.ENOENT


@pytest.mark.parametrize(
    "wishes",
    [
        {"name": b"n" * (MAX_NAME_SIZE + 1)},
        {"data": None},
        {"data": b""},
        {"policy": 0x08000000},
        {"component": b"sed-opal"},
    ],
    ids=str,
)
def test_signed_updates_that_the_driver_refuses_itself(newer, boot, wishes):
    driver = boot(newer)
    assert driver.signed_update(**({"name": b"P\0K\0", "data": b"payload"} | wishes)) == INVALID
    assert driver.opcodes() == []


def test_wrapping_keys_are_nobodys_to_touch(newest, boot):
    """Since Linux 7.0 the driver itself refuses the wrapping-key policy in every call except GEN_KEY."""
    driver = boot(newest)
    assert driver.write(b"n", b"data", policy=0x00800000) == INVALID
    assert driver.signed_update(b"n", b"data", policy=0x01800000) == INVALID
    assert driver.read(b"n", 8, policy=0x00800000).error == INVALID
    assert driver.wrap(b"data", 3) == (INVALID, b"")
    assert driver.opcodes() == []


def attempts(driver: Driver):
    """Yield each function of the driver that allocates memory, with its name."""
    yield "write", lambda: driver.write(b"new", b"data")
    yield "read", lambda: driver.read(b"seen", 4).error
    yield "firmware's", lambda: driver.read(b"seen", 4, owner=FIRMWARE).error
    yield "remove", lambda: driver.remove(b"seen")
    if driver.knows("plpks_signed_update_var"):
        yield "signed update", lambda: driver.signed_update(b"P\0K\0", b"payload")
    if driver.knows("plpks_wrap_object"):
        yield "generate", driver.gen_wrapping_key
        yield "wrap", lambda: driver.wrap(b"data")[0]
        yield "unwrap", lambda: driver.unwrap(bytes(1056))[0]


def test_out_of_memory_anywhere(build, boot, load, machine):
    """If any allocation fails, the function returns -ENOMEM and no block leaks.

    A quirk: the last of three allocations at start follows GEN_PASSWORD, so that password is lost until IPL.
    """
    driver = boot(build)
    driver.write(b"seen", b"data", policy=0x08000000)
    for what, attempt in attempts(driver):
        for room in range(10):
            driver.shim.allocations_left = room
            result = attempt()
            assert driver.allocated == 1, what
            if result != -errno.ENOMEM:
                break
        assert 1 <= room < 5, what
        driver.shim.allocations_left = -1
    machine.ipl()
    starting = load(build)
    for room in (0, 1, 2):
        starting.shim.allocations_left = room
        assert starting.init() == -errno.ENOMEM
        assert starting.allocated == 0
    assert starting.init() == 0
    assert starting.calls[-1].status == Status.H_IN_USE


def test_the_log_never_shows_a_secret(build, boot):
    """The driver's log shows neither the password nor object data, at any level."""
    driver = boot(build)
    driver.write(b"name", b"canary-canary")
    driver.read(b"name", 13)
    driver.read(b"missing", 13)
    driver.remove(b"missing", os=COMMON)
    assert "canary" not in str(driver.log)
