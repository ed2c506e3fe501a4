"""The user of the door: its choice, and the change to it."""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from hcall_abi.errors import OperatorError
from hcall_abi.rules import door as rules
from swpks.hmc.sshd import file_names
from swpks.hmc.sshd.shell import is_login


class Account(NamedTuple):
    """A user of this host."""

    name: str
    user: int
    group: int


def choose(named: str | None) -> Account:
    """Return the user as whom commands run; OperatorError if this process can't or may not run as it."""
    own = os.geteuid()
    if named is None and own == 0:
        raise _refused("root runs no door without --user USER: commands of clients run as this user")
    try:
        found = pwd.getpwuid(own) if named is None else pwd.getpwnam(named)
    except KeyError:
        raise _refused(f"this host has no user {named if named is not None else own}") from None
    if own not in (0, found.pw_uid):
        raise _refused(f"only root runs a door for {named}; leave --user out, or start it as {named}")
    if not is_login(found.pw_name):
        raise _refused(f"the name {found.pw_name!a} has characters that no prompt can show")
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def become(account: Account) -> None:
    """Give up all rights but those of the user, for good; OperatorError if it can't run the commands.

    Call it when the socket is bound: a port below 1024 needs rights that the user may not have.
    """
    if account.user != os.geteuid():
        os.initgroups(account.name, account.group)
        os.setresgid(account.group, account.group, account.group)
        os.setresuid(account.user, account.user, account.user)
    for path in (Path(sys.executable), Path(file_names.__file__)):
        if not os.access(path, os.R_OK):
            shown = shlex.quote(account.name)
            raise _refused(f"{account.name} can't read {path}; install swpks where {shown} can read it")


def _refused(message: str) -> OperatorError:
    return OperatorError(rules.DOOR_USER, message, advised=True)
