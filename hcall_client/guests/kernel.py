"""The Linux kernel: consumer 3, behaving as its PLPKS driver does (spec/linux.md).

The driver initialises with GET_CONFIG and a generated password of the greatest length.  It refuses some
requests itself, without an h-call.  After each change it polls until the change is durable.  It reports
errno values (`LinuxError`).  A kernel that kexec starts gets the password through the device tree.  Without
that, GEN_PASSWORD answers H_IN_USE, and the kernel goes on without a password (R-06).
"""

from __future__ import annotations

import errno
from typing import NamedTuple, Self, TypeVar

import trio

from hcall_abi.consumers import Consumer
from hcall_abi.mistakes import (
    check_bytes,
    check_kind,
    check_number,
    check_text_or_bytes,
    of_caller,
)
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_abi.structures import OS_LINUX, Config
from hcall_client.calls import (
    Authorization,
    HcallError,
    ObjectRead,
    Request,
    confirm_object_flushed,
    gen_password,
    get_config,
    read_object,
    remove_object,
    write_object,
)
from hcall_client.guests.common import Caller, check_channel
from hcall_client.guests.labels import SB_VERSION, os_label
from hcall_client.guests.linux import (
    LINUX_7_0,
    MAX_DATA_SIZE,
    MAX_NAME_SIZE,
    Driver,
    LinuxError,
    broken_limit,
    poll_step,
)

T = TypeVar("T")

__tracebackhide__ = of_caller

PASSWORD_PROPERTY = "ibm,plpks-pw"  # noqa: S105 - a property's name
"""The property of /chosen in which kexec hands the password to the next kernel."""
INITIALISED = "POWER LPAR Platform KeyStore initialized successfully"
NOT_SUPPORTED = "POWER LPAR Platform KeyStore is not supported or enabled"
PASSWORD_IN_USE = "Password already set - authenticated operations will fail"  # noqa: S105 - a message

_STATIC_KEYS = (errno.ENOENT, errno.EPERM)


class KexecHandover:
    """The data that one kernel passes to the next in the flattened device tree: properties of /chosen."""

    def __init__(self, chosen: dict[str, bytes]) -> None:
        self.chosen = chosen

    def __repr__(self) -> str:
        return f"KexecHandover({sorted(self.chosen)})"

    def take_password(self) -> bytes:
        """Return the password, empty if none was handed over.

        This also removes the property, as early boot does.
        """
        # The property is removed as soon as it is read (spec/linux.md), because user space can read the
        # device tree.
        return self.chosen.pop(PASSWORD_PROPERTY, b"")


class Name(NamedTuple):
    """How the driver names an object of the operating system."""

    component: str | bytes
    name: str | bytes
    os: int = OS_LINUX

    @property
    def label(self) -> bytes:
        """The label with its header."""
        return os_label(*self)


