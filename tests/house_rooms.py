"""The rooms of the project, and the arrows between them: each room may import these rooms beside itself.

To change a row is to decide about the design; change ARCHITECTURE.md with it.
"""

_ABI = {"hcall_abi"}
_VERSION = {"hcall_server.__version__"}


def _server(*rooms: str) -> set[str]:
    """Return the names of these rooms of the server, and that of the contract."""
    return {f"hcall_server.{room}" for room in rooms} | _ABI


# room -> the other rooms that it may import. The first row that fits a module counts, so an inner room
# (hcall_client.guests) comes before the outer one.
ROOMS: dict[str, set[str]] = {
    "hcall_abi": set(),
    "hcall_server": set(),  # the package itself holds only its version
    "hcall_server.files": _ABI,
    "hcall_server.failpoints": set(),
    "hcall_server.folders": _ABI,
    "hcall_server.sqlite_lock": set(),
    # rooms of plain functions and values
    "hcall_server.keystore": _ABI,
    "hcall_server.secvar": _ABI,
    "hcall_server.wrapping": _ABI,
    "hcall_server.platform": _server("keystore"),
    "hcall_server.hcalls": _server("keystore", "secvar", "wrapping", "platform"),
    "hcall_server.sealing": _server("keystore", "platform"),
    # the seams, and the rooms that implement them
    "hcall_server.components": _server("files", "platform"),
    "hcall_server.nvram": _server("files", "sqlite_lock"),
    "hcall_server.faults": _server("keystore", "platform", "hcalls", "nvram"),
    "hcall_server.writeback": _server("keystore", "platform", "sealing", "nvram"),
    # rooms with tasks and threads
    "hcall_server.machine": _server(
        "failpoints", "keystore", "platform", "hcalls", "sealing", "nvram", "faults", "writeback"
    ),
    "hcall_server.mobility": _server("failpoints", "keystore", "platform", "sealing", "machine"),
    "hcall_server.process": _server("files", "folders", "machine"),
    "hcall_server.trace": _server("hcalls", "platform", "writeback", "machine"),
    "hcall_server.data_channel": _server("hcalls", "platform", "machine") | _VERSION,
    "hcall_server.control_channel": _server("keystore", "platform", "faults", "writeback", "machine")
    | _VERSION,
    "hcall_server.snapshots": _server(
        "failpoints", "files", "keystore", "platform", "sealing", "machine", "process"
    ),
    "hcall_server.service": _server(
        "files",
        "folders",
        "keystore",
        "platform",
        "sealing",
        "components",
        "nvram",
        "faults",
        "writeback",
        "machine",
        "mobility",
        "process",
        "data_channel",
        "control_channel",
        "snapshots",
        "trace",
    )
    | _VERSION,
    "hcall_client": _ABI,
    "hcall_client.guests": {"hcall_client"} | _ABI,
    # old import paths, kept for one release (CHANGELOG.md)
    "hcall_client.boot": {"hcall_client.guests"},
    "hcall_client.consumers": {"hcall_client.guests"},
    "hcall_client.testing": {"swpks.testing"},
    "swpks": {"hcall_client", "hcall_server.__version__", "swpks.cli", "swpks.testing"} | _ABI,
    "swpks.cli": {"hcall_client", "hcall_server.__version__", "hcall_server.folders", "swpks"} | _ABI,
    "swpks.cli.lpar_doubts": {"hcall_server.secvar", "swpks.cli.streams"} | _ABI,
    "swpks.cli.replace": {"hcall_server", "swpks.cli.refusals", "swpks.cli.streams"} | _ABI,
    "hcall_server.console": _server("failpoints", "files", "platform", "sealing", "sqlite_lock") | _VERSION,
    "swpks.hmc.sshd": _server(
        "files", "process.signals", "machine.logs", "machine.noise", "data_channel.sockets"
    )
    | {"swpks.hmc"}
    | _VERSION,
    "swpks.hmc.page": _server("control_channel.http", "data_channel.sockets", "machine.logs", "machine.noise")
    | {"swpks.hmc"}
    | _VERSION,
    "swpks.hmc": _server("console", "folders", "process", "machine.logs", "data_channel.sockets")
    | {"hcall_client"}
    | _VERSION,
    "swpks.cli.hmc_serve": _server("failpoints", "console", "process")
    | {"hcall_client", "swpks.cli.streams", "swpks.hmc"},
    "swpks.cli.hmc_sshd": _server("process") | {"swpks.cli.streams", "swpks.hmc.sshd"},
    "swpks.cli.nvram_options": {"hcall_server.nvram.etcd", "hcall_server.service"},
    "swpks.cli.serve": {"hcall_server", "swpks.cli.nvram_options", "swpks.cli.streams", "swpks.cli.where"}
    | _ABI,
    "swpks.cli.asmi": {
        *("hcall_server.service", "swpks.cli.nvram_options", "swpks.cli.refusals", "swpks.cli.streams"),
        "swpks.cli.where",
    }
    | _ABI,
    "swpks.cli.snapshot": {
        *("hcall_client", "hcall_server.service", "swpks.cli.nvram_options", "swpks.cli.passphrases"),
        "swpks.cli.refusals",
        *("swpks.cli.snapshot_output", "swpks.cli.snapshot_outside", "swpks.cli.streams", "swpks.cli.where"),
    }
    | _ABI,
    "swpks.cli.snapshot_outside": {"hcall_server.service"} | _ABI,
    "swpks.cli.capabilities": {
        *("hcall_server.components", "hcall_server.console", "hcall_server.machine", "hcall_server.mobility"),
        *("hcall_server.sealing", "hcall_server.service", "hcall_server.wrapping"),
        *("swpks.cli.main", "swpks.cli.streams", "swpks.cli.words", "swpks.hmc"),
    }
    | _ABI
    | _VERSION,
    "swpks.bench": {"hcall_client", "swpks.testing"} | _ABI,
    "swpks.conformance": {"hcall_client"} | _ABI,
    "swpks.demo": {"hcall_client", "hcall_server.nvram", "swpks.testing"} | _ABI,
    "swpks.qemu": {"hcall_client"} | _ABI,
    "swpks.testing": {"hcall_server", "hcall_client", "swpks._lazy", "swpks.hmc"} | _ABI,
}
