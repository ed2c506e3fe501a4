"""The rules of the project's code: imports between rooms, pure rooms, sizes, and docstrings.

The rules are the tables at the top; a room is a package with a row. To change a row is to decide about the
design; change ARCHITECTURE.md with it.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hcall_server
from tests import house
from tests.house_rooms import ROOMS

ROOT = Path(__file__).resolve().parent.parent
OURS = ("hcall_abi", "hcall_server", "hcall_client", "swpks")

LAZY_SERVER = ("swpks.testing",)
SIMULATION = "swpks.testing.simulation"
"""Names of this package load their module at first use; a module of it is a whole world."""

# Modules that read the clock, chance, files, threads or the network, or that log. Pure code may use none of
# them: it gets their results through the seams.
WORLD = {
    "asyncio", "datetime", "logging", "os", "pathlib", "random", "secrets", "select", "selectors", "signal",
    "socket", "sqlite3", "subprocess", "tempfile", "threading", "time", "trio", "uuid",
}  # fmt: skip
# Plain values from the modules in WORLD. Pure code may use them.
VALUES = {"uuid.UUID"}
PURE = (
    "hcall_abi",
    *(f"hcall_server.{room}" for room in ("keystore", "secvar", "wrapping", "platform", "hcalls", "sealing")),
)
# Plain functions of bytes in the bridge to QEMU, in the TPMs, in the console's lines and in traces.
BYTES_ONLY = (
    *(f"swpks.qemu.{name}" for name in ("rsp", "registers", "callsites", "devicetree")),
    *(f"hcall_server.components.tpm.{name}" for name in ("blobs", "bounds", "codes", "commands")),
    *(f"hcall_server.console.{name}" for name in ("grammar", "options")),
    *(f"hcall_server.trace.{name}" for name in ("blanking", "cutting", "pcapng")),
    "swpks.cli.manual",
)
# State machines that never wait: the server's end of the data channel, and the flights to NVRAM.
SANS_IO = (
    *(f"hcall_server.data_channel.{name}" for name in ("conversation", "opening")),
    *(f"hcall_server.writeback.{name}" for name in ("book", "flights", "schedule", "waiters")),
    "hcall_client.event_lines",
)
# Modules that every h-call passes through. Each value in them has its type.
FULLY_TYPED = ("hcall_server.hcalls", "hcall_server.keystore", "hcall_server.data_channel")
WITHOUT_TRIO = tuple(f"hcall_client.{name}" for name in ("blocking", "busy", "calls", "console", "keys"))

# (module, patterns): the import of the module must not load any module that fits a pattern. The test imports
# it in a new process.
NEVER_LOADED = [
    ("hcall_client.blocking", {"trio", "hcall_server"}),
    ("hcall_client.calls", {"trio", "hcall_server"}),
    ("hcall_client.console", {"trio", "httpx", "hcall_server"}),
    ("swpks", {"trio", "hcall_abi", "hcall_client", "hcall_server.*"}),
    ("swpks.testing.pytest_plugin", {"trio", "hcall_client", "hcall_server.*"}),
    ("swpks.testing.console", {"hcall_server.*", "swpks.hmc", "sqlite3"}),
    ("hcall_server.keystore.store", {"trio", "sqlite3", "cryptography"}),
    ("hcall_server.hcalls.dispatch", {"trio", "sqlite3"}),
    ("hcall_server.secvar.update", {"trio", "cryptography"}),
    ("hcall_client.guests.authvar", {"trio", "hcall_server", "cryptography"}),
    ("hcall_server.platform.system", {"trio", "sqlite3"}),
    ("hcall_server.data_channel.conversation", {"trio", "sqlite3"}),
    (
        "hcall_server.service.assembly",
        {"sqlite3", "httpx", "starlette", "*.changes", "*.platform.whole", "*.custodian", "*.mobility.*"},
    ),
    ("hcall_server.components.tpm.kinds", {"socket", "trio", "outcome", "tpm2_pytss"}),
    ("hcall_server.sealing", {"trio", "sqlite3"}),
    ("hcall_server.service.server", {"starlette", "hypercorn", "httpx", "prometheus_client", "*.tls"}),
    ("swpks.cli.bench", {"trio", "matplotlib", "hcall_server.*"}),
    ("swpks.cli.asmi", {"trio", "sqlite3", "cryptography"}),
    (
        "swpks.cli.main",
        {"starlette", "hypercorn", "httpx", "prometheus_client", "matplotlib", "trio", "sqlite3"},
    ),
    ("swpks.cli.hmc", {"trio", "sqlite3", "httpx", "cryptography", "hcall_server.*"}),
    ("swpks.cli.hmc_line", {"trio", "msgspec", "hcall_client", "hcall_server.*"}),
    (
        "swpks.hmc.process",
        {
            "hcall_server.service.*",
            "starlette",
            "hypercorn",
            "prometheus_client",
            "jinja2",
            "swpks.hmc.page*",
        },
    ),
    ("hcall_server.service.server", {"jinja2", "swpks.*"}),
    ("swpks.cli.hmc_serve", {"trio", "jinja2", "starlette", "swpks.hmc.page*"}),
    ("hcall_server.service.server", {"hcall_server.console", "swpks.hmc", "hcall_client"}),
    ("hcall_server.service.server", {"hcall_server.mobility", "*.custodian", "*.arrival", "*.x25519"}),
    ("swpks.cli.serve", {"hcall_server.console", "swpks.hmc"}),
    ("swpks.cli.serve", {"*.call_log", "hcall_server.hcalls.call_fields"}),
    ("hcall_server.service.server", {"*.call_log", "hcall_server.hcalls.call_fields", "hcall_server.trace"}),
    (
        "hcall_server.service.assembly",
        {
            *(f"hcall_server.machine.{name}" for name in ("attachment", "events", "streams")),
            "hcall_server.sealing.console_*",
        },
    ),
    ("swpks.qemu.run", {"elftools", "httpx", "hcall_server.*"}),
]

CALLED_AS_ASYNC = {
    "_not_routed",  # a handler of Starlette
    *("encrypt_disk", "start_new", "refuse_copies"),  # a step of the demo
}

SERVER_CHAIN = 14
FILE_LINES = 400
FUNCTION_LINES = 50
SECRETS = {
    "access_key", "ciphertext", "data", "key", "new_password", "object_data", "old_password", "partition_key",
    "password", "plaintext", "proof", "root_key", "secret",
}  # fmt: skip

PACKAGES = [m for base, top in (("spec", "hcall_abi"), *(("", top) for top in OURS[1:]))
            for m in house.load(ROOT, base, top)]  # fmt: skip
TESTS = house.load(ROOT, "", "tests")
EVERYTHING = PACKAGES + TESTS + house.load(ROOT, "", "bench") + house.load(ROOT, "", "tools")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def expect_none(findings: Iterator[str], rule: str) -> None:
    """Fail if there is a finding; the message has the rule and one line for each finding."""
    found = list(findings)
    if found:
        pytest.fail("\n".join([rule, *found]), pytrace=False)


def over(modules: list[house.Module], check: Callable[[house.Module], Iterator[str]]) -> Iterator[str]:
    """Yield the findings of one check on many modules."""
    return (finding for module in modules for finding in check(module))


def in_rooms(*rooms: str) -> list[house.Module]:
    """Return the modules in these rooms."""
    return [module for module in PACKAGES if any(house.within(module.name, room) for room in rooms)]


def test_arrows_point_one_way() -> None:
    """Each import between rooms is in the table, also an import in a function or under TYPE_CHECKING."""
    expect_none(over(PACKAGES, lambda m: house.wrong_arrows(m, ROOMS, OURS)), "Arrows are fixed.")


def test_no_arrow_is_allowed_that_nobody_takes() -> None:
    """Each import that the table allows exists."""
    unused = {room: house.unused_arrows(in_rooms(room), room, ROOMS) for room in ROOMS}
    assert {room: arrows for room, arrows in unused.items() if arrows} == {}


def test_the_page_has_the_table_of_rooms() -> None:
    """ARCHITECTURE.md shows the same imports; it has the server's rooms by their short names."""
    rows = re.findall(
        r"^\| (`.*`) \| .* \| (.*) \|$", (ROOT / "ARCHITECTURE.md").read_text("utf-8"), re.MULTILINE
    )
    on_page = {
        _whole(room): {_whole(name) for name in re.findall(r"`([^`]+)`", arrows)}
        for rooms, arrows in rows
        for room in re.findall(r"`([^`]+)`", rooms)
    }
    assert on_page == ROOMS


