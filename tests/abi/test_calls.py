"""The table of h-calls, compared with a second table that was typed by hand from public sources.

Sources of the second table: the public Linux driver and its header (opcodes, argument order, return codes),
and the kernel's papr_hcalls document (statuses of the newer calls).
"""

import pytest

from hcall_abi.arguments import Kind
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.levels import DEFAULT_LEVEL, KEYSTORE_LEVELS, LEVELS
from hcall_abi.policies import CALLER_BITS, KNOWN_BITS, STATUS_BITS, Policy, describe
from hcall_abi.statuses import Status, blamed_register, positional, status_name

# call -> opcode, the arguments from r4 on, the results from r4 on
SHAPES: dict[str, tuple[int, str, str]] = {
    "GET_CONFIG": (0x41C, "config config_length", ""),
    "SET_PASSWORD": (0x420, "consumer reserved password password_length", ""),
    "GEN_PASSWORD": (0x424, "consumer reserved password password_length", ""),
    "GET_OBJECTLABELS": (0x428, "authorization token labels labels_length", "count token"),
    "WRITE_OBJECT": (0x42C, "authorization label label_length policy data data_length", ""),
    "GEN_KEY": (0x430, "authorization label label_length policy key key_length", ""),
    "READ_OBJECT": (0x434, "authorization label label_length data data_length", "size policy"),
    "REMOVE_OBJECT": (0x438, "authorization label label_length", ""),
    "CONFIRM_OBJECT_FLUSHED": (0x43C, "authorization label label_length", "flushed"),
    "SIGNED_UPDATE": (0x454, "authorization label label_length policy flags data data_length token", "token"),
    "WRAP_OBJECT": (
        0x490,
        "authorization label label_length flags input input_length output output_length token",
        "token size",
    ),
    "UNWRAP_OBJECT": (
        0x494,
        "authorization flags input input_length output output_length token",
        "token size",
    ),
    "REVOKE_OBJECT": (0x4AC, "authorization label label_length flags", "policy"),
    "UNREVOKE_OBJECT": (0x4B0, "authorization label label_length flags", "policy"),
}

ALWAYS = "SUCCESS FUNCTION STATE ABORTED PARAMETER P2"
_LONG = " ".join(
    f"LONG_BUSY_ORDER_{n}" for n in ("1_MSEC", "10_MSEC", "100_MSEC", "1_SEC", "10_SEC", "100_SEC")
)

# call -> the statuses that it may return, besides those in ALWAYS
STATUSES: dict[str, str] = {
    "GET_CONFIG": "BUSY",
    "SET_PASSWORD": "R_STATE BUSY P3 P4 IN_USE",
    "GEN_PASSWORD": "R_STATE BUSY P3 P4 IN_USE",
    "GET_OBJECTLABELS": "BUSY P3 P4 AUTHORITY CONTINUE",
    "WRITE_OBJECT": "R_STATE BUSY P3 P4 P5 P6 AUTHORITY NO_MEM RESOURCE",
    "GEN_KEY": "R_STATE BUSY P3 P4 P5 P6 AUTHORITY NO_MEM RESOURCE",
    "READ_OBJECT": "BUSY P3 P4 P5 AUTHORITY NOT_FOUND TOO_BIG",
    "REMOVE_OBJECT": "R_STATE BUSY P3 AUTHORITY NOT_FOUND",
    "CONFIRM_OBJECT_FLUSHED": "P3 AUTHORITY NOT_FOUND",
    "SIGNED_UPDATE": f"R_STATE BUSY {_LONG} P3 P4 P5 P6 P7 P8 AUTHORITY NO_MEM",
    "WRAP_OBJECT": f"R_STATE BUSY {_LONG} P3 P4 P5 P6 P7 P8 P9 AUTHORITY NOT_FOUND INVALID_KEY",
    "UNWRAP_OBJECT": (
        f"R_STATE BUSY {_LONG} P3 P4 P5 P6 P7 AUTHORITY NOT_FOUND INVALID_KEY UNSUPPORTED BAD_DATA"
    ),
    "REVOKE_OBJECT": "R_STATE BUSY P3 P4 AUTHORITY NOT_FOUND",
    "UNREVOKE_OBJECT": "R_STATE BUSY P3 P4 AUTHORITY NOT_FOUND",
}


def test_the_table_is_whole() -> None:
    """The table has all 14 h-calls and no other."""
    assert {opcode.name for opcode in Opcode} == set(SHAPES) == set(STATUSES)
    assert set(CALLS) == set(Opcode)
    assert len(CALLS) == 14


