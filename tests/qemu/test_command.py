"""The command line of `swpks qemu`: options for QEMU with or without the separator, and wrong states."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules.console import SIZE_IN_USE
from hcall_abi.rules.rule import Rule
from hcall_abi.rules.storage import STATE_EMPTY
from swpks.cli import qemu, refusals
from swpks.cli.main import main
from swpks.qemu.boot import DiskBoot
from swpks.qemu.bootdisk import loader_of
from swpks.qemu.initrd import check_initrd
from swpks.qemu.run import MachineEnd
from swpks.testing import own_process
from swpks.testing.grub_disk import disk_image
from swpks.testing.own_process import OwnProcess, ServerFailed
from tests.qemu.running import fake_kernel, fake_qemu
from tests.qemu.test_bootdisk import loader

OURS = ("qemu", "--partition", "lpar1", "--kernel", "vmlinux")


@pytest.mark.parametrize(
    "words", ["-smp 2", "-hda disk", "--smp 2", "-option-of-a-later-qemu", "--trace -hda disk -- -m 2G"]
)
def test_a_forgotten_separator(capsys: pytest.CaptureFixture[str], words: str) -> None:
    """An unknown word is refused; the error says that options of QEMU follow after `--`."""
    assert main([*OURS, *words.split()]) == 2
    said = capsys.readouterr().err
    word = words.removeprefix("--trace ").split()[0]
    assert f"{word} is no option of swpks qemu; options of qemu-system-ppc64 go behind --" in said
    given = words.removeprefix("--trace ").partition(" -- ")[0]
    assert f"such as: -- {given}; for the usage" in said


@pytest.mark.parametrize(
    "words,advice",
    [
        ("--firmware FW950", "; it is an option of `swpks serve`; for the usage"),
        ("--tls-ca=ca.pem", "; it is an option of `swpks serve`, `swpks hmc serve`; for"),
        (
            "--name a",
            "; it is an option of `swpks serve`, `swpks hmc serve`; options of qemu-system-ppc64 go",
        ),
        ("--apend quiet", "--apend is no option of swpks qemu; did you mean --append?; for the usage"),
        (
            "--append console=hvc0 loglevel=8",
            "loglevel=8 is no option of swpks qemu; a value with spaces needs quotes, such as --append 'con",
        ),
        ("--keystore 64", "; the size of a keystore is part of the value: --partition NAME:64; for"),
        ("--nonsense", "--nonsense is no option of swpks qemu; for the usage"),
        ("initrd.img", "; a value needs its option before it, such as --initrd initrd.img; for the usage"),
        ("--trace initrd.img -- -m 2G", "; a value needs its option before it, such as --initrd initrd.img;"),
        (
            "-append quiet",
            "; did you mean --append?; options of qemu-system-ppc64 go behind --, such as",
        ),
        ("-patience 5", "-patience is no option of swpks qemu; did you mean --patience?; for the usage"),
    ],
)
def test_only_options_of_qemu_go_behind_the_separator(
    capsys: pytest.CaptureFixture[str], words: str, advice: str
) -> None:
    """An option of another command, a misspelt one and a value without an option have other advice."""
    assert main([*OURS, *words.split()]) == 2
    assert advice in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, stray",
    [("lpar1 --kernel K", "lpar1"), ("--partition lpar1 K", "K"), ("--partition a --trace K", "K")],
)
def test_a_missing_option_does_not_hide_a_stray_word(
    words: str, stray: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error for a missing option also names the word that stands without an option."""
    assert main(["qemu", *words.split()]) == 2
    said = capsys.readouterr().err
    assert "required: --" in said
    assert f"; {stray} stands without an option: --partition NAME" in said


