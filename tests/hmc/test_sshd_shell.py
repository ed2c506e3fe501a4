"""The pure parts of the SSH door: filters, configuration, passwords, addresses, names of files."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import door as rules
from swpks.hmc.sshd import account, config, door, filters, layout, passwords, shell
from swpks.hmc.sshd.file_names import door_program, place
from tests.hmc.doors import password_file
from tests.rules.breaking import refused

PLACES = shell.DoorPlaces(Path("/store"))

REFUSED = """
cat /etc/passwd|cat -n /etc/passwd|cat -- /etc/passwd|cat - /etc/passwd|cat -z|cat -é|grep -f /etc/passwd
grep -f/etc/passwd x|grep -nof /etc/passwd|grep root -f /etc/passwd|grep --file=/etc/passwd
grep --fil=/etc/passwd|grep --file /etc/passwd|grep root /etc/passwd|grep -e root /etc/passwd
grep -eroot /etc/passwd|grep --regexp=root /etc/passwd|grep --regexp root /etc/passwd
grep -c -- root /etc/passwd|grep -r root|grep -R root .|grep --recursive root|grep --rec root
grep -d recurse x|grep --directories=recurse x|grep --exclude-from=/etc/passwd x|grep --include=x y
grep -nr root|sort -o /tmp/out|sort -no /tmp/out|sort -o/tmp/out|sort --output=/tmp/out
sort --out /tmp/out|sort - -o /tmp/out|sort --compress-program=id|sort --comp=id
sort --compress-program id -S 1k|sort --files0-from=/etc/passwd|sort --files0-from=-|sort --files0=-
sort -T /tmp|sort --temporary-directory=/tmp|sort --random-source=/etc/passwd|sort /etc/passwd
sort - /etc/passwd|sort -k 1 /etc/passwd|sort +1 /etc/passwd|sort -nk1 /etc/passwd|sort --debug
wc --files0-from=-|wc --files0-from=/etc/passwd|wc --files=/x|wc /etc/passwd|wc -l /etc/passwd
sed -f /etc/passwd|sed -n -f /etc/passwd|sed -nf/etc/passwd|sed --file=/etc/passwd|sed --fi=/etc/passwd
sed -i p x|sed -i.bak p x|sed -ni p x|sed --in-place p x|sed --in p x|sed p /etc/passwd
sed -e p /etc/passwd|sed -n -e p -- /etc/passwd|sed --expression=p /etc/passwd
sed --expression p /etc/passwd|sed --follow-symlinks p|tail -f|tail -F x|tail --follow=name x
tail --retry x|tail --pid=1|tail -s 1|tail /etc/passwd|tail +5|tail -5f|tail -n +1 /etc/passwd
head /etc/passwd|head -n 1 /etc/passwd|head -5 /etc/passwd|head -5k|head -5c /etc/passwd|tail -5c /etc/passwd
head -90cq /etc/passwd|tail -5c -- /etc/passwd|tail -cf /etc/passwd|tail -l /etc/passwd|head -5n /etc/passwd
cut -f 1 /etc/passwd
cut -d : -f1 /etc/passwd|cut --fields=1 /etc/passwd|tr a b /etc/passwd|tr -d a b /etc/passwd
""".replace("\n", "|").strip("|")

SANDBOXED = ("1e id", "e id", "w /tmp/out", "W /tmp/out", "r /etc/passwd", "R /etc/passwd", "s/a/id/e",
             "s/a/b/w /tmp/out")  # fmt: skip
"""Scripts of sed that its own sandbox refuses."""

PERMITTED = {
    "cat": "a:1\nb:2\n",
    "cat -": "a:1\nb:2\n",
    "grep -v a": "b:2\n",
    "grep -e a -": "a:1\n",
    "grep -m 1 -o [0-9]": "1\n",
    "grep --color=never b": "b:2\n",
    "grep -A1 a": "a:1\nb:2\n",
    "sed s/a/x/": "x:1\nb:2\n",
    "sed -n -e /a/p -e /b/p -": "a:1\nb:2\n",
    "head -1": "a:1\n",
    "head -n 1": "a:1\n",
    "tail -n +2": "b:2\n",
    "tail -1": "b:2\n",
    "sort -t : -k2,2 -nr": "b:2\na:1\n",
    "sort --reverse": "b:2\na:1\n",
    "cut -d : -f 2": "1\n2\n",
    "cut -d: -f1 --output-delimiter /": "a\nb\n",
    "tr a-b A-B": "A:1\nB:2\n",
    "tr -d :": "a1\nb2\n",
    "wc -l": "2\n",
    "sleep 0 0": "",
    "echo -n /etc/passwd -f": "/etc/passwd -f",
}

HOSTILE = {"BASH_ENV": "/dev/stdin", "POSIXLY_CORRECT": "1", "IFS": "/", "BASH_FUNC_refuse%%": "() { :; }",
           "SHELLOPTS": "noexec", "most": "9", "BASH_FUNC_printf%%": "() { :; }"}  # fmt: skip
"""An environment that a session could try to give to a filter."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that runs a filter's script, with a hostile environment."""
    folder = tmp_path_factory.mktemp("filters")
    for name in filters.NAMES:
        (folder / name).write_text(filters.script(name, f"/usr/bin/{name}"))
        (folder / name).chmod(0o755)

    def run(words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [folder / words[0], *words[1:]], input="a:1\nb:2\n", capture_output=True, text=True,
            check=False, timeout=10, cwd=folder, env={"PATH": "/nowhere", **HOSTILE},
        )  # fmt: skip

    return run


