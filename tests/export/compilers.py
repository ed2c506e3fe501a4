"""The C compilers of the tests, and the programs that they make."""

import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "c"
INCLUDE = ROOT / "swpks" / "include"


class Machine(NamedTuple):
    """A machine for which programs are compiled: its compiler, and the program that runs them."""

    name: str
    compiler: tuple[str, ...]
    runner: tuple[str, ...] = ()


MACHINES = (
    Machine("x86-64", ("gcc",)),
    # Static programs need no libraries of the other machine. The linker warns that getaddrinfo needs some.
    Machine("powerpc64", ("powerpc64-linux-gnu-gcc", "-static", "-Wl,--no-warnings"), ("qemu-ppc64",)),
)


class Programs:
    """Programs in C, each compiled once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, ...], Path] = {}

    def example(self, machine: Machine, name: str, *options: str) -> list[str]:
        """Return the command that runs a program of docs/examples/c; `options` are for the compiler."""
        return self._command(machine, name, EXAMPLES / f"{name}.c", *options)

    def of_text(self, machine: Machine, name: str, text: str) -> list[str]:
        """Return the command that runs a program with this text; the name is unique in a test run."""
        source = self._folder / f"{name}.c"
        source.write_text(text, "utf-8")
        return self._command(machine, name, source)

    def _command(self, machine: Machine, name: str, source: Path, *options: str) -> list[str]:
        compiled = self._made.get((machine.name, name, *options))
        if compiled is None:
            compiled = self._folder / f"{len(self._made)}-{name}"
            compile_c(*machine.compiler, "-std=gnu99", "-O2", *options, "-o", str(compiled), str(source))
            self._made[machine.name, name, *options] = compiled
        return [*machine.runner, str(compiled)]


def compile_c(*words: str) -> None:
    """Run a compiler; every warning is an error, and its message that of an AssertionError."""
    command = [*words, "-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def output(command: list[str], *arguments: str) -> str:
    """Run a program that must succeed, and return its standard output."""
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
