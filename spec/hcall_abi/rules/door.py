"""Rules of the console's SSH door."""

from __future__ import annotations

from hcall_abi.rules.rule import Fault, Rule

_DOOR = "spec/console.md#the-ssh-door"
_OPERATOR = Fault.OPERATOR

DOOR_LISTEN = Rule(
    "door.listen",
    "the SSH door listens at HOST:PORT of loopback, or of another host with --insecure-listen",
    _DOOR,
    _OPERATOR,
)
# A door of root gives each client the commands of root. So root has to say for whom it is.
DOOR_USER = Rule(
    "door.user",
    "the SSH door runs commands as its own user, and root names this user by --user",
    _DOOR,
    _OPERATOR,
)
DOOR_PROGRAM = Rule(
    "door.program", "the SSH door has every program and library that it uses", _DOOR, _OPERATOR
)
DOOR_PASSWORDS = Rule(
    "door.passwords",
    "a password file is private, and its lines are USER:PASSWORD, each user once",
    _DOOR,
    _OPERATOR,
)
DOOR_STORE = Rule(
    "door.store",
    "the SSH door serves the store of a console, and store and door belong to the same user",
    _DOOR,
    _OPERATOR,
)