@pytest.mark.parametrize("name", SHAPES)
def test_shape(name: str) -> None:
    """Opcode, arguments and results of each call are those of the second table, register by register."""
    number, args, outputs = SHAPES[name]
    spec = CALLS[Opcode[name]]
    assert spec.opcode == number
    assert spec.name == f"H_PKS_{name}"
    assert [(arg.name, arg.register) for arg in spec.args] == [(a, 4 + n) for n, a in enumerate(args.split())]
    assert [(out.name, out.register) for out in spec.outputs] == [
        (o, 4 + n) for n, o in enumerate(outputs.split())
    ]


@pytest.mark.parametrize("name", STATUSES)
def test_statuses(name: str) -> None:
    """Each call may return exactly the statuses in the public lists.

    A call with fewer than two arguments cannot return H_P2.
    """
    expected = {Status[f"H_{word}"] for word in f"{ALWAYS} {STATUSES[name]}".split()}
    if len(CALLS[Opcode[name]].args) < 2:
        expected.remove(Status.H_P2)
    assert CALLS[Opcode[name]].statuses == expected


@pytest.mark.parametrize("name", SHAPES)
def test_every_buffer_has_its_length(name: str) -> None:
    """The argument after a buffer is its length. An authorization block has none; its length is inside it."""
    spec = CALLS[Opcode[name]]
    for arg in spec.args:
        if (arg.kind.readable or arg.kind.writable) and arg.kind is not Kind.AUTHORIZATION:
            length = spec.arg(arg.length or "")
            assert length.kind.is_length
            assert length.register == arg.register + 1
        else:
            assert arg.length is None
    with pytest.raises(KeyError):
        spec.arg("no such argument")


def test_only_modifying_calls_can_meet_a_blocked_modification() -> None:
    """Exactly these calls modify the store, so a blocked modification can concern them."""
    modifying = {spec.opcode.name for spec in CALLS.values() if spec.modifies}
    assert modifying == {
        "SET_PASSWORD",
        "GEN_PASSWORD",
        "WRITE_OBJECT",
        "GEN_KEY",
        "REMOVE_OBJECT",
        "SIGNED_UPDATE",
        "REVOKE_OBJECT",
        "UNREVOKE_OBJECT",
    }


def test_strict_memory_rules() -> None:
    """R-76: exactly the expected arguments must lie in one 4 KiB page, or have an alignment."""
    pages = {(s.opcode.name, a.name) for s in CALLS.values() for a in s.args if a.one_page}
    with_auth = {n for n, (_, args, _) in SHAPES.items() if "authorization" in args}
    with_label = {n for n, (_, args, _) in SHAPES.items() if " label " in args}
    assert pages == (
        {(n, "authorization") for n in with_auth}
        | {(n, "label") for n in with_label}
        | {("GET_CONFIG", "config"), ("SET_PASSWORD", "password"), ("GEN_PASSWORD", "password")}
    )
    aligned = {
        (s.opcode.name, a.name): a.alignment for s in CALLS.values() for a in s.args if a.alignment > 1
    }
    assert aligned == {(n, "authorization"): 16 for n in with_auth} | {
        (call, buffer): 4096 for call in ("WRAP_OBJECT", "UNWRAP_OBJECT") for buffer in ("input", "output")
    }


NUMBERS = {
    "SUCCESS": 0, "BUSY": 1, "NOT_AVAILABLE": 3, "PARTIAL": 5, "IN_PROGRESS": 14, "CONTINUE": 18,
    "LONG_BUSY_ORDER_1_MSEC": 9900, "LONG_BUSY_ORDER_10_MSEC": 9901, "LONG_BUSY_ORDER_100_MSEC": 9902,
    "LONG_BUSY_ORDER_1_SEC": 9903, "LONG_BUSY_ORDER_10_SEC": 9904, "LONG_BUSY_ORDER_100_SEC": 9905,
    "HARDWARE": -1, "FUNCTION": -2, "PRIVILEGE": -3, "PARAMETER": -4, "NOT_FOUND": -7, "NO_MEM": -9,
    "AUTHORITY": -10, "PERMISSION": -11, "RESOURCE": -16, "R_STATE": -45, "ABORTED": -54, "P2": -55,
    "P3": -56, "P4": -57, "P5": -58, "P6": -59, "P7": -60, "P8": -61, "P9": -62, "NOOP": -63,
    "TOO_BIG": -64, "UNSUPPORTED": -67, "OVERLAP": -68, "BAD_DATA": -70, "NOT_ACTIVE": -71, "STATE": -75,
    "IN_USE": -77, "INVALID_KEY": -78,
}  # fmt: skip


