"""The C header `swpks/pks.h`: it compiles everywhere, and agrees with the tables (R-81)."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hcall_abi import frames, structures
from hcall_abi.calls import CALLS, HCallSpec
from hcall_abi.consumers import Consumer
from hcall_abi.export.c_structures import STRUCTURES, Structure
from hcall_abi.levels import LEVELS, FirmwareLevel
from hcall_abi.policies import Policy
from hcall_abi.statuses import REGISTERS, Status, blamed_register, status_name
from hcall_abi.wrapping import WrapFlag
from tests.export.compilers import INCLUDE, MACHINES, Machine, Programs, compile_c, output

HEADER = INCLUDE / "swpks" / "pks.h"
ONLY_HEADER = "#include <swpks/pks.h>\nint main(void) { return (int)sizeof(struct pks_config) - 520; }\n"
MACHINE = pytest.mark.parametrize("machine", MACHINES, ids=[machine.name for machine in MACHINES])

pytestmark = pytest.mark.usefixtures("not_measured")


@pytest.mark.parametrize("words", [
    "gcc -std=c99 -pedantic -Wconversion",
    "gcc -std=c99 -O2 -ffreestanding -nostdinc -isystem {own}",
    "g++ -x c++ -std=c++11 -pedantic -Wconversion",
    "powerpc64-linux-gnu-gcc -std=c99 -pedantic -mbig-endian",
])  # fmt: skip
def test_the_header_alone_compiles(words: str, tmp_path: Path) -> None:
    """R-81: as C99 and C++11, for both machines, and with no headers but the compiler's own."""
    source = tmp_path / "only.c"
    source.write_text(ONLY_HEADER, "utf-8")
    own = subprocess.run(["gcc", "-print-file-name=include"], capture_output=True, text=True, check=True)
    compile_c(*words.format(own=own.stdout.strip()).split(), "-c", str(source), "-o", f"{tmp_path}/only.o")


def test_a_program_without_a_c_library(tmp_path: Path) -> None:
    """R-81: a program that fills structures and registers links with -nostdlib."""
    source = tmp_path / "bare.c"
    source.write_text(BARE, "utf-8")
    bare = tmp_path / "bare"
    compile_c(
        "gcc", "-std=c99", "-O1", "-ffreestanding", "-nostdlib", "-static", str(source), "-o", str(bare)
    )
    assert subprocess.run([bare], check=False).returncode == 0


BARE = """
#include <swpks/pks.h>

void _start(void)
{
	struct pks_auth block;
	struct pks_auth_values values = { PKS_CONSUMER_FIRMWARE, 32 }, back;
	uint64_t r[PKS_REGISTERS];
	long status;

	pks_pack_auth(&block, &values);
	pks_confirm_object_flushed_arguments(r, 1, 2, 3);
	status = pks_unpack_auth(&back, &block) || back.password_length != 32 || r[2] != 3 || r[3];
	__asm__ volatile("syscall" : : "a"(60), "D"(status));
	for (;;)
		;
}
"""


def test_a_changed_structure_does_not_compile(tmp_path: Path) -> None:
    """A member of another size breaks the assertions of the header."""
    folder = tmp_path / "swpks"
    folder.mkdir()
    right = HEADER.read_text("utf-8")
    wrong = right.replace("\tpks_be16 max_label_size;", "\tpks_be32 max_label_size;")
    assert wrong != right
    (folder / "pks.h").write_text(wrong, "utf-8")
    (tmp_path / "only.c").write_text(ONLY_HEADER, "utf-8")
    with pytest.raises(AssertionError, match="pks_assert_pks_config_max_object_size"):
        compile_c("gcc", f"-I{tmp_path}", "-c", f"{tmp_path}/only.c", "-o", f"{tmp_path}/only.o")


@MACHINE
def test_names_and_numbers(machine: Machine, programs: Programs) -> None:
    """R-81: the macros, names, levels and registers of the header are those of the tables."""
    printed = output(programs.of_text(machine, "names", names_program())).splitlines()
    assert printed == [line for _, line in names_lines()]