@pytest.mark.process
def test_filters_refuse_each_word_that_opens_a_file(run) -> None:
    """Files, programs, abbreviations, bundles, words behind operands and behind `--`: all are refused."""
    for line in REFUSED.split("|"):
        done = run(line.split(" "))
        assert (line, done.returncode, done.stdout) == (line, filters.REFUSED, "")
        assert "see spec/console.md#the-shell" in done.stderr
    for program in SANDBOXED:
        done = run(["sed", program])
        assert (program, done.returncode, done.stdout) == (program, 1, "")


@pytest.mark.process
def test_filters_do_their_work(run) -> None:
    """The forms that scripts use give the output of the real program."""
    for line, output in PERMITTED.items():
        done = run(line.split(" "))
        assert (line, done.returncode, done.stdout, done.stderr) == (line, 0, output, "")


def test_no_option_is_permitted_that_names_a_file() -> None:
    """The tables have none of the letters of GNU's options for files."""
    forbidden = {"grep": "fdDrR", "sort": "oTS", "sed": "fiI", "tail": "fFs"}
    for name, letters in forbidden.items():
        row = filters.FILTERS[name]
        assert not set(letters) & set(row.flags + row.valued)


def test_the_configuration_permits_keys_and_nothing_else() -> None:
    """sshd takes one user's keys; no forwarding, no password, no file of the user's own."""
    found = config.text(PLACES, "hmc", Path("/store/ssh/host_key"), Path("/store/ssh/100%/keys"))
    lines = dict(line.split(" ", 1) for line in found.splitlines())
    assert (lines["AllowUsers"], lines["AuthenticationMethods"]) == ("hmc", "publickey")
    assert lines["AuthorizedKeysFile"] == '"/store/ssh/100%%/keys"'
    assert lines["ForceCommand"] == "/store/ssh/session"
    off = ("PasswordAuthentication", "KbdInteractiveAuthentication", "AllowTcpForwarding", "PermitTunnel",
           "AllowAgentForwarding", "AllowStreamLocalForwarding", "X11Forwarding", "PermitUserEnvironment",
           "PermitUserRC", "UsePAM")  # fmt: skip
    assert {lines[each] for each in off} == {"no"}
    assert lines["DisableForwarding"] == "yes"
    assert not {"Subsystem", "AcceptEnv"} & lines.keys()


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_path_that_sshd_can_not_read(name: str) -> None:
    """Such a path is refused: it could end a word of the configuration."""
    assert refused(config.text, PLACES, "hmc", Path(name), Path("k")) is rules.DOOR_STORE