@pytest.mark.parametrize("words", ["--kernel K", "--partition=a --trace", "--partition a -- -m 2G"])
def test_a_missing_option_alone(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stray word, the error names none."""
    assert main(["qemu", *words.split()]) == 2
    assert "stands without" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "it has 0 bytes"),
        (b"\x7fELF\x02\x02", r"an ELF file, such as a kernel; an initramfs is a cpio archive"),
        (b"070707" + bytes(70), "of the old form, which Linux refuses: make it with `cpio -o -H newc`"),
        (b"\x04\x22\x4d\x18d", "compress it with `lz4 -l`"),
        (b"init".ljust(257, b"\0") + b"ustar\x0000", "this is a tar archive"),
        (bytes(5000), "it begins with 4096 zeros"),
        (b"hunter2 is the secret", "first bytes; .* an image of a disk .* by `-- -initrd '.*/an initrd'`"),
    ],
)
def test_an_initramfs_that_is_none(tmp_path: Path, content: bytes, reason: str) -> None:
    """A file that Linux does not unpack is refused before a server or QEMU starts; its bytes stay unshown."""
    path = tmp_path / "an initrd"
    path.write_bytes(content)
    with pytest.raises(OperatorError, match=reason) as caught:
        check_initrd(path)
    assert caught.value.rule.id == "command.file"
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    "begin",
    [
        *("303730373031", "00000000303730373031", "303730373032", "1f8b08", "425a6839"),
        *("fd377a585a00", "28b52ffd", "5d0000", "894c5a4f000d0a", "02214c18"),
    ],
)
def test_each_form_of_an_initramfs(tmp_path: Path, begin: str) -> None:
    """Each form that Linux unpacks is accepted, also behind zeros."""
    path = tmp_path / "initrd"
    path.write_bytes(bytes.fromhex(begin))
    check_initrd(path)


def test_what_is_behind_the_separator_is_for_qemu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words after the separator go to QEMU, even if `swpks qemu` has options of the same name."""
    assert main(["qemu", "--kernel", "vmlinux", "--", "--partition", "lpar1"]) == 2
    assert "required: --partition" in capsys.readouterr().err
    missing = str(tmp_path / "missing")
    append = ("--append", "-x y")  # a value with a dash
    assert main(["qemu", "--partition", "a", "--kernel", missing, *append, "--", "-smp", "2"]) == 2
    assert f"{missing}: No such file" in capsys.readouterr().err


@pytest.fixture
def boot_disk(tmp_path: Path) -> Path:
    """A disk with a boot loader."""
    path = tmp_path / "boot.img"
    path.write_bytes(disk_image(loader(), {}))
    return path


@pytest.mark.parametrize(
    "words,said",
    [
        ("--disk DISK --initrd initrd", "--initrd is not used with --disk: put it into the configuration"),
        ("--disk DISK --append quiet", "--append is not used with --disk"),
        ("--lock-boot-loader", "--lock-boot-loader needs --disk: without it no boot loader runs"),
        ("--boot-limit 5", "--boot-limit needs --disk"),
        ("--disk absent.img", "absent.img: No such file"),
        ("--disk DISK --boot-limit -1", "--boot-limit"),
        ("--disk DISK --boot-limit nan", "--boot-limit"),
    ],
)
def test_options_of_a_disk(
    capsys: pytest.CaptureFixture[str], boot_disk: Path, words: str, said: str
) -> None:
    """R-77: options that do not fit together are refused before a server or QEMU starts."""
    assert main([*OURS, *words.replace("DISK", str(boot_disk)).split()]) == 2
    assert said in capsys.readouterr().err


def test_a_failed_boot_has_the_last_lines(capsys: pytest.CaptureFixture[str], boot_disk: Path) -> None:
    """R-77: the exit status is 6; the message has the reason and the loader's own words."""
    boot = DiskBoot(boot_disk, Path("vmlinux"), loader_of(boot_disk))
    boot.tail.feed(b"error: missing or invalid signature magic.\r\ngrub> ")
    boot.fail("it waits at a prompt")
    assert qemu.status_of(MachineEnd.NOT_BOOTED, argparse.Namespace(), boot) == 6
    empty, *lines = capsys.readouterr().err.splitlines()
    assert empty == "", "the console's prompt has no end of line"
    assert lines[0] == (
        "swpks qemu: the boot loader has not started the kernel: it waits at a prompt; the last lines of its "
        "console:"
    )
    assert lines[1:] == ["  | error: missing or invalid signature magic."]


def test_the_help_has_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["qemu", "-h"])
    assert ended.value.code == 0
    page = " ".join(capsys.readouterr().out.split())
    for words in (
        "4 the guest has panicked",
        "5 the console has powered the partition off",
        "6 the boot loader",
        "DIR.log",
    ):
        assert words in page


@pytest.mark.parametrize(
    "words, told",
    [
        ("--partition lpar1 --partition=lpar2", "--partition is given 2 times: a machine is one partition"),
        ("--partition lpar1:64K", "--partition is NAME or NAME:KBYTES, not 'lpar1:64K': keystore_kbytes "),
        (
            "--partition a/b",
            "--partition is NAME or NAME:KBYTES, not 'a/b': 'a/b' is no name for a partition",
        ),
    ],
)
def test_the_partition_of_a_machine(capsys: pytest.CaptureFixture[str], words: str, told: str) -> None:
    """A second --partition is refused, and a wrong one is named with its form."""
    assert main(["qemu", "--kernel", "vmlinux", *words.split()]) == 2
    assert told in capsys.readouterr().err