def names_program() -> str:
    """Return a C program that prints a line for each statement of `names_lines`."""
    statements = "\n".join(f"\t{statement}" for statement, _ in names_lines())
    return (
        "#include <inttypes.h>\n#include <stdio.h>\n#include <swpks/pks.h>\n\n"
        "static uint64_t r[PKS_REGISTERS];\n\n"
        "static void registers(void)\n{\n\tint n;\n\n\tfor (n = 0; n < PKS_REGISTERS; n++)\n"
        '\t\tprintf("%" PRIu64 " ", r[n]);\n\tprintf("\\n");\n}\n\n'
        f"int main(void)\n{{\n{statements}\n\treturn 0;\n}}\n"
    )


def names_lines() -> list[tuple[str, str]]:
    """Return the statements of the program, each with the line that the tables give for it."""
    lines = [_number(f"PKS_{status.name}", status) for status in Status]
    lines += [_number(f"PKS_OPCODE_{opcode.name}", opcode) for opcode in CALLS]
    lines += [_number(f"PKS_POLICY_{policy.name}", policy) for policy in Policy]
    lines += [_number(f"PKS_WRAP_{flag.name}", flag) for flag in WrapFlag]
    lines += [_number(f"PKS_CONSUMER_{consumer.name}", consumer) for consumer in Consumer]
    lines += [_number(f"PKS_FRAME_{kind.name}", kind) for kind in frames.FrameType]
    lines += [_number(f"PKS_GOODBYE_{reason.name}", reason) for reason in frames.GoodbyeReason]
    lines += [_number(f"PKS_OPEN_{status.name}", status) for status in frames.OpenStatus]
    for status in Status:
        macro = f"PKS_{status.name}"
        lines.append((f'printf("%s\\n", pks_status_name({macro}));', status_name(status)))
        lines.append(_number(f"pks_blamed_register({macro})", blamed_register(status) or 0))
    for spec in CALLS.values():
        lines += _of_call(spec)
    for number, level in enumerate(LEVELS.values()):
        lines += _of_level(number, level)
    return [*lines, _number(f"!pks_level({len(LEVELS)})", 1), _number("!pks_status_name(-9999)", 1)]


def _number(expression: str, value: int) -> tuple[str, str]:
    return f'printf("%" PRId64 "\\n", (int64_t)({expression}));', str(int(value))


def _of_call(spec: HCallSpec) -> list[tuple[str, str]]:
    name = spec.opcode.name
    values = ", ".join(str(100 + arg.register) for arg in spec.args)
    filled = [next((100 + n for arg in spec.args if arg.register == n), 0) for n in range(4, 4 + REGISTERS)]
    return [
        (f'printf("%s\\n", pks_opcode_name(PKS_OPCODE_{name}));', spec.name),
        (
            f"pks_{name.lower()}_arguments(r, {values}); registers();",
            "".join(f"{value} " for value in filled),
        ),
        *(_number(f"PKS_{name}_RESULT_{result.name.upper()}", result.place) for result in spec.outputs),
    ]


def _of_level(number: int, level: FirmwareLevel) -> list[tuple[str, str]]:
    row = f"pks_level({number})"
    return [
        (f'printf("%s\\n", {row}->name);', level.name),
        _number(f"{row}->max_label_size", level.max_label_size),
        _number(f"{row}->max_object_size", level.max_object_size),
        _number(f"{row}->supported_policies", level.supported_policies),
        *(_number(f"pks_level_has({row}, 0x{opcode:x})", opcode in level.calls) for opcode in CALLS),
    ]


@MACHINE
def test_structures(machine: Machine, programs: Programs) -> None:
    """R-81: packed by C, each structure has the bytes of its Construct definition; C reads them back.

    C also refuses each constant byte that is changed.
    """
    printed = output(programs.of_text(machine, "structures", structures_program())).splitlines()
    assert printed == [line for structure in STRUCTURES for line in (built(structure).hex(), "0 0 0")]