def test_the_session_has_its_own_environment() -> None:
    """PATH is the folder of commands; a malformed kind of terminal becomes `dumb`."""
    found = shell.environment(PLACES, "hscroot", "xterm-256color")
    assert (found["PATH"], found["HOME"], found["TERM"]) == (
        "/store/ssh/bin",
        "/store/files",
        "xterm-256color",
    )
    assert shell.environment(PLACES, "hscroot", "../x")["TERM"] == "dumb"
    assert "TERM" not in shell.environment(PLACES, "hscroot")
    assert shell.words(PLACES, "lshmc -V")[-2:] == ["-c", "lshmc -V"]
    assert "--restricted" in shell.words(PLACES, None)


def test_names_of_files(tmp_path) -> None:
    """FILE is a name below the folder: no path, no hidden file, no option, no link."""
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert place("key", str(tmp_path)) == f"{tmp_path}/key"
    for name in ("/etc/passwd", "a/b", "..", ".", ".hidden", "-f", "link", "../x"):
        with pytest.raises(OSError, match=r"a name in STORE|symbolic link"):
            place(name, str(tmp_path))
    program = door_program(tmp_path, tmp_path / "files")
    compile(program, "swpks-line", "exec")
    assert program.rstrip().endswith("sys.exit(main())")


def test_password_files(tmp_path) -> None:
    """Lines are USER:PASSWORD; the password may have colons.  Only the right pair is accepted."""
    found = passwords.read(password_file(tmp_path, "# c\n\nhscroot:a:b\r\npe.pe:é\n"))
    assert found.accept("hscroot", "a:b")
    assert found.accept("pe.pe", "é")
    assert not any(
        found.accept(*each) for each in (("hscroot", "é"), ("x", "a:b"), ("hscroot", ""), ("", ""))
    )
    assert "a:b" not in repr(found)


@pytest.mark.parametrize(
    "text, mode",
    [("a:b\n", 0o640), ("a:b\n", 0o604), ("a:b\n", 0o700), ("", 0o600), ("a\n", 0o600), ("a:\n", 0o600),
     (":b\n", 0o600), ("a b:c\n", 0o600), ("a:b\na:c\n", 0o600), ("a:b\n" * 20000, 0o600)],
)  # fmt: skip
def test_password_files_that_are_refused(text: str, mode: int, tmp_path) -> None:
    """The refusal has the number of the line, and never its text."""
    with pytest.raises(OperatorError) as caught:
        passwords.read(password_file(tmp_path, text, mode))
    assert caught.value.rule is rules.DOOR_PASSWORDS
    assert "a:b" not in str(caught.value)


def test_other_password_files(tmp_path) -> None:
    """A missing file, a folder and bytes that are no text are refused."""
    assert refused(passwords.read, tmp_path / "none") is rules.DOOR_PASSWORDS
    assert refused(passwords.read, tmp_path) is rules.DOOR_PASSWORDS
    assert refused(passwords.parse, b"a:\xff\n", tmp_path) is rules.DOOR_PASSWORDS


