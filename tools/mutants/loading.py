"""Load the modules of this project that a mutant does not change."""

import ast
import importlib

from tools.mutants.rooms import ROOT
from tools.mutants.trial import module_name

PACKAGES = ("spec/hcall_abi", "hcall_server", "hcall_client", "swpks")


def load_unchanged(module: str) -> None:
    """Load those modules of this project that do not import `module`, directly or through other modules."""
    imported = _imports()
    changed = {module}
    # A module may have copied names of a changed module (`from ... import`). So each module that imports a
    # changed one counts as changed.
    while more := {name for name, names in imported.items() if names & changed} - changed:
        changed |= more
    for name in sorted(imported.keys() - changed):
        if not name.startswith("swpks"):  # pytest loads the plugin in swpks itself
            importlib.import_module(name)


def _imports() -> dict[str, set[str]]:
    """Return the modules that each module of this project imports, with the packages that contain these."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    trees = {
        module_name(path.relative_to(ROOT).as_posix()): ast.parse(path.read_text("utf-8")) for path in paths
    }
    found = {}
    for module, tree in trees.items():
        named = {module}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                named |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        whole = {name.rsplit(".", cut)[0] for name in named for cut in range(name.count(".") + 1)}
        found[module] = (whole & trees.keys()) - {module}
    return found
