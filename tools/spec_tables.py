"""Generate the tables of spec/ from the contract's code, between markers in the pages.

    python tools/spec_tables.py --check     name the pages whose tables differ from the code
    python tools/spec_tables.py --write     put the tables of the code into the pages

A page marks the place of a table:  <!-- table: NAME ARGUMENT -->  ...  <!-- end of table -->
"""

# Why tables of the pages are generated
#
# The pages of spec/ are the contract, and the code has the same facts as tables: h-calls, statuses, policies,
# rules. Two copies of a fact differ after a while.  So the code is the source, and the pages get a copy of it
# between two marks.  A test runs --check, so a page that differs from the code fails.  People write the text
# around the tables.

import errno
import json
import re
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import console_tables
import custody_tables
import root_key_tables
import rule_tables
import state_tables
import trace_tables

from hcall_abi.arguments import Arg, Kind
from hcall_abi.calls import CALLS, HCallSpec, Opcode
from hcall_abi.consumers import SecureBoot
from hcall_abi.frames import MAX_BODY, FrameType, GoodbyeReason, OpenStatus
from hcall_abi.levels import KEYSTORE_LEVELS, LEVELS, FirmwareLevel
from hcall_abi.policies import STATUS_BITS, Policy
from hcall_abi.statuses import Status, blamed_register
from hcall_abi.variables import POLICIES, vendor_of, wide
from hcall_client.guests.linux import ERRNO
from hcall_server.hcalls.numbers import refused_word
from hcall_server.keystore.authority import PasswordState, Verdict, authorise
from hcall_server.machine.limits import Limits

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "spec"
MARK = re.compile(r"(<!-- table: (\S+)(?: (\S+))? -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)
MAKERS = tuple(opcode for opcode, spec in CALLS.items() if any(arg.words for arg in spec.args))
USERS = (Opcode.READ_OBJECT, Opcode.REMOVE_OBJECT, Opcode.GET_OBJECTLABELS, Opcode.CONFIRM_OBJECT_FLUSHED)
KEY_USERS = (Opcode.WRAP_OBJECT, Opcode.UNWRAP_OBJECT, Opcode.REVOKE_OBJECT, Opcode.UNREVOKE_OBJECT)


def rows(head: str, lines: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table; `head` has the cells of the first row, separated by "|"."""
    cells = head.split("|")
    text = [f"| {' | '.join(cell.strip() for cell in cells)} |", f"|{' --- |' * len(cells)}"]
    text += [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]
    return "\n".join(text) + "\n"


def page(opcode: Opcode) -> str:
    return f"{opcode.name.lower()}.md"


def hcalls() -> str:
    """Return the table of all h-calls: number, arguments, results and levels."""
    names = {
        opcode: [name for name, level in KEYSTORE_LEVELS.items() if opcode in level.calls] for opcode in CALLS
    }
    return rows(
        "h-call | r3 | arguments | results | changes the store | levels",
        (
            (
                f"[{spec.name}]({page(opcode)})",
                f"0x{opcode:03X}",
                len(spec.args),
                ", ".join(f"r{out.register} {out.name}" for out in spec.outputs) or "-",
                "yes" if spec.modifies else "no",
                ", ".join(names[opcode]) or "none yet",
            )
            for opcode, spec in CALLS.items()
        ),
    )


def registers() -> str:
    """Return the table of arguments: a row for each h-call, a column for each register."""
    lines = []
    for opcode, spec in CALLS.items():
        names = [arg.name.replace("_", " ") for arg in spec.args]
        lines.append((f"[{opcode.name}]({page(opcode)})", *names, *["-"] * (9 - len(names))))
    return rows("h-call|r4|r5|r6|r7|r8|r9|r10|r11|r12", lines)


def _spec(name: str) -> HCallSpec:
    return CALLS[Opcode[name]]


def _strict(arg: Arg) -> str:
    rules = [f"multiple of {arg.alignment}"] if arg.alignment > 1 else []
    rules += ["within one 4 KiB page"] if arg.one_page else []
    return ", ".join(rules) or "-"


def _holds(arg: Arg) -> str:
    match arg.kind:
        case Kind.AUTHORIZATION:
            return "address of an [authorization block](../structures.md#authorization-block)"
        case Kind.RESERVED:
            return "0"
        case kind if kind.is_number:
            return f"{kind.value}, {arg.bits} bits"
        case kind if kind.is_length:
            return "length in bytes"
        case kind if kind.writable:
            return "address of a buffer that the call may write"
        case _:
            return "address of bytes that the call reads"


def parameters(name: str) -> str:
    """Return the table of the arguments of an h-call."""
    lines = (
        (f"r{arg.register}", arg.name, _holds(arg), _strict(arg), arg.status.name) for arg in _spec(name).args
    )
    return rows("register | argument | holds | strict memory | when it is bad", lines)


def results(name: str) -> str:
    """Return the table of the output registers of an h-call."""
    others = ((f"r{out.register}", out.name) for out in _spec(name).outputs)
    return rows("register | result", [("r3", "status"), *others])


def statuses(name: str) -> str:
    """Return the statuses that an h-call may return, as its row of the table lists them."""
    listed = sorted(_spec(name).statuses, key=lambda status: (status < 0, abs(status)))
    return "`" + "`, `".join(status.name for status in listed) + "`\n"


def numbers() -> str:
    """Return the table of all statuses."""
    lines = []
    for status in Status:
        register = blamed_register(status)
        used = sum(status in spec.statuses for spec in CALLS.values())
        meaning = f"argument in r{register}" if register else ""
        lines.append((status.name, int(status), meaning or "-", f"{used} of {len(CALLS)}"))
    return rows("name | value | argument | listed for", lines)


def policies() -> str:
    """Return the table of the policy bits, by IBM number, with the calls that accept each bit."""
    lines = []
    for bit in Policy:
        number = 31 - bit.bit_length() + 1
        levels = [name for name, level in KEYSTORE_LEVELS.items() if level.supported_policies & bit]
        since = (
            "every level"
            if len(levels) == len(KEYSTORE_LEVELS)
            else f"since {levels[0]}"
            if levels
            else "status only"
        )
        made = [call.name for call in MAKERS if not _refused(call, int(bit))]
        lines.append((number, f"0x{int(bit):08X}", bit.name, since, ", ".join(made) or "-"))
    return rows("bit | mask | name | supported by | may be asked for in", lines)


def _asked(call: Opcode, policy: int) -> int:
    """Return the policy word that a test of this call uses for a policy bit.

    SIGNED_UPDATE refuses a word without SIGNEDUPDATE, so this bit is added for it.
    """
    return policy | int(Policy.SIGNEDUPDATE) if call is Opcode.SIGNED_UPDATE else policy


def _refused(call: Opcode, policy: int) -> bool:
    """Return whether a call that makes objects refuses this policy word on every level."""
    words = CALLS[call].arg("policy").words
    return bool(words and refused_word(words, _asked(call, policy), ~STATUS_BITS))


def verdicts(group: str) -> str:
    """Return a table of the engine's decisions: a row for each policy bit, a column for each call.

    `group` is the group of calls: make, use or keys.
    """
    calls = {"make": MAKERS, "use": USERS, "keys": KEY_USERS}[group]
    base = int(Policy.WRAPPINGKEY) if group == "keys" else 0
    lines = [["none", *(_effect(call, 0) for call in calls)]]
    for bit in Policy:
        lines.append([bit.name or "", *(_effect(call, int(bit) | base) for call in calls)])
    return rows("policy bit |" + "|".join(call.name for call in calls), lines)


def _effect(call: Opcode, policy: int) -> str:
    # The decision itself is called, so this table cannot differ from the engine.
    def asked(password: PasswordState, mode: SecureBoot) -> Verdict:
        return authorise(call, policy, password, mode)

    if call in MAKERS and _refused(call, policy):
        return "H_P4"
    if call is Opcode.WRAP_OBJECT and not policy & Policy.WRAPPINGKEY:
        return "H_INVALID_KEY"
    if call is Opcode.UNWRAP_OBJECT and not policy & Policy.WRAPPINGKEY:
        return "H_NOT_FOUND"
    best = asked(PasswordState.MATCHED, SecureBoot.ENFORCE)
    if best is not Verdict.ALLOWED:
        return "refused once it exists" if call is Opcode.SIGNED_UPDATE else "refused"
    effects = []
    if asked(PasswordState.WRONG, SecureBoot.ENFORCE) is Verdict.ALLOWED:
        effects.append("no password")
    if asked(PasswordState.UNSET, SecureBoot.ENFORCE) is not Verdict.ALLOWED:
        effects.append("password must be set")
    if asked(PasswordState.MATCHED, SecureBoot.AUDIT) is not Verdict.ALLOWED:
        effects.append("enforce mode")
    elif asked(PasswordState.MATCHED, SecureBoot.OFF) is not Verdict.ALLOWED:
        effects.append("audit or enforce mode")
    return ", ".join(effects) or "password"


def passwords() -> str:
    """Return the table of the password rule, computed for a call that demands a password."""
    call = Opcode.REMOVE_OBJECT
    lines = []
    for state in PasswordState:
        verdict = authorise(call, 0, state, SecureBoot.OFF)
        lines.append((state.value, "goes on" if verdict is Verdict.ALLOWED else "H_AUTHORITY"))
    return rows("the consumer's password | the call", lines)


def levels() -> str:
    """Return the table of the firmware levels."""
    lines = []
    for field in FirmwareLevel._fields:
        if field in ("name", "calls"):
            continue
        values = [getattr(level, field) for level in LEVELS.values()]
        hexadecimal = field in ("supported_policies", "signed_update_algorithms", "wrapping_features")
        shown = [f"0x{value:X}" if hexadecimal else value for value in values]
        lines.append((f"`{field}`", *shown))
    for opcode, spec in CALLS.items():
        lines.append((spec.name, *("yes" if opcode in level.calls else "-" for level in LEVELS.values())))
    return rows("|".join(["", *LEVELS]), lines)


def errnos() -> str:
    """Return the table with the errno of each status in Linux."""
    words = {number: f"-{errno.errorcode[-number]}" if number else "0" for number in ERRNO.values()}
    grouped: dict[str, list[str]] = {}
    for status, number in ERRNO.items():
        grouped.setdefault(words[number], []).append(Status(status).name)
    grouped["-EINVAL"].append("every other one")
    return rows("errno | statuses", ((name, ", ".join(found)) for name, found in grouped.items()))


LIMITS = {
    "open_seconds": "from the connection to an OPEN that was accepted, in seconds: GOODBYE 5",
    "idle_seconds": "without any byte from the client, in seconds (0: no limit): GOODBYE 5",
    "send_seconds": "for the peer to take the bytes of a send, in seconds: GOODBYE 6",
    "goodbye_seconds": "for the GOODBYE itself to leave, in seconds",
    "drain_seconds": "for the last flush when the server stops, in seconds",
    "max_unopened": "connections of one listener without a session; further ones wait in its queue",
    "max_sessions": "sessions of one partition: OPENED status 5",
    "min_sessions": "of these, sessions that are kept for each partition that runs",
    "max_connections": "sessions of all partitions together: OPENED status 5",
}


def limits() -> str:
    """Return the table of the server's deadlines and bounds."""
    lines = [(f"`{name}`", value, LIMITS[name]) for name, value in vars(Limits()).items()]
    return rows(
        "name | default | meaning", [("largest body", MAX_BODY, "of a frame, in bytes: GOODBYE 1"), *lines]
    )


def session(number: str = "") -> str:
    """Return an example session as a hexdump, from the golden frames; the second one has the number 2."""
    name = f"session-{number}.json" if number else "session.json"
    steps = json.loads((SPEC / "vectors" / "frames" / name).read_text("utf-8"))
    parts = []
    for step in steps:
        arrow = "S->C" if step["from"] == "server" else "C->S"
        data = bytes.fromhex(step["hex"])
        dump = [f"  {at:04x}  {data[at : at + 16].hex(' ', -4)}" for at in range(0, len(data), 16)]
        parts.append("\n".join([f"{arrow}  {step['what']}", *dump]))
    return "```\n" + "\n\n".join(parts) + "\n```\n"


def variables() -> str:
    """Return the table of the secure-boot variables, with vendor and Linux's policy word."""
    lines = [
        (f"`{name}`", uuid.UUID(bytes_le=vendor_of(wide(name))), f"0x{policy:08X}")
        for name, policy in POLICIES.items()
    ]
    return rows("name | signed under | policy word", lines)


def root_key() -> str:
    """Return the table of the decision about the copies of the root key."""
    head = "row | anchor card | wrapped copy | records | decision | consequence"
    return rows(head, root_key_tables.root_key())


def findings(kind: str) -> str:
    """Return the table of the findings about one kind of copy."""
    return rows("finding | meaning", root_key_tables.findings(kind))


def numbered(numbers: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Yield number and name of each member of an enumeration."""
    for number in numbers:
        yield int(number), getattr(number, "name", "")


TABLES: dict[str, Callable[..., str]] = {
    "hcalls": hcalls,
    "registers": registers,
    "parameters": parameters,
    "results": results,
    "statuses": statuses,
    "numbers": numbers,
    "policies": policies,
    "verdicts": verdicts,
    "passwords": passwords,
    "levels": levels,
    "limits": limits,
    "session": session,
    "states": lambda: rows("state | sender | frame | condition | next state", state_tables.states()),
    "state-diagram": state_tables.diagram,
    "tags": lambda: rows("frame | tag", state_tables.tags()),
    "variables": variables,
    "update-rules": lambda: rows("status | rule | sentence", rule_tables.of_updates()),
    "trace": lambda: rows("h-call | shown | blanked", trace_tables.of_calls()),
    "rules": lambda chapter: rows("rule | sentence | broken | page", rule_tables.of_chapter(chapter)),
    "errno": errnos,
    "root-key": root_key,
    "findings": findings,
    "custody": lambda name: rows(*custody_tables.TABLES[name]()),
    "attributes": lambda: rows(console_tables.ATTRIBUTE_HEAD, console_tables.attributes()),
    "power": lambda: rows("power | event | becomes", console_tables.powers()),
    "messages": lambda: rows(console_tables.MESSAGE_HEAD, console_tables.messages()),
    "lines": lambda: rows(console_tables.LINE_HEAD, console_tables.line_commands()),
    "line-lists": lambda: rows(console_tables.LINE_LIST_HEAD, console_tables.line_lists()),
    "line-records": lambda: rows(console_tables.LINE_RECORD_HEAD, console_tables.line_records()),
    "line-ignored": lambda: rows(console_tables.LINE_IGNORED_HEAD, console_tables.line_ignored()),
    "frame-types": lambda: rows("type | frame", numbered(FrameType)),
    "open-statuses": lambda: rows("status | name", numbered(OpenStatus)),
    "goodbye-reasons": lambda: rows("reason | name", numbered(GoodbyeReason)),
}


def filled(text: str) -> str:
    """Return the text of a page with all tables generated anew."""

    def table(match: re.Match[str]) -> str:
        start, name, argument, _, end = match.groups()
        make = TABLES[name]
        return start + (make(argument) if argument else make()) + end

    return MARK.sub(table, text)


def main() -> None:
    """Check or write all pages."""
    different = []
    for path in sorted(SPEC.rglob("*.md")):
        text = path.read_text("utf-8")
        if filled(text) != text:
            different.append(path.relative_to(ROOT).as_posix())
            if "--write" in sys.argv:
                path.write_text(filled(text), "utf-8")
    if different and "--write" not in sys.argv:
        sys.exit("tables differ from the code; run tools/spec_tables.py --write for: " + ", ".join(different))


if __name__ == "__main__":
    main()