def _whole(name: str) -> str:
    """Return the import name for a room that the page names."""
    return f"hcall_server.{name}" if f"hcall_server.{name}" in ROOMS else name


def test_no_modules_import_each_other_in_a_circle() -> None:
    """There is no circle of imports. A module in a circle could not be read without the others."""
    assert house.circles(PACKAGES) == []


def test_no_import_chain_of_the_server_is_long() -> None:
    """No chain of imports in the server is long, so a reader can follow each one to its end."""
    server = in_rooms("hcall_server")
    chain = house.longest_chain(server)
    assert len(chain) <= SERVER_CHAIN, " > ".join(chain)


def test_the_server_is_imported_lazily_by_test_helpers() -> None:
    """If a user's program imports our fixtures, the server is loaded only when the program starts one."""
    modules = [m for m in in_rooms(*LAZY_SERVER) if not house.within(m.name, SIMULATION)]
    expect_none(over(modules, lambda m: house.eager_imports(m, "hcall_server")), "Load the server lazily.")


def test_pure_rooms_touch_nothing_outside() -> None:
    """A pure room imports no clock, chance, files or threads; it gets them through the seams."""
    modules = in_rooms(*PURE)
    why = "this room is pure; take it through a seam"
    found = over(modules, lambda m: house.forbidden_imports(m, WORLD, why, but=VALUES))
    expect_none(found, "Pure rooms stay pure.")
    expect_none(over(modules, house.opened_files), "Pure rooms open nothing.")