@pytest.mark.parametrize(
    "text, found",
    [("127.0.0.1:22", ("127.0.0.1", 22)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_addresses_of_loopback(text: str, found: tuple[str, int]) -> None:
    """An address of loopback needs no further option."""
    assert door.address(text, insecure=False) == found


@pytest.mark.parametrize("text", ["0.0.0.0:22", "[::]:22", "host.example:22", "10.0.0.1:22"])
def test_other_addresses_need_an_option(text: str) -> None:
    """Any other address is refused without --insecure-listen."""
    assert refused(door.address, text, insecure=False) is rules.DOOR_LISTEN
    assert door.address(text, insecure=True)[1] == 22


@pytest.mark.parametrize("text", ["", "127.0.0.1", "22", "127.0.0.1:65536", "a:b", "::1:22", "a b:1"])
def test_malformed_addresses(text: str) -> None:
    """Another form is refused in any case."""
    assert refused(door.address, text, insecure=True) is rules.DOOR_LISTEN


def test_the_user_of_a_door(monkeypatch) -> None:
    """Root has to name a user; any other user can name only itself."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert refused(account.choose, None) is rules.DOOR_USER
    assert refused(account.choose, "no-such-user") is rules.DOOR_USER
    assert account.choose("nobody").name == "nobody"
    nobody = account.choose("nobody").user
    monkeypatch.setattr("os.geteuid", lambda: nobody)
    assert refused(account.choose, "root") is rules.DOOR_USER


def test_stores_that_are_refused(tmp_path) -> None:
    """A folder without a console's database, of another user, or open to others is refused."""
    store = tmp_path / "hmc"
    assert refused(layout.check_store, store, os.geteuid(), "me") is rules.DOOR_STORE
    store.mkdir(mode=0o700)
    assert refused(layout.check_store, store, os.geteuid(), "me") is rules.DOOR_STORE
    (store / "console.sqlite").touch()
    layout.check_store(store, os.geteuid(), "me")
    assert refused(layout.check_store, store, os.geteuid() + 1, "other") is rules.DOOR_STORE
    store.chmod(0o750)
    assert refused(layout.check_store, store, os.geteuid(), "me") is rules.DOOR_STORE


def test_the_files_of_a_door(tmp_path) -> None:
    """A start makes private files, keeps the host key, and removes foreign commands."""
    places = shell.DoorPlaces(tmp_path)
    layout.make(places, "hscroot")
    key = places.door / layout.HOST_KEY
    before = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    (places.commands / "id").symlink_to("/usr/bin/id")
    layout.make(places, "hscroot")
    assert key.read_bytes() == before
    assert not (places.commands / "id").is_symlink()
    assert layout.fingerprint(key).startswith("SHA256:")
    key.write_text("x")
    assert refused(layout.fingerprint, key) is rules.DOOR_STORE
    layout.authorized_keys(places).chmod(0o666)
    assert refused(layout.authorized_keys, places) is rules.DOOR_STORE


def test_missing_programs_and_libraries(monkeypatch) -> None:
    """The refusal names Debian's package, or the extra."""
    monkeypatch.setattr("os.access", lambda path, mode: path != layout.SSHD)
    with pytest.raises(OperatorError, match="openssh-server"):
        layout.check_programs(layout.SSHD)
    from swpks.hmc.sshd import password_door

    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(OperatorError, match=r"swpks\[ssh\]"):
        password_door.check_installed()


def test_no_other_verb_imports_the_door() -> None:
    """The parser and all verbs of `swpks hmc` but `sshd`, and `swpks serve`, load no module of the door."""
    program = (
        "import sys; from swpks.cli.main import whole_parser; whole_parser()\n"
        "import swpks.cli.hmc_serve, swpks.cli.serve, swpks.hmc.process, hcall_server.service.server\n"
        "print([name for name in sys.modules if 'sshd' in name or name == 'asyncssh'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['swpks.cli.hmc_sshd']\n"


@pytest.mark.process
def test_root_gives_up_its_rights_for_good() -> None:
    """After the change no right of root is left.  A user that can't read swpks is refused then.

    Another user than root stays itself: it has nothing to give up.
    """
    name = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    program = (
        "import os, sys; from hcall_abi.errors import OperatorError; from swpks.hmc.sshd import account\n"
        "chosen = account.choose(sys.argv[1])\n"
        "try: account.become(chosen)\n"
        "except OperatorError as error: print(error.rule.id)\n"
        "else: print('door.user')\n"
        "print({*os.getresuid()} == {chosen.user}, {*os.getresgid()} == {chosen.group})\n"
        "try: os.setuid(0)\n"
        "except PermissionError: print('for good')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
    assert done.stdout == "door.user\nTrue True\nfor good\n"