VALUES: dict[str, Any] = {"B": 0x81, "H": 0x8182, "L": 0x81828384, "Q": 0x8182838485868788, "l": -2, "q": -3}


def value_of(structure: Structure, name: str) -> Any:
    """Return the value that a member has in this test."""
    member = next(each for each in structure.members if each.name == name)
    if structure.name == "config" and name == "version":
        return 3
    if member.length:
        return bytes(range(1, member.length + 1)) if member.bits == 8 else list(range(1, member.length + 1))
    return VALUES[member.field.code]


DEFINITIONS = {
    "frame_header": frames.HEADER,
    "segment": frames.SEGMENT,
    "write": frames.WRITE,
    "hcall": frames.HCALL_HEAD,
    "hreturn": frames.HRETURN_HEAD,
    "auth": structures.AUTH_HEAD,
    "label_header": structures.LABEL_HEADER,
    "config": structures.CONFIG_BLOCKS[3],
    "hello": frames.HELLO,
    "open": frames.OPEN,
    "opened": frames.OPENED,
    "goodbye": frames.GOODBYE,
}
TEXT_FIELD = {"hello": "name", "open": "name", "opened": "level", "goodbye": "text"}


def built(structure: Structure) -> bytes:
    """Return the bytes of a structure by its Construct definition, without the text at its end."""
    fields = {member.name: value_of(structure, member.name) for member in structure.variables}
    if structure.name == "hello":
        fields["lowest"] = 1
    if structure.name == "open":
        fields["proof_kind"] = 1
    if text := TEXT_FIELD.get(structure.name):
        fields[text] = ""
    encoded: bytes = DEFINITIONS[structure.name].build(fields)
    return encoded[: structure.size]


def structures_program() -> str:
    """Return a C program that packs, prints, unpacks and damages each structure."""
    blocks = "".join(_structure_block(structure) for structure in STRUCTURES)
    head = "#include <stdio.h>\n#include <string.h>\n#include <swpks/pks.h>\n\n"
    return f"{head}int main(void)\n{{\n{blocks}\treturn 0;\n}}\n"


def _structure_block(structure: Structure) -> str:
    name = f"pks_{structure.name}"
    unpack = f"pks_unpack_{structure.name}"
    data = built(structure)
    constants = [n for member in structure.members if member.constant
                 for n in range(member.offset, member.offset + member.field.size)]  # fmt: skip
    assignments = "".join(_assignment(structure, member.name, data) for member in structure.variables)
    damaged = "".join(
        f"\t\tcopy = packed; ((uint8_t *)&copy)[{n}] ^= 0x10; accepted += !{unpack}(&back, &copy);\n"
        for n in constants
    )
    return (
        f"\t{{\n\t\tstruct {name} packed, copy;\n\t\tstruct {name}_values values, back;\n"
        "\t\tint accepted = 0, n;\n\n\t\tmemset(&values, 0, sizeof(values));\n"
        f"\t\tmemset(&back, 0, sizeof(back));\n{assignments}"
        f"\t\tpks_pack_{structure.name}(&packed, &values);\n"
        '\t\tfor (n = 0; n < (int)sizeof(packed); n++)\n\t\t\tprintf("%02x", ((uint8_t *)&packed)[n]);\n'
        f'\t\tprintf("\\n%d ", {unpack}(&back, &packed));\n'
        '\t\tprintf("%d ", memcmp(&values, &back, sizeof(values)) != 0);\n'
        f"\t\tcopy = packed;\n{damaged}"
        '\t\tprintf("%d\\n", accepted);\n\t\t(void)copy;\n\t}\n'
    )


def _assignment(structure: Structure, name: str, data: bytes) -> str:
    member = next(each for each in structure.members if each.name == name)
    value = value_of(structure, name)
    if isinstance(value, bytes | list):
        return "".join(f"\t\tvalues.{name}[{n}] = {item};\n" for n, item in enumerate(value))
    if member.bits == 8:
        value = data[member.offset]
    suffix = "" if member.signed else "u"
    return f"\t\tvalues.{name} = {value}{suffix}{'ll' if member.bits == 64 else ''};\n"