def test_formats_touch_nothing_outside() -> None:
    """Packets, register maps, device trees and TPM commands use only bytes and values."""
    why = "this module is sans-I/O; the transport is another one"
    findings = over(in_rooms(*BYTES_ONLY), lambda m: house.forbidden_imports(m, WORLD, why))
    expect_none(findings, "Formats are sans-I/O.")


def test_conversations_and_flights_touch_nothing_outside() -> None:
    """Conversations and flights to NVRAM never wait. So their tests need no event loop, stream or clock."""
    why = "this part is sans-I/O; streams and deadlines belong to the connection, and to the encryptor's task"
    findings = over(in_rooms(*SANS_IO), lambda m: house.forbidden_imports(m, WORLD, why))
    expect_none(findings, "Conversations and flights are sans-I/O.")


def test_no_any_on_the_way_of_a_call() -> None:
    """No value on the path of an h-call has the type Any, because type checkers would not check it."""
    findings = over(
        in_rooms(*FULLY_TYPED), lambda m: house.forbidden_imports(m, {"typing.Any"}, "name the type")
    )
    expect_none(findings, "No Any here.")


def test_the_blocking_client_needs_no_trio() -> None:
    """The blocking channel and the typed calls do not import Trio."""
    modules = in_rooms(*WITHOUT_TRIO)
    expect_none(over(modules, lambda m: house.forbidden_imports(m, {"trio"}, "it is plain")), "No Trio here.")