def test_a_state_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the state can't be made, the error has the path and the remedy, without a traceback."""
    monkeypatch.setenv("PATH", fake_qemu(tmp_path))
    tmp_path.joinpath("file").touch()
    state = tmp_path / "file" / "state"
    words = ("--kernel", str(fake_kernel(tmp_path)), "--state", str(state))
    assert main(["qemu", "--partition", "lpar1", *words]) == 2
    said = capsys.readouterr().err
    assert f"swpks qemu: {state.parent}: " in said
    assert "; choose another --state [operator fault; rule server.starts" in said
    assert main(["qemu", "--partition", "lpar1", "--kernel", "vmlinux", "--state"]) == 2


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_a_server_that_refuses_to_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal of the server is one line with its own rule; a log that has nothing else is not kept."""
    monkeypatch.setenv("PATH", fake_qemu(tmp_path))
    state, log = tmp_path / "state", tmp_path / "state.log"
    state.mkdir(mode=0o700)
    (state / "letter").touch()
    words = ("--partition", "lpar1:8", "--kernel", str(fake_kernel(tmp_path)), "--state", str(state))
    assert main(["qemu", *words]) == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith(f"swpks qemu: `swpks serve --state {state}` does not start: {state} holds ")
    assert said.count("rule ") == 1
    assert "rule state.empty: " in said
    assert not log.exists()
    log.write_text("before\n")
    assert main(["qemu", *words]) == 2
    assert log.read_text().startswith("before\nswpks serve: ")


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize("words", ["", "last words"])
def test_a_server_that_ends_without_a_refusal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """The error has the last line of the log, and the log is kept; an empty one is removed."""
    monkeypatch.setenv("PATH", fake_qemu(tmp_path))
    monkeypatch.setattr(own_process, "COMMAND", ("sh", "-c", f"printf '{words}'; exit 1"))
    log = tmp_path / "state.log"
    kernel = str(fake_kernel(tmp_path))
    assert main(["qemu", "--partition", "a:8", "--kernel", kernel, "--state", str(tmp_path / "state")]) == 2
    (said,) = capfd.readouterr().err.splitlines()
    last = f"; the last line of its log {log}: last words" if words else ""
    assert f": the server ended before it was ready{last} [operator fault; rule server.starts: " in said
    assert log.exists() == bool(words)


@pytest.mark.parametrize("rule", [STATE_EMPTY, SIZE_IN_USE], ids=["plain", "with a message number"])
def test_the_error_of_another_command_is_read(rule: Rule) -> None:
    """An error that a command has printed is read back with its rule."""
    error = OperatorError(rule, "lpar1: a message [with brackets]; rule of thumb: none")
    found = refusals.read(f"swpks serve: {error}")
    assert found is not None
    assert (found.rule, found.message, str(found)) == (rule, error.message, str(error))
    assert refusals.read(f"swpks serve: {error}".replace(rule.id, "no.rule")) is None
    assert refusals.read(str(error)) is None


def test_a_state_with_a_path_that_is_too_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state with a path that is too long is refused before a folder or a log is made."""
    monkeypatch.setenv("PATH", fake_qemu(tmp_path))
    above = tmp_path / ("d" * 110)
    words = ("--kernel", str(fake_kernel(tmp_path)), "--state", str(above / "state"))
    assert main(["qemu", "--partition", "lpar1", *words]) == 2
    said = capsys.readouterr().err
    assert "choose a shorter --state [operator fault; rule socket.path" in said
    assert not above.exists()


@pytest.mark.parametrize("words", ["", "--initrd i", "--append root=/dev/sda -- -drive d", "-- -initrd i"])
def test_a_panic_without_a_root(capsys: pytest.CaptureFixture[str], words: str) -> None:
    """If --initrd is missing, the message about a panic says so. It proposes no root device."""
    parser = argparse.ArgumentParser()
    command = qemu.add_parser(parser.add_subparsers())
    found = command.parse_args([*OURS[1:], *words.split()])
    assert qemu.status_of(MachineEnd.PANIC, found) == 4
    said = capsys.readouterr().err
    assert "the guest has panicked; its console is above" in said
    assert ("give --initrd FILE" in said) == (words == "")


class _Version(OwnProcess):
    """A QEMU process that prints its version and ends."""

    @property
    def command(self) -> list[str]:
        return ["--version"]


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_the_log_is_private(tmp_path: Path) -> None:
    """A log that others could read becomes private, and its content stays."""
    log = tmp_path / "state.log"
    log.write_text("before\n")
    log.chmod(0o644)
    with pytest.raises(ServerFailed):
        _Version(tmp_path / "state").spawn()
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.read_text().startswith("before\n")
