"""`import swpks`: its names exist, are typed and load on first use; old import paths still work."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import swpks
import swpks.testing

ROOT = Path(__file__).resolve().parents[2]
MOVED = [
    ("hcall_client.boot", "hcall_client.guests.boot", "boot"),
    ("hcall_client.consumers", "hcall_client.guests.kernel", "LinuxKernel"),
    ("hcall_client.consumers.kernel", "hcall_client.guests.kernel", "Name"),
    ("hcall_client.testing", "swpks.testing", "emulated_partition"),
    ("hcall_client.testing.process", "swpks.testing.process", "ServerProcess"),
]


def typed_names(package) -> dict[str, str]:
    """Return the names in the block under TYPE_CHECKING, each with its module.

    Type checkers read only this block.
    """
    tree = ast.parse(Path(package.__file__).read_text("utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


@pytest.mark.parametrize("package", [swpks, swpks.testing], ids=lambda package: package.__name__)
def test_every_name_is_what_its_module_has(package):
    """A program gets from `swpks` the same objects that a type checker finds there."""
    typed = typed_names(package)
    assert set(package.__all__) - {"__version__"} == set(typed)
    for name, module in typed.items():
        assert getattr(package, name) is getattr(importlib.import_module(module), name)
    assert set(package.__all__) <= set(dir(package))


def test_old_import_paths_are_typed(tmp_path):
    """A type checker finds the same classes at an old import path, and reports an unknown name there."""
    (tmp_path / "old.py").write_text(
        "from hcall_client.consumers.kernel import Name\n"
        "from hcall_client.testing import ServerProcess, emulated_partition\n"
        "from hcall_client.testing.process import ServerFailed\n"
        "from hcall_client.boot import boot\n"
        "class Mine(ServerProcess): ...\n"
        "reveal_type((Name, ServerFailed, boot, emulated_partition))\n"
        "import hcall_client.testing\nhcall_client.testing.typo\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(tmp_path / "old.py")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    revealed, typo = done.stdout.splitlines()
    for name in (
        "guests.kernel.Name",
        "process.ServerFailed",
        "boot.BootedChain",
        "partition.EmulatedPartition",
    ):
        assert name in revealed
    assert 'has no attribute "typo"' in typo


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'swpks' has no attribute 'nonsense'"):
        _ = getattr(swpks, "nonsense")  # noqa: B009 - mypy knows that it is not there


def test_the_module_is_the_command():
    """`python -m swpks` runs the command `swpks`."""
    done = subprocess.run(
        [sys.executable, "-m", "swpks", "--version"], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"swpks {swpks.__version__}\n"


@pytest.mark.parametrize("old,new,name", MOVED, ids=[row[0] for row in MOVED])
def test_an_old_import_path_works_and_names_the_new_place(old, new, name):
    """An old import path still gives the same object, for one release.

    The warning names the line that imports it.
    """
    code = (
        f"import warnings\nwith warnings.catch_warnings(record=True) as warned:\n"
        f"    warnings.simplefilter('always')\n    from {old} import {name}\n"
        f"import importlib\nassert getattr(importlib.import_module({new!r}), {name!r}) is {name}\n"
        f"(warning,) = warned\nprint(warning.category.__name__, warning.filename, warning.message)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    category, where, text = done.stdout.split(maxsplit=2)
    assert (category, where) == ("DeprecationWarning", "<string>")
    assert new.startswith(text.strip().rpartition(" has moved to ")[2])
