"""bkprofdata, rstprofdata, rmprofdata, mkprofdata (R-46, spec/console.md#profile-backups).

A bare name is a file in the console's own folder, STORE/profiles/SERIAL/NAME.  A name with a slash is a file
of the caller, which reads and writes it with its own rights.
"""

from __future__ import annotations

from typing import cast

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_server.console.lines.jobs import follow
from hcall_server.console.lines.line import SYSTEM, Line, LineCommand
from hcall_server.console.options import Option, Syntax, switch
from hcall_server.console.profile_format import (
    MAX_PROFILE,
    ProfileBackup,
    decode_profiles,
    encode_profiles,
    profiles_as_xml,
)
from hcall_server.console.profile_plan import INITIALIZE, RestoreLevel

_FILE = Option("-f", "FILE", required=True)


async def _write(line: Line, name: str, content: bytes) -> None:
    """Write a file of the console's folder, or of the caller if the name has a slash.

    An existing file is replaced only with --force.
    """
    force = "--force" in line.options
    if "/" in name:
        await line.caller.write(name, content, replace=force)
    else:
        line.console.profile_files.write(line.known.serial, name, content, replace=force)


async def _test(line: Line, name: str) -> None:
    """Raise OperatorError if a file can't be written.

    Copies take long, so a line calls this before it takes them.
    """
    force = "--force" in line.options
    if "/" in name:
        await line.caller.test(name, replace=force)
    else:
        line.console.profile_files.test(line.known.serial, name, replace=force)


async def _read(line: Line, name: str) -> ProfileBackup:
    """Return the profile backup of a file."""
    if "/" in name:
        return decode_profiles(await line.caller.read(name, MAX_PROFILE))
    return decode_profiles(line.console.profile_files.read(line.known.serial, name))


async def _bkprofdata(line: Line) -> int:
    name = line.options.needed("-f")
    await _test(line, name)
    saved = await line.console.save_profiles(line.known)
    await _write(line, name, encode_profiles(saved))
    return 0


async def _rstprofdata(line: Line) -> int:
    """Print each effect and each loss of the restore, then carry it out.

    If the plan is refused, nothing is changed.
    """
    level, name = int(line.options.needed("-l")), line.options.value("-f")
    if (name is None) != (level == INITIALIZE):
        message = f"rstprofdata: -l {level} {'needs' if name is None else 'takes no'} -f FILE"
        raise OperatorError(rules.LINE_NEEDED, message)
    known, saved = line.known, await _read(line, name) if name is not None else None
    plan = await line.console.plan_profiles(known, cast("RestoreLevel", level), saved)
    # The plan is printed before `restore_profiles` may refuse it.  The refusal is about the losses in these
    # lines.
    await line.say(*plan.lines)
    if not plan.steps:
        return 0
    force = "--forcekeystore" in line.options
    return await follow(line, line.console.restore_profiles(known, plan, force=force))


def _rmprofdata(line: Line) -> int:
    line.console.profile_files.remove(line.known.serial, line.options.needed("-f"))
    return 0


async def _mkprofdata(line: Line) -> int:
    """Write profile data as XML, without copies and keys.

    With -b, the data comes from that backup; otherwise it is the present data.
    """
    name, written = line.options.value("-b"), line.options.needed("-x")
    await _test(line, written)
    saved = await (line.console.save_profiles(line.known) if name is None else _read(line, name))
    await _write(line, written, profiles_as_xml(saved))
    if "/" not in written:
        # The XML is for another program.  That program does not know the console's own folder, so the full
        # path is printed.
        await line.say(f"{line.console.profile_files.place(line.known.serial, written)} is written")
    return 0


COMMANDS = (
    LineCommand(Syntax("bkprofdata", (SYSTEM, _FILE, switch("--force"))), _bkprofdata),
    LineCommand(
        Syntax(
            "rstprofdata",
            (
                SYSTEM,
                Option("-l", choices=("1", "2", "3", "4"), required=True),
                Option("-f", "FILE"),
                switch("--forcekeystore"),
            ),
        ),
        _rstprofdata,
    ),
    LineCommand(Syntax("rmprofdata", (SYSTEM, _FILE), ignored={"--force": "nothing"}), _rmprofdata),
    LineCommand(
        Syntax(
            "mkprofdata",
            (
                Option("-r", choices=("sys",), required=True),
                Option("-o", choices=("createxml",), required=True),
                SYSTEM,
                Option("-b", "FILE"),
                Option("-x", "XMLFILE", required=True),
                switch("--force"),
            ),
        ),
        _mkprofdata,
    ),
)