class LinuxKernel:
    """A running kernel's keystore driver.

    `driver` is the version of the driver to emulate; `messages` are its log lines.
    """

    def __init__(self, channel: Caller, driver: Driver = LINUX_7_0) -> None:
        check_channel("LinuxKernel", channel)
        self.driver = driver
        self.messages: list[str] = []
        self.config: Config | None = None
        self._channel = channel
        self._authorization = Authorization(Consumer.OPERATING_SYSTEM)

    def __repr__(self) -> str:
        state = "with" if self.has_password else "without"
        return f"LinuxKernel({self.driver.name}, {state} password)"

    @classmethod
    async def from_kexec(cls, channel: Caller, handover: KexecHandover, driver: Driver = LINUX_7_0) -> Self:
        """Return the next kernel.

        If the last kernel handed a password over, the next kernel uses it.
        """
        kernel = cls(channel, driver)
        kernel._authorization = Authorization(Consumer.OPERATING_SYSTEM, handover.take_password())
        await kernel.init()
        return kernel

    @property
    def has_password(self) -> bool:
        """Whether this kernel has the password of its consumer."""
        return bool(self._authorization.password)

    @property
    def password(self) -> bytes:
        """The operating system's password, empty where this kernel has none."""
        return self._authorization.password

    async def init(self) -> None:
        """Initialise the driver; LinuxError where there is no keystore or its limits make no sense."""
        try:
            self.config = await self._get_config("initialise")
        except LinuxError:
            self.messages.append(NOT_SUPPORTED)
            raise
        broken = broken_limit(self.config)
        if broken:
            self.messages.append(f"Invalid config: {broken}")
            raise LinuxError(-errno.EINVAL, f"initialise ({broken})")
        if not self.has_password:
            await self._make_password(self.config.max_password_size)
        self.messages.append(INITIALISED)

    async def used_space(self) -> int:
        """Return the bytes that are used now, asked for anew as sysfs does."""
        return (await self._get_config("read used_space")).used_space

    async def write(self, name: Name, data: bytes, policy: int = 0) -> None:
        """Write an object and wait until it is durable (`plpks_write_var`)."""
        check_bytes("data of write", data)
        check_number("policy of write", policy)
        invalid = not 0 < len(data) <= MAX_DATA_SIZE or policy & (Policy.SIGNEDUPDATE | Policy.WRAPPINGKEY)
        label = self._label(name, invalid=bool(invalid))
        await self._hcall(write_object(self._authorization, label, data, policy), "write")
        await self._flushed(label, "write")

    async def remove(self, name: Name) -> None:
        """Remove an object and wait until that is durable (`plpks_remove_var`)."""
        label = self._label(name)
        await self._hcall(remove_object(self._authorization, label), "remove")
        await self._flushed(label, "remove")

    async def read(self, name: Name) -> ObjectRead:
        """Read an object of the operating system (`plpks_read_os_var`)."""
        return await self._read(self._authorization, self._label(name))

    async def read_firmware(self, label: bytes) -> ObjectRead:
        """Read a firmware-owned object without password (`plpks_read_fw_var`)."""
        return await self._read(Authorization(Consumer.FIRMWARE), label)

    async def read_boot_loader(self, label: bytes) -> ObjectRead:
        """Read an object of the boot loader without password (`plpks_read_bootloader_var`)."""
        return await self._read(Authorization(Consumer.BOOT_LOADER), label)

    async def dynamic_keys(self) -> bool:
        """Return whether SB_VERSION says that keys are dynamic; False if it is absent or forbidden."""
        try:
            return any((await self.read_firmware(SB_VERSION)).data)
        except LinuxError as error:
            if error.errno in _STATIC_KEYS:
                return False
            raise

    def kexec(self, *, file: bool = True) -> KexecHandover:
        """Hand over to the next kernel.  This one can make no more calls with the password.

        With `kexec_file` the password travels in the device tree.  The older system call (`file` false) hands
        no password on.
        """
        password = self._authorization.password
        # Only the next kernel may use the password: a real kernel ends here.
        self._authorization = Authorization(Consumer.OPERATING_SYSTEM)
        return KexecHandover({PASSWORD_PROPERTY: password} if file and password else {})

    def _label(self, name: Name, *, invalid: bool = False) -> bytes:
        """Return the label of a name; LinuxError for one that the driver refuses itself."""
        check_kind(Name, "the name of an object", name, 'Name("mydriver", "key")')
        check_text_or_bytes("the name in Name", name.name)
        size = len(name.name.encode() if isinstance(name.name, str) else name.name)
        if invalid or not 0 < size <= MAX_NAME_SIZE:
            raise LinuxError(-errno.EINVAL, "the driver's own checks")
        return name.label

    async def _get_config(self, doing: str) -> Config:
        return await self._hcall(get_config(self.driver.config_size), doing)

    async def _make_password(self, size: int) -> None:
        try:
            self._authorization = await self._channel.call(gen_password(Consumer.OPERATING_SYSTEM, size))
        except HcallError as error:
            # The last kernel has handed no password on. The driver warns and goes on (spec/linux.md).
            if error.status != Status.H_IN_USE:
                raise self._error(error, "generate password") from error
            self.messages.append(PASSWORD_IN_USE)

    async def _read(self, who: Authorization, label: bytes) -> ObjectRead:
        size = self.config.max_object_size if self.config else 0
        return await self._hcall(read_object(who, label, size), "read")

    async def _hcall(self, request: Request[T], doing: str) -> T:
        try:
            return await self._channel.call(request)
        except HcallError as error:
            raise self._error(error, doing) from error

    def _error(self, error: HcallError, doing: str) -> LinuxError:
        return LinuxError(self.driver.to_errno(error.status), doing, error.status)

    async def _flushed(self, label: bytes, doing: str) -> None:
        """Poll until a change is durable, with the driver's intervals and limit."""
        error = self.driver.poll_result(await self._poll(label))
        if error:
            raise LinuxError(error, f"{doing}: flush")

    async def _poll(self, label: bytes) -> int:
        """Return the errno with which the flush poll ends."""
        for _ in range(round(self.driver.poll_limit / self.driver.poll_interval)):
            status = poll_step(*await self._ask_flushed(label))
            if status is not None:
                return self.driver.to_errno(status)
            await trio.sleep(self.driver.poll_interval)
        return -errno.ETIMEDOUT

    async def _ask_flushed(self, label: bytes) -> tuple[int, int]:
        """Return status and r4 of one CONFIRM_OBJECT_FLUSHED."""
        try:
            answer = await self._channel.call(confirm_object_flushed(self._authorization, label))
        except HcallError as error:
            # The driver sees a status and a register, so a refusal is not raised here: `poll_step`
            # decides about it.
            return error.status, 0
        return (Status.H_SUCCESS if answer.present else Status.H_NOT_FOUND), int(answer.flushed)
