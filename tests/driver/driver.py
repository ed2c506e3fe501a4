"""Linux's keystore driver as a Python object: its functions, its h-calls, its sleep and its log.

Each `Driver` is like a booted kernel: the library is loaded from a new copy, so it has new static variables.
Results of its functions are returned unchanged, 0 or a negative errno.
"""

import _ctypes
import ctypes
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import (
    CFUNCTYPE,
    POINTER,
    byref,
    c_char_p,
    c_int,
    c_long,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_ulong,
    c_void_p,
)
from pathlib import Path
from typing import NamedTuple, Protocol

from hcall_abi.frames import HReturn
from hcall_abi.statuses import Status
from hcall_client.marshal import deliver, marshal
from hcall_client.request import Request
from tests.driver.build import Build
from tests.driver.memory import ProcessMemory

COMMON, LINUX = 4, 2
FIRMWARE, BOOT_LOADER, SYSTEM = 1, 2, 3
FEATURE_LPAR, FEATURE_PLPKS = 1, 2
PAGE = 4096

_WIDTHS: dict[str, type] = {
    "version": c_uint8,
    **dict.fromkeys(["totalsize", "usedspace", "supportedpolicies", "maxlargeobjectsize"], c_uint32),
    **dict.fromkeys(["signedupdatealgorithms", "wrappingfeatures"], c_uint64),
}

_HCALL = CFUNCTYPE(c_long, c_ulong, POINTER(c_ulong), c_ulong, POINTER(c_ulong))
_SLEEP = CFUNCTYPE(None, c_ulong)
_PRINT = CFUNCTYPE(None, c_int, c_char_p)
_VERIFY = CFUNCTYPE(None)


class Hypervisor(Protocol):
    """Answers the driver's h-calls: a blocking channel, an engine or a script."""

    def call(self, request: Request[HReturn], /) -> HReturn: ...


class _Shim(ctypes.Structure):
    _fields_ = (
        ("hcall", _HCALL), ("sleep", _SLEEP), ("print", _PRINT), ("verify_fdt", _VERIFY), ("fdt", c_void_p),
        ("features", c_ulong), ("allocations_left", c_long), ("allocated", c_long),
    )  # fmt: skip


class _Variable(ctypes.Structure):
    """The driver's `struct plpks_var`."""

    _fields_ = (
        ("component", c_char_p), ("name", c_void_p), ("data", c_void_p), ("policy", c_uint32),
        ("namelen", c_uint16), ("datalen", c_uint16), ("os", c_uint8),
    )  # fmt: skip


class _Name(ctypes.Structure):
    """The driver's `struct plpks_var_name`."""

    _fields_ = (("name", c_void_p), ("namelen", c_uint16))


class Object(NamedTuple):
    """The result of a read: the driver's errno, the reported size, the copied bytes and the policy."""

    error: int
    size: int = 0
    data: bytes = b""
    policy: int = 0


class Answered(NamedTuple):
    """One h-call of the driver, and the answer to it.

    The call: r3 and the arguments. The answer: r3, r4 to r12, and the number of written bytes.
    """

    opcode: int
    arguments: tuple[int, ...]
    status: int
    registers: tuple[int, ...]
    written: int


def no_sleep(microseconds: int) -> None:
    """Return at once, for tests that read no clock."""


