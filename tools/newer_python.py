"""An environment of the newest Python on this machine, for the smoke test of `make test`.

    python -m tools.newer_python

It is in `FOLDER`; each version of Python that runs this module has a folder of its own. It holds the
packages of swpks and pytest, from requirements-dev.lock with its hashes. A second run does nothing, until
the lock or the newest Python changes. A missing Python is no failure, nor are wheels that can't be
installed. Then `why-not` in the folder has the reason, and the test shows it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-newer-than-{}.{}".format(*sys.version_info)
TESTS = ("pytest", "pytest-trio", "hypothesis", "coverage")
_VERSION = "import sys, venv; print('%d.%d.%d%s' % sys.version_info[:4])"
_NAME = re.compile(r"python3\.(\d+)")

NONE_NEWER = "no Python newer than"
"""The reason that a machine may have for no environment."""


def main(folder: Path) -> None:
    """Make the environment, or write the reason why there is none."""
    found = newest()
    if found is None:
        running = ".".join(map(str, sys.version_info[:2]))
        note(folder, f"{NONE_NEWER} {running} is on this machine")
        return
    python, version = found
    lock = requirements()
    stamp = folder / "made-of"
    made_of = f"{python} {version}\n{lock}"
    if stamp.is_file() and stamp.read_text("utf-8") == made_of:
        return
    shutil.rmtree(folder, ignore_errors=True)
    # Some Pythons of Debian have no ensurepip. So the pip of the running Python installs into the new
    # environment.
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True, capture_output=True)
    requirements_file = folder / "requirements.lock"
    requirements_file.write_text(lock, "utf-8")
    pip = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check"]
    place = ["--python", str(folder / "bin" / "python")]
    wheels = ["--no-compile", "--only-binary", ":all:", "--require-hashes", "-r", str(requirements_file)]
    done = subprocess.run([*pip, *place, "install", *wheels], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["pip says nothing"]
        note(folder, f"the wheels of the lock can't be installed for Python {version}: {lines[-1]}")
        return
    stamp.write_text(made_of, "utf-8")


def note(folder: Path, reason: str) -> None:
    """Write the reason into the folder, in place of an environment."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # A test reads this file, and shows the text as the reason why it is skipped.
    (folder / "why-not").write_text(reason + "\n", "utf-8")


def newest() -> tuple[Path, str] | None:
    """Return the newest released Python that is newer than the running one, and its version."""
    found = [(each, version) for each in candidates() if (version := version_of(each)) is not None]
    newer = [(key(version), each, version) for each, version in found if key(version) > sys.version_info[:2]]
    return max(newer)[1:] if newer else None


def key(version: str) -> tuple[int, ...]:
    """Return major, minor and micro number of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def candidates() -> Iterator[Path]:
    """Yield each interpreter whose name has a newer version, once.

    Those on the PATH come first, then those of pyenv.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    folders = [*map(Path, os.environ.get("PATH", "").split(os.pathsep)), *sorted(pyenv.glob("*/bin"))]
    seen: set[Path] = set()
    for folder in folders:
        for path in sorted(folder.glob("python3.*")) if folder.is_dir() else ():
            name = _NAME.fullmatch(path.name)
            # The resolved path is compared: several names may be links to one interpreter.
            if name and int(name[1]) > sys.version_info[1] and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def version_of(python: Path) -> str | None:
    """Return the version of an interpreter; None if it is a preview, or cannot make environments."""
    try:
        command: list[str | Path] = [python, "-c", _VERSION]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = done.stdout.strip()
    return version.removesuffix("final") if done.returncode == 0 and version.endswith("final") else None


def requirements() -> str:
    """Return the entries of the lock that swpks and the smoke test need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = closure([*project["dependencies"], *TESTS])
    lock = (ROOT / "requirements-dev.lock").read_text("utf-8")
    entries = re.findall(r"^(?!#)\S[^\n]*(?:\n[ ]+[^\n]*)*", lock, re.MULTILINE)
    return "\n".join(entry for entry in entries if name_of(entry) in needed) + "\n"


def closure(wanted: list[str]) -> set[str]:
    """Return the names of these distributions, and of all distributions that they require on this system."""
    found: dict[str, set[str]] = {}
    todo = [Requirement(each) for each in wanted]
    while todo:
        each = todo.pop()
        name, extras = name_of(each.name), {"", *each.extras}
        # Only new extras are followed. Two distributions may require each other, and the loop would not end.
        new = extras - found.setdefault(name, set())
        found[name] |= new
        try:
            more = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        todo += [one for one in more if any(applies(one, extra) for extra in new)]
    return set(found)


def applies(requirement: Requirement, extra: str) -> bool:
    """Return whether a requirement applies to this system and this extra; "" means no extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def name_of(requirement: str) -> str:
    """Return the normalized name in a requirement or an entry of a lock."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


if __name__ == "__main__":
    main(FOLDER)
