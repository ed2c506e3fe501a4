"""Symbols, code and call sites of kernels: of a kernel made by the test, and of invalid files."""

import gzip
import random
import struct
from pathlib import Path

import pytest

from swpks.qemu.callsites import find_callsites
from swpks.qemu.elf import Symbol, load
from swpks.qemu.errors import KernelUnsuitable
from tests.qemu.assemble import BLR, LABEL, NOP, SC1, Kernel, branch, with_gates


def a_kernel() -> Kernel:
    """Return a kernel with h-calls of the driver and of other functions.

    The driver calls both entries of a gate.
    """
    kernel = with_gates(Kernel())
    kernel.function("plpks_one", NOP, ("plpar_hcall", True), ("plpar_hcall9", False), BLR)
    kernel.function("_plpks_two", ("plpar_hcall9", True), ("helper", True), BLR, local=False)
    here = 0xC000000000000000 + 4 * len(kernel.words)
    kernel.function("plpks_three", branch(here, kernel.symbols["plpar_hcall"][0], link=True), BLR)
    kernel.function("helper", ("plpar_hcall", True), SC1, BLR)
    kernel.function("plpks_data_label", ("plpar_hcall", True), kind=LABEL)
    return kernel


def test_symbols_and_code(tmp_path: Path) -> None:
    image = load(a_kernel().write(tmp_path / "vmlinux"))
    one, gate = image.find("plpks_one"), image.find("plpar_hcall")
    assert image.code(one)[:4] == NOP.to_bytes(4, "little")
    assert len(image.code(one)) == one.size == 16
    assert gate.local_entry == gate.address + 8
    assert one.local_entry == one.address


@pytest.mark.parametrize("other,offset", [(0, 0), (1 << 5, 0), (2 << 5, 4), (3 << 5, 8), (6 << 5, 64)])
def test_local_entries(other: int, offset: int) -> None:
    """The three highest bits of st_other give the offset of the local entry, as the ELFv2 ABI defines."""
    assert Symbol("f", 0x1000, 0, other, True).local_entry == 0x1000 + offset


def test_assembly_ends_at_the_next_function_past_its_labels(tmp_path: Path) -> None:
    image = load(a_kernel().write(tmp_path / "vmlinux"))
    assert len(image.code(image.find("plpar_hcall"))) == 4 * 8


def test_call_sites(tmp_path: Path) -> None:
    """R-73: only calls in functions of the driver are found, for both gates and both entries of a gate."""
    kernel = a_kernel()
    image = load(kernel.write(tmp_path / "vmlinux"))
    sites = find_callsites(image)
    found = {(image_name(image, at), gate.name) for at, gate in sites.calls.items()}
    assert found == {
        ("plpks_one", "plpar_hcall"),
        ("_plpks_two", "plpar_hcall9"),
        ("plpks_three", "plpar_hcall"),
    }
    gate = sites.gates[0]
    start = image.find("plpar_hcall").address
    assert gate.entry == start + 8
    assert gate.hypervisor_calls == (start + 12, start + 24)


def image_name(image, address: int) -> str:
    """Return the name of the function that contains this address."""
    return next(f.name for f in image.functions("") if f.address <= address < f.address + f.size)


def test_a_stripped_kernel(tmp_path: Path) -> None:
    with pytest.raises(KernelUnsuitable, match="stripped"):
        load(a_kernel().write(tmp_path / "vmlinux", stripped=1))


@pytest.mark.parametrize("change", [{"machine": 62}, {"machine": 20}, {"data": 2}], ids=repr)
def test_another_architecture(tmp_path: Path, change: dict[str, int]) -> None:
    with pytest.raises(KernelUnsuitable, match="ELF"):
        load(a_kernel().write(tmp_path / "vmlinux", **change))


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"\x1f\x8b\x08 compressed", b"\x7fELF" + bytes(200)], ids=repr
)
def test_what_is_no_elf_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(content)
    with pytest.raises(KernelUnsuitable, match="vmlinuz"):
        load(path)


@pytest.mark.parametrize(
    "content,says",
    [
        (b"", "vmlinux: the file is empty: it has 0 bytes"),
        (bytes(100), "vmlinux: no ELF file: it begins with 00 00 00 00, not with 7f 45 4c 46"),
        (b"\x7fELF" + bytes(200), "vmlinux: a damaged ELF file: its headers or sections have no sense"),
        (b"\x7fELF", "vmlinux: a damaged ELF file: its headers or sections have no sense"),
    ],
    ids=repr,
)
def test_no_words_of_a_library(tmp_path: Path, content: bytes, says: str) -> None:
    """The message is about the file; the words of the library for ELF files are not in it."""
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises(KernelUnsuitable) as caught:
        load(path)
    assert caught.value.message == f"{path.parent}/{says}"