@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize("module,unwanted", NEVER_LOADED, ids=[row[0] for row in NEVER_LOADED])
def test_importing_loads_nothing_unwanted(module: str, unwanted: set[str]) -> None:
    """In a new process, an import of a module loads no module that it must not need."""
    loaded = f"[name for name in sorted(sys.modules) for each in {unwanted!r} if fnmatch(name, each)]"
    code = f"import sys, {module}; from fnmatch import fnmatch; print(*{loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"import {module} failed:\n{done.stderr}"
    assert done.stdout.split() == [], f"import {module} loads {done.stdout.strip()}"


def test_files_are_small() -> None:
    """No file is too long to be read at once."""
    expect_none(over(EVERYTHING, lambda m: house.long_file(m, FILE_LINES)), "Files stay small.")


def test_a_class_name_stands_once() -> None:
    """No two classes have the same name, so a name in a traceback identifies its class."""
    assert house.classes_of_one_name(PACKAGES) == {}


def test_functions_are_small() -> None:
    """Each function fits on a screen."""
    expect_none(over(EVERYTHING, lambda m: house.long_functions(m, FUNCTION_LINES)), "Functions stay small.")


def test_public_names_are_described() -> None:
    """Every public module, class, function and method in the packages has a docstring."""
    expect_none(over(PACKAGES, house.missing_docstrings), "Public names are described.")


def test_no_function_is_async_for_nothing() -> None:
    """A function without an await is not async. It ends at once, and callers may rely on that."""
    modules = in_rooms("hcall_server", "hcall_client", "swpks")
    expect_none(over(modules, lambda m: house.idle_coroutines(m, CALLED_AS_ASYNC)), "Nothing is awaited.")


def test_no_prints_in_the_libraries() -> None:
    """Only the command line writes to standard output."""
    talks = ("swpks.cli", "swpks.demo")
    modules = [m for m in PACKAGES if not any(house.within(m.name, room) for room in talks)]
    expect_none(over(modules, house.prints), "No print() here.")


def test_no_asserts_in_the_packages() -> None:
    """The packages have no asserts. A run-time check must also work under python -O, and name its rule."""
    expect_none(over(PACKAGES, house.asserts), "No assert here.")


def test_no_secret_is_handed_to_a_log() -> None:
    """No log call gets a password, a key or object data as an argument."""
    expect_none(over(PACKAGES, lambda m: house.logged_secrets(m, SECRETS)), "Secrets never reach the log.")


def test_requirement_rows_and_tests_agree() -> None:
    """Tests name each requirement that is built, and no requirement that is unknown or not built yet."""
    page = "spec/requirements.md"
    rows = house.requirements((ROOT / page).read_text("utf-8"), page)
    expect_none(house.wrong_requirements(rows, house.named_rows(TESTS)), "The states of rows are true.")


def test_one_version_everywhere() -> None:
    """The package, pyproject.toml and the top of CHANGELOG.md have the same version."""
    assert hcall_server.__version__ == PYPROJECT["project"]["version"]
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    found = re.search(r"^## \[(\d[^\]]*)\]", changes, re.MULTILINE)
    assert found is not None
    assert found[1] == hcall_server.__version__


@pytest.mark.parametrize("package", ["spec/hcall_abi", *OURS[1:]])
def test_packages_say_that_they_are_typed(package: str) -> None:
    """Each package has py.typed, so type checkers of other projects use our annotations."""
    assert (ROOT / package / "py.typed").is_file()


FOREIGN_TO_THE_KEYSTORE = {
    f"hcall_abi.{name}" for name in ("arguments", "errors", "frames", "rules", "statuses", "structures")
}


def test_the_keystore_speaks_of_its_own_matters() -> None:
    """The keystore raises its own errors. Only `hcalls` knows statuses, registers and arguments."""
    keystore = [module for module in PACKAGES if house.within(module.name, "hcall_server.keystore")]
    assert len(keystore) > 8
    for module in keystore:
        why = "a keystore knows no status, no register and no argument"
        expect_none(
            house.forbidden_imports(module, FOREIGN_TO_THE_KEYSTORE, why), "The keystore's own words."
        )
