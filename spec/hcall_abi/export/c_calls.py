"""H-calls, statuses and firmware levels as C functions, made from their tables."""

from __future__ import annotations

from collections.abc import Iterator

from hcall_abi.calls import CALLS, HCallSpec, Opcode
from hcall_abi.levels import LEVELS, FirmwareLevel
from hcall_abi.statuses import Status, blamed_register

_WIDTH = 110
_SIZES = ("calls", "name", "min_kbytes", "max_kbytes", "system_total_kbytes")


def functions() -> Iterator[str]:
    """Yield the C text of each h-call, then the functions about statuses and levels."""
    for spec in CALLS.values():
        yield _call(spec)
    yield _names(
        "pks_status_name", "int64_t status", {f"PKS_{status.name}": status.name for status in Status}
    )
    yield _names(
        "pks_opcode_name",
        "uint64_t opcode",
        {f"PKS_OPCODE_{opcode.name}": CALLS[opcode].name for opcode in Opcode},
    )
    yield _blamed()
    yield _levels()


def _call(spec: HCallSpec) -> str:
    """Return the places of the results, and the function that fills the registers of a call."""
    name = spec.opcode.name
    results = [f"#define PKS_{name}_RESULT_{output.name.upper()} {output.place}" for output in spec.outputs]
    head = f"static inline void pks_{name.lower()}_arguments("
    parameters = ["uint64_t registers[PKS_REGISTERS]", *(f"uint64_t {arg.name}" for arg in spec.args)]
    lines = ["pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));"]
    lines += [f"registers[{arg.place}] = {arg.name};" for arg in spec.args]
    body = "\n".join(f"\t{line}" for line in lines)
    about = f"/* {spec.name}: hcalls/{name.lower()} */"
    places = (
        ["/* The place of each result in the registers of the answer */", *results, ""] if results else []
    )
    return "\n".join([about, *places, _wrapped(head, parameters), "{", body, "}", ""])


def _wrapped(head: str, parameters: list[str]) -> str:
    """Return the head of a function, in as many lines as its parameters need."""
    lines = [head]
    for n, parameter in enumerate(parameters):
        part = parameter + (", " if n + 1 < len(parameters) else ")")
        if len(lines[-1]) + len(part) > _WIDTH:
            lines[-1] = lines[-1].rstrip()
            lines.append("\t" + part)
        else:
            lines[-1] += part
    return "\n".join(lines)


def _names(function: str, parameter: str, names: dict[str, str]) -> str:
    """Return a function from a number to its name; 0 for a number that no table has."""
    cases = "\n".join(f'\tcase {macro}:\n\t\treturn "{name}";' for macro, name in names.items())
    variable = parameter.split()[1]
    return (
        f"/* Returns the name, or a null pointer for a number without one. */\n"
        f"static inline const char *{function}({parameter})\n{{\n\tswitch ({variable}) {{\n{cases}\n"
        f"\tdefault:\n\t\treturn 0;\n\t}}\n}}\n"
    )


def _blamed() -> str:
    """Return the function from a positional status to the register that it refuses."""
    cases = "\n".join(
        f"\tcase PKS_{status.name}:\n\t\treturn {register};"
        for status in Status
        if (register := blamed_register(status)) is not None
    )
    return (
        "/* Returns the register (4 to 12) of the argument that a status refuses, or 0. */\n"
        f"static inline int pks_blamed_register(int64_t status)\n{{\n\tswitch (status) {{\n{cases}\n"
        "\tdefault:\n\t\treturn 0;\n\t}\n}\n"
    )


def _levels() -> str:
    """Return the firmware levels: a structure, its table, and the two functions that read it."""
    fields = [field for field in FirmwareLevel._fields if field not in _SIZES]
    declared = "".join(f"\tuint64_t {field};\n" for field in fields)
    rows = "".join(_level(level, fields) for level in LEVELS.values())
    return (
        "/* levels: limits in bytes, masks, and the opcodes that the level has, up to a 0. */\n"
        f"struct pks_level {{\n\tconst char *name;\n{declared}\tuint16_t calls[{len(CALLS) + 1}];\n}};\n\n"
        f"#define PKS_LEVELS {len(LEVELS)}\n\n"
        "/* Returns a level, 0 (the oldest) to PKS_LEVELS - 1; a null pointer for any other number. */\n"
        "static inline const struct pks_level *pks_level(unsigned int number)\n{\n"
        f"\tstatic const struct pks_level levels[PKS_LEVELS] = {{\n{rows}\t}};\n\n"
        "\treturn number < PKS_LEVELS ? &levels[number] : 0;\n}\n\n"
        "static inline int pks_level_has(const struct pks_level *level, uint64_t opcode)\n{\n"
        "\tunsigned int n;\n\n\tfor (n = 0; level->calls[n]; n++)\n\t\tif (level->calls[n] == opcode)\n"
        "\t\t\treturn 1;\n\treturn 0;\n}\n"
    )


def _level(level: FirmwareLevel, fields: list[str]) -> str:
    numbers = ", ".join(_number(getattr(level, field)) for field in fields)
    calls = ", ".join([*(f"0x{opcode:x}" for opcode in sorted(level.calls)), "0"])
    return f'\t\t{{ "{level.name}", {numbers},\n\t\t\t{{ {calls} }} }},\n'


def _number(value: int) -> str:
    """Return a number as C text; one that needs more than 32 bits is a mask."""
    return str(value) if value < 1 << 17 else f"0x{value:x}" if value < 1 << 32 else f"UINT64_C(0x{value:x})"
