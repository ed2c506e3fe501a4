"""The files of the door in a store: host key, authorized keys, commands, and the folder of FILE arguments."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shlex
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import door as rules
from hcall_server.files import make_folder, replace_private
from swpks.hmc.links import CLIENT, write_program
from swpks.hmc.names import LINES
from swpks.hmc.sshd import filters
from swpks.hmc.sshd.file_names import door_program
from swpks.hmc.sshd.shell import BASH, DoorPlaces, forced_program, start_file
from swpks.hmc.store_folder import DATABASE

HOST_KEY = "host_key"
"""The private host key, in the format of OpenSSH, below the door's folder."""
AUTHORIZED = "authorized_keys"
"""The public keys that may log in, below the door's folder."""
SSHD = "/usr/sbin/sshd"


def check_store(store: Path, user: int, name: str) -> None:
    """Raise OperatorError if the folder is no console's store, or does not belong to this user alone."""
    shown = shlex.quote(str(store))
    try:
        found = store.lstat()
        console = (store / DATABASE).is_file()
    except OSError as error:
        raise _refused(
            f"{store}: {error.strerror or error}; start its console: swpks hmc serve --store {shown}"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or not console:
        raise _refused(f"{store} is no store of a console; start one: swpks hmc serve --store {shown}")
    if found.st_uid != user:
        # The console runs as the owner of the store, and only this user enters the folder of its socket.
        owner = f"user {found.st_uid}"
        message = f"{store} belongs to {owner}, so commands of {name} could not reach its console"
        remedy = (
            f"run the door as {owner}, or stop the console, chown -R {name} {shown}, and run it as {name}"
        )
        raise _refused(f"{message}; {remedy}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise _refused(f"{store} has mode {stat.S_IMODE(found.st_mode):04o}; chmod 700 {shown}")


def check_programs(*names: str) -> None:
    """Raise OperatorError if a program of the shell, or one of `names`, is not installed."""
    packages = {SSHD: "openssh-server", BASH: "bash", "/usr/bin/setsid": "util-linux"}
    packages |= {f"/usr/bin/{name}": "coreutils, grep and sed" for name in ("env", *filters.NAMES)}
    for path in (BASH, *(f"/usr/bin/{name}" for name in ("env", *filters.NAMES)), *names):
        if not os.access(path, os.X_OK):
            message = f"{path} is missing; it is in Debian's package {packages[path]}"
            raise OperatorError(rules.DOOR_PROGRAM, message, advised=True)


def make(places: DoorPlaces, login: str) -> None:
    """Make or renew the files of the door; OperatorError if the store can't be written.

    Existing keys stay.  A session that runs meanwhile finds old or new commands, each whole.
    """
    try:
        for folder in (places.door, places.files):
            make_folder(folder)
            _check_private(folder)
        with _alone(places.door):
            places.commands.mkdir(mode=0o700, exist_ok=True)
            _make_commands(places)
            replace_private(places.start, start_file().encode())
            write_program(places.forced, forced_program(places, login))
            _make_host_key(places.door / HOST_KEY)
    except OSError as error:
        raise _refused(f"{error.filename or places.door}: {error.strerror or error}") from None


def authorized_keys(places: DoorPlaces) -> Path:
    """Return the file of the keys that may log in.  OperatorError if another user can write it.

    A missing file is made empty: the operator adds keys while the door runs.
    """
    path = places.door / AUTHORIZED
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        shown = shlex.quote(str(path))
        raise _refused(f"{path} must be a file that its user alone can write; chmod 600 {shown}")
    return path


def fingerprint(host_key: Path) -> str:
    """Return the fingerprint of a host key as OpenSSH shows it; OperatorError if the file is no such key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        public = load_ssh_private_key(host_key.read_bytes(), None).public_key()
        line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it is no private key in OpenSSH's format"
        raise _refused(f"{host_key}: {reason}; remove it, and the door makes a new one") from None
    digest = hashlib.sha256(base64.b64decode(line.split(b" ")[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _make_commands(places: DoorPlaces) -> None:
    """Make the folder of commands, and remove everything else from it."""
    write_program(places.commands / CLIENT, door_program(places.store, places.files))
    for name in LINES:
        link = places.commands / name
        if not link.is_symlink():
            link.symlink_to(CLIENT)
    for name in filters.NAMES:
        write_program(places.commands / name, filters.script(name, f"/usr/bin/{name}"))
    for path in places.commands.iterdir():
        if path.name in (CLIENT, *LINES, *filters.NAMES) or path.name.endswith(".new"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _make_host_key(path: Path) -> None:
    if path.exists():
        return
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = Ed25519PrivateKey.generate()
    content = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    replace_private(path, content)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other doors of the store from writing for the block; two may start at once."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        shown = shlex.quote(str(folder))
        raise _refused(f"{folder} must be a folder of its user alone; chmod 700 {shown}")


def _refused(message: str) -> OperatorError:
    return OperatorError(rules.DOOR_STORE, message, advised=True)