class Driver:
    """The driver of a booted kernel; `init` is its initcall.  `calls` and `log` record its actions."""

    def __init__(
        self,
        build: Build,
        hypervisor: Hypervisor,
        *,
        sleep: Callable[[int], None] = no_sleep,
        features: int = FEATURE_LPAR | FEATURE_PLPKS,
    ) -> None:
        self.build = build
        self.hypervisor = hypervisor
        self.calls: list[Answered] = []
        self.log: list[tuple[int, str]] = []
        self.slept = 0
        self.checked_fdts = 0
        self._sleep = sleep
        self._failure: BaseException | None = None
        self._memory = ProcessMemory()
        self._lib = _load(build.library)
        self.shim = _Shim.in_dll(self._lib, "shim")
        self.shim.features = features
        self.shim.allocations_left = -1
        self._hooks = (
            _HCALL(self._on_hcall),
            _SLEEP(self._on_sleep),
            _PRINT(self._on_print),
            _VERIFY(self._on_fdt),
        )
        self.shim.hcall, self.shim.sleep, self.shim.print, self.shim.verify_fdt = self._hooks
        for allocator in (self._lib.kzalloc, self._lib.kfree):
            allocator.restype = c_void_p
            allocator.argtypes = (c_void_p, c_int)[: 2 if allocator is self._lib.kzalloc else 1]

    def close(self) -> None:
        """Unload the driver, as if the machine were switched off."""
        self._memory.close()
        _ctypes.dlclose(self._lib._handle)

    def knows(self, function: str) -> bool:
        """Return whether this version of the driver has the function."""
        return hasattr(self._lib, function)

    def init(self) -> int:
        """Run the initcall."""
        return self._run("shim_initcall")

    def number(self, function: str, restype: type = c_ulong) -> int:
        """Call one of the functions without arguments that return a number."""
        return self._run(function, restype=restype)

    def config(self, field: str) -> int:
        """Return a field of the config block, by the driver's function `plpks_get_<field>`."""
        return self.number(f"plpks_get_{field}", _WIDTHS.get(field, c_uint16))

    def opcodes(self) -> list[int]:
        """Return the h-calls since the last call of this method."""
        opcodes = [call.opcode for call in self.calls]
        self.calls.clear()
        return opcodes

    @property
    def allocated(self) -> int:
        """Return the number of memory blocks that the driver holds."""
        return int(self.shim.allocated)

    def is_available(self) -> bool:
        return bool(self.number("plpks_is_available", ctypes.c_bool))

    def write(
        self,
        name: bytes | None,
        data: bytes | None,
        *,
        policy: int = 0,
        component: bytes | None = b"sed-opal",
        os: int = COMMON,
    ) -> int:
        with self._variable(name, data, policy=policy, component=component, os=os) as variable:
            return self._run("plpks_write_var", variable)

    def signed_update(
        self, name: bytes, data: bytes | None, flags: int = 0, *, policy: int = 0x01000000,
        component: bytes | None = None, os: int = LINUX,
    ) -> int:  # fmt: skip
        with self._variable(name, data, policy=policy, component=component, os=os) as variable:
            return self._run("plpks_signed_update_var", byref(variable), c_ulong(flags))

    def remove(self, name: bytes | None, *, component: bytes | None = b"sed-opal", os: int = COMMON) -> int:
        with self._block(name) as block:
            vname = _Name(block, len(name or b""))
            return self._run("plpks_remove_var", c_char_p(component), c_uint8(os), vname)

    def read(
        self, name: bytes | None, room: int | None = None, *, owner: int = SYSTEM,
        component: bytes | None = b"sed-opal", os: int = COMMON, policy: int = 0,
    ) -> Object:  # fmt: skip
        """Read an object into `room` bytes. If `room` is None, ask only for its size.

        The driver of 2022 then reads the whole object.
        """
        function = {FIRMWARE: "fw", BOOT_LOADER: "bootloader", SYSTEM: "os"}[owner]
        space = None if room is None or self.build.of_2022 else bytes(room)
        with self._variable(name, space, policy=policy, component=component, os=os) as variable:
            variable.datalen = room or 0
            ours = variable.data
            error = self._run(f"plpks_read_{function}_var", byref(variable))
            if error:
                return Object(error, variable.datalen)
            data = ctypes.string_at(variable.data, variable.datalen) if variable.data else b""
            if variable.data != ours:
                self._free(variable.data)
                variable.data = ours
            return Object(0, variable.datalen, data, variable.policy)

    def sed_write(self, name: bytes, key: bytes) -> int:
        """Store the key of a self-encrypting drive with `sed_write_key` of plpks_sed_ops.c."""
        with self._block(name) as name_block, self._block(key) as key_block:
            return self._run("sed_write_key", c_void_p(name_block), c_void_p(key_block), c_uint32(len(key)))

    def sed_read(self, name: bytes) -> tuple[int, bytes]:
        """Read the key of a self-encrypting drive with `sed_read_key`; the result has at most 256 bytes."""
        length = c_uint32()
        with self._block(name) as name_block, self._block(bytes(257)) as key_block:
            error = self._run("sed_read_key", c_void_p(name_block), c_void_p(key_block), byref(length))
            return error, b"" if error or key_block is None else ctypes.string_at(key_block, length.value)

    def gen_wrapping_key(self) -> int:
        return self._run("plpks_gen_wrapping_key")

    def wrap(self, data: bytes, flags: int = 0) -> tuple[int, bytes]:
        with self._page_buffer(data) as block:
            return self._with_output("plpks_wrap_object", byref(block), c_uint32(len(data)), c_uint16(flags))

    def unwrap(self, wrapped: bytes) -> tuple[int, bytes]:
        with self._page_buffer(wrapped) as block:
            return self._with_output("plpks_unwrap_object", byref(block), c_uint32(len(wrapped)))

    def early_init(self, tree: ctypes.Array) -> None:
        """Call the driver's part of early boot on a flattened device tree."""
        self.shim.fdt = ctypes.addressof(tree)
        self._run("plpks_early_init_devtree", restype=None)
        self.shim.fdt = None

    def populate(self, tree: ctypes.Array) -> int:
        """Call the driver's part of kexec on the next kernel's flattened device tree."""
        return self._run("plpks_populate_fdt", tree)

    def _with_output(self, function: str, *arguments: object) -> tuple[int, bytes]:
        output, length = c_void_p(), c_uint32()
        error = self._run(function, *arguments, byref(output), byref(length))
        assert error == 0 or output.value is None
        data = ctypes.string_at(output.value, length.value) if output.value else b""
        self._free(output.value)
        return error, data

    def _run(self, function: str, *arguments: object, restype: type | None = c_int) -> int:
        entry = self._lib[function]
        entry.restype = restype
        result = entry(*arguments)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return result

    @contextmanager
    def _variable(
        self, name: bytes | None, data: bytes | None, *, policy: int, component: bytes | None, os: int
    ) -> Iterator[_Variable]:
        with self._block(name) as name_block, self._block(data) as data_block:
            lengths = len(name or b""), len(data or b"")
            yield _Variable(component, name_block, data_block, policy, *lengths, os)

    @contextmanager
    def _page_buffer(self, data: bytes) -> Iterator[c_void_p]:
        """Return a buffer that begins at a page, as the wrapping functions require."""
        with self._block(data.ljust(-(-len(data) // PAGE) * PAGE or PAGE, b"\0")) as block:
            yield c_void_p(block)

    @contextmanager
    def _block(self, data: bytes | None) -> Iterator[int | None]:
        """Yield kernel memory that holds `data` and a zero byte, which log lines need.

        If `data` is None, yield None.
        """
        if data is None:
            yield None
            return
        left, self.shim.allocations_left = self.shim.allocations_left, -1
        block = self._lib.kzalloc(len(data) + 1, 0)
        self.shim.allocations_left = left
        ctypes.memmove(block, data, len(data))
        try:
            yield block
        finally:
            self._free(block)

    def _free(self, block: int | None) -> None:
        self._lib.kfree(block)

    def _on_hcall(self, opcode: int, arguments: object, count: int, returned: object) -> int:
        try:
            return self._hcall(opcode, arguments, count, returned)
        # C code cannot pass on an exception. The failure is raised later, when the driver's function has
        # returned.
        except BaseException as failure:
            self._failure = self._failure or failure
            return int(Status.H_HARDWARE)

    def _hcall(self, opcode: int, arguments, count: int, returned) -> int:
        registers = arguments[:9]
        answer = self.hypervisor.call(marshal(opcode, registers, self._memory))
        deliver(answer, self._memory)
        for index, value in enumerate(answer.registers):
            returned[index] = value
        written = sum(len(data) for _, data in answer.writes)
        made = Answered(opcode, tuple(registers[:count]), answer.status, answer.registers, written)
        self.calls.append(made)
        return answer.status

    def _on_sleep(self, microseconds: int) -> None:
        self.slept += microseconds
        try:
            self._sleep(microseconds)
        except BaseException as failure:
            self._failure = self._failure or failure

    def _on_print(self, level: int, line: bytes) -> None:
        self.log.append((level, line.decode("utf-8", "replace").rstrip("\n")))

    def _on_fdt(self) -> None:
        self.checked_fdts += 1


def _load(library: Path) -> ctypes.CDLL:
    """Load a copy of the library. For the same file the loader would return the same variables."""
    with tempfile.TemporaryDirectory() as folder:
        return ctypes.CDLL(str(shutil.copy(library, folder)))