def test_status_numbers() -> None:
    """Status numbers are those of the kernel's header.

    The number of H_INVALID_KEY is this project's choice.
    """
    assert {status.name.removeprefix("H_"): int(status) for status in Status} == NUMBERS


def test_positional_statuses() -> None:
    """A wrong argument in r4 gives H_PARAMETER, in r5 H_P2, up to H_P9 in r12.

    From each of these statuses, a client finds the register.
    """
    expected = [-4, -55, -56, -57, -58, -59, -60, -61, -62]
    assert [int(positional(register)) for register in range(4, 13)] == expected
    assert [blamed_register(number) for number in expected] == list(range(4, 13))
    assert blamed_register(-10) is None
    assert blamed_register(12345) is None
    assert status_name(-10) == "H_AUTHORITY"
    assert status_name(12345) == "status 12345"


def test_policy_bits() -> None:
    """Each policy has the bit number that IBM gives it, counted from the most significant bit."""
    bits = {1: "OSSECBOOTAUDIT", 2: "OSSECBOOTENFORCE", 3: "PWSET", 4: "WORLDREADABLE", 5: "IMMUTABLE"}
    bits |= {6: "TRANSIENT", 7: "SIGNEDUPDATE", 8: "WRAPPINGKEY", 28: "HVPROVISIONED", 30: "REVOKED"}
    assert {bit.name: int(bit) for bit in Policy} == {name: 1 << (31 - bit) for bit, name in bits.items()}
    assert (KNOWN_BITS, STATUS_BITS, CALLER_BITS) == (0x7F80000A, 0x0000000A, 0x7F800000)
    assert describe(0) == "0"
    assert describe(0x48000001) == "OSSECBOOTAUDIT|WORLDREADABLE|0x00000001"


def test_consumers_and_secure_boot() -> None:
    """R-03: consumers and secure-boot modes have the documented numbers."""
    consumers = {"FIRMWARE": 1, "BOOT_LOADER": 2, "OPERATING_SYSTEM": 3}
    assert {c.name: int(c) for c in Consumer} == consumers
    assert {m.name: int(m) for m in SecureBoot} == {"OFF": 0, "AUDIT": 1, "ENFORCE": 2}


def test_firmware_levels() -> None:
    """R-74: each level has only the calls, config version, sizes and policies of its release."""
    assert list(LEVELS) == ["FW940", "FW950", "FW1010", "FW1030", "FW1050", "FW1060", "FW1110", "NEXT"]
    assert [level.name for level in LEVELS.values()] == list(LEVELS)
    assert DEFAULT_LEVEL is LEVELS["FW1110"]
    first, newest = LEVELS["FW950"], LEVELS["FW1110"]
    assert {opcode for opcode in Opcode if opcode <= 0x43C} == first.calls
    assert {opcode for opcode in Opcode if opcode <= 0x494} == newest.calls
    assert set(Opcode) == LEVELS["NEXT"].calls
    assert [level.config_version for level in KEYSTORE_LEVELS.values()] == [1, 2, 3, 3, 3, 3, 3]
    assert (first.min_kbytes, first.max_kbytes, first.system_total_kbytes) == (4, 64, 1024)
    assert (newest.min_kbytes, newest.max_kbytes, newest.system_total_kbytes) == (4, 128, 16384)
    assert first.supported_policies == 0x7F000000
    assert newest.supported_policies == 0x7F800000
    assert (first.max_password_size, newest.max_password_size) == (32, 64)
    assert (first.max_large_object_size, newest.max_large_object_size) == (0, 131072)


@pytest.mark.parametrize("name", KEYSTORE_LEVELS)
def test_levels_pass_the_drivers_sanity_tests(name: str) -> None:
    """R-74: the config block of each level passes the four checks that the Linux driver makes."""
    level = LEVELS[name]
    assert level.max_password_size >= 32
    assert 255 <= level.max_label_size <= 0x7FFF
    assert level.min_kbytes * 1024 >= 4096
    if level.config_version >= 3 and level.max_large_object_size >= 65536:
        assert level.max_object_size == 0xFFFF
    assert level.supported_policies & ~CALLER_BITS == 0
