"""Debian's GRUB on a disk as a guest: its disks, its keys, and the run of a machine that boots from one.

A small ELF file takes the place of a kernel where only GRUB's verdict counts: GRUB loads it, and does not
start it.
"""

from __future__ import annotations

import datetime
import functools
import re
import struct
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import trio
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hcall_abi.consumers import Consumer
from hcall_abi.efi import GUID_SHA256, SignatureList, build_lists
from hcall_abi.frames import HReturn
from hcall_client.calls import Authorization, signed_update
from hcall_client.guests import authvar
from swpks.qemu.boot import DiskBoot
from swpks.qemu.bootdisk import loader_of
from swpks.qemu.console import PatientConsole
from swpks.qemu.elf import KernelImage
from swpks.qemu.machine import QemuMachine
from swpks.qemu.run import MachineEnd, Prepare, run_kernel
from swpks.testing import ServerProcess
from swpks.testing.grub_disk import MODULES, core_image, disk_image, with_signature
from tests.secvar.keys import Holder, holder
from tools.grub_disk import grub_modules

PATIENCE = 300
"""Most seconds of a boot, on a busy machine."""
OS = Authorization(Consumer.OPERATING_SYSTEM)
ATTRIBUTES = (
    "keystore_signed_updates=1",
    "keystore_signed_updates_without_verification=1",
    "linux_dynamic_key_secure_boot=1",
)


@functools.cache
def signer(name: str) -> Holder:
    """Return a signer of kernels, with a certificate as GRUB accepts it: no CA, for code signing."""
    key = holder(name).key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} boot signer")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    start = datetime.datetime(2000, 1, 1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    )
    return Holder(key, builder.sign(key, SHA256()))


def signed(data: bytes, by: str) -> bytes:
    """Return a kernel with an appended signature of a signer."""
    return with_signature(data, signer(by).key, signer(by).certificate)


def small_kernel(name: str) -> bytes:
    """Return an ELF file that GRUB loads as a kernel; another one for each name."""
    code = name.encode().ljust(64, b"\0")
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 21, 1, 0xC000 << 48, 64, 0, 2, 64, 56, 1, 64, 0, 0
    )
    return head + struct.pack("<IIQQQQQQ", 1, 7, 120, 0xC000 << 48, 0, 64, 64, 0x10000) + code


def verdicts_config(names: Sequence[str]) -> str:
    """Return a grub.cfg that prints a verdict for each file, and powers off."""
    tries = "".join(
        f'echo "TRY {name}"\nif linux /{name}; then echo "{name} accepted"; else echo "{name} refused"; fi\n'
        for name in names
    )
    return f"{STATE}search --no-floppy --file /{names[0]} --set root\n{tries}halt\n"


STATE = 'echo "GRUB: keys $appendedsig_key_mgmt, signatures checked: $check_appended_signatures"\n'


def updates(variables: Mapping[str, bytes], platform_key: Holder) -> list[tuple[str, bytes]]:
    """Return signed updates that give variables these contents, all of them signed by the platform key."""
    time = authvar.efi_time(datetime.datetime.now(datetime.UTC))
    return [
        (
            name,
            authvar.payload(
                time,
                authvar.sign(
                    authvar.to_sign(name, contents, time), platform_key.key, platform_key.certificate
                ),
                contents,
            ),
        )
        for name, contents in variables.items()
    ]


def digests(*files: bytes) -> bytes:
    """Return a signature list with the SHA-256 of files."""
    return build_lists(
        [SignatureList(GUID_SHA256, b"", tuple(bytes(16) + sha256(each).digest() for each in files))]
    )


def certificates(*names: str) -> bytes:
    """Return signature lists of signers' certificates."""
    return authvar.certificate_lists(signer(name).der for name in names)


def enrol(server: ServerProcess, variables: Mapping[str, bytes]) -> None:
    """Turn dynamic keys on, and store PK and variables by signed updates as an operating system does."""
    owner = holder("PK")
    server.hmc("power", "lpar1", "off")
    server.hmc("set", "lpar1", *ATTRIBUTES)
    server.hmc("power", "lpar1", "on")
    with server.connect_blocking() as channel:
        for name, data in updates({"PK": owner.lists, **variables}, owner):
            label = authvar.variable_label(name)
            channel.call(signed_update(OS, label, data, authvar.variable_policy(name)))


class Outcome(NamedTuple):
    """A machine that has ended: the reason, the console's text, and the loader's last lines."""

    end: MachineEnd
    console: str
    boot: DiskBoot

    def verdict(self, name: str) -> str:
        """Return the lines of GRUB about a file, from its name to its verdict."""
        text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.console).replace("\r", "")
        return text.split(f"TRY {name}\n")[1].split("\nTRY ")[0]


class GrubMachine:
    """A machine with a disk, on the partition lpar1 of a server."""

    def __init__(self, folder: Path, server: ServerProcess, kernel: Path, image: KernelImage) -> None:
        self.server = server
        self.disk = folder / "boot.img"
        self.log = folder / "console"
        self.kernel = kernel
        self.image = image
        self.calls: list[tuple[int, int]] = []

    def write_disk(self, config: str, files: Mapping[str, bytes], static_keys: Sequence[str] = ()) -> None:
        """Write the disk: GRUB with this configuration and static keys, and the files."""
        keys = [signer(name).certificate.public_bytes(Encoding.DER) for name in static_keys]
        core = core_image(grub_modules(), config, MODULES, keys)
        self.disk.write_bytes(disk_image(core, files))

    async def run(self, prepare: Prepare | None = None, *, lock_boot_loader: bool = False) -> Outcome:
        """Run the machine until it ends."""
        boot = DiskBoot(
            self.disk, self.kernel, loader_of(self.disk), PATIENCE, lock_boot_loader=lock_boot_loader
        )
        machine = QemuMachine(self.kernel, serial=f"file:{self.log}", disk=self.disk)
        console = PatientConsole(self.server.control_socket, "lpar1")
        try:
            with trio.fail_after(PATIENCE):
                end = await run_kernel(
                    machine,
                    self.image,
                    self.server.socket(),
                    console,
                    on_call=self._note,
                    prepare=prepare,
                    boot=boot,
                )
        except BaseException:
            print(self.log.read_text("utf-8", "replace"))  # for a failed test
            raise
        return Outcome(end, self.log.read_text("utf-8", "replace"), boot)

    def _note(self, opcode: int, answer: HReturn) -> None:
        self.calls.append((opcode, answer.status))