def test_a_compressed_kernel(tmp_path: Path) -> None:
    """A compressed kernel (vmlinuz) is refused, and the message names the remedy."""
    path = tmp_path / "vmlinuz"
    path.write_bytes(gzip.compress(b"kernel"))
    with pytest.raises(KernelUnsuitable, match="a gzip file: unpack it first, such as zcat FILE > vmlinux"):
        load(path)


def test_a_file_cut_off_anywhere(tmp_path: Path) -> None:
    whole = a_kernel().write(tmp_path / "vmlinux").read_bytes()
    cut = tmp_path / "cut"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(KernelUnsuitable):
            find_callsites(load(cut))


HEADERS = 5 * 64
"""Bytes of the section headers, which end the file."""


@pytest.mark.parametrize("size", [24 << 8, 24 << 36, 24 << 57, 24 << 59])
@pytest.mark.parametrize("field", [24, 32], ids=["sh_offset", "sh_size"])
@pytest.mark.parametrize("section", [1, 2, 3], ids=["code", "symbols", "names"])
def test_a_section_that_claims_more_than_the_file_has(
    tmp_path: Path, section: int, field: int, size: int
) -> None:
    """The sizes in a header are compared with the file before anything is read or allocated."""
    path = a_kernel().write(tmp_path / "vmlinux")
    damaged = bytearray(path.read_bytes())
    struct.pack_into("<Q", damaged, len(damaged) - HEADERS + 64 * section + field, size)
    path.write_bytes(damaged)
    with pytest.raises(KernelUnsuitable, match="damaged"):
        load(path)


def test_endless_section_headers(tmp_path: Path) -> None:
    """If the ELF header has the count 0, the first section's header has the count; a huge one is refused."""
    path = a_kernel().write(tmp_path / "vmlinux")
    for entry_size in (0, 64):
        damaged = bytearray(path.read_bytes())
        struct.pack_into("<2H", damaged, 58, entry_size, 0)
        struct.pack_into("<Q", damaged, len(damaged) - HEADERS + 32, 1 << 62)
        path.write_bytes(damaged)
        with pytest.raises(KernelUnsuitable, match="damaged"):
            load(path)


def test_damage_is_told_or_harmless(tmp_path: Path) -> None:
    """R-73: a damaged kernel file raises KernelUnsuitable, or is accepted without an error."""
    chance = random.Random(73)
    whole = a_kernel().write(tmp_path / "vmlinux").read_bytes()
    damaged, refusals = tmp_path / "damaged", 0
    for _ in range(500):
        damaged.write_bytes(_damaged(whole, chance))
        try:
            find_callsites(load(damaged))
        except KernelUnsuitable:
            refusals += 1
    assert 100 < refusals < 500


def _damaged(whole: bytes, chance: random.Random) -> bytes:
    """Change some bytes at up to four places, headers more often than the rest."""
    out = bytearray(whole)
    for _ in range(chance.randint(1, 4)):
        start, end = chance.choice([(0, 64), (len(out) - HEADERS, len(out)), (0, len(out))])
        size = chance.choice([1, 2, 4, 8])
        at = chance.randrange(start, end - size)
        out[at : at + size] = chance.choice([bytes(size), b"\xff" * size, chance.randbytes(size)])
    return bytes(out)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(KernelUnsuitable, match="No such file"):
        load(tmp_path / "vmlinux")


def test_a_kernel_without_the_driver(tmp_path: Path) -> None:
    kernel = with_gates(Kernel())
    kernel.function("helper", ("plpar_hcall", True), BLR)
    with pytest.raises(KernelUnsuitable, match="CONFIG_PSERIES_PLPKS"):
        find_callsites(load(kernel.write(tmp_path / "vmlinux")))


def test_a_driver_without_gates_or_calls(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.function("plpks_one", BLR)
    with pytest.raises(KernelUnsuitable, match="no plpar_hcall"):
        find_callsites(load(kernel.write(tmp_path / "vmlinux")))
    with pytest.raises(KernelUnsuitable, match="makes no h-call"):
        find_callsites(load(with_gates(kernel).write(tmp_path / "vmlinux")))
