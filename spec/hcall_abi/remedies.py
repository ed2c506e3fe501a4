"""The remedies of refusals with a SWPK number, by the id of the rule.

Page: spec/console.md#message-numbers.  A line prints the finding of the case and then this text.  Words in
backquotes are a command for a console; replace its words in capitals.  A refusal whose own text has the
remedy is `advised`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Remedies are no part of the rules. The sentence of a rule is a condition for every reader. A remedy is an
# order for the operator of a console. A test parses each command in backquotes with the real parsers.
_PROGRAM = "this is a fault of the program that sent it: correct that program"
_BUG = "this is a fault of swpks: report it, with the lines of the log"
_SPACE = "make room on the disk of the console's store, or mount it for writing; the log has the reason"
_NVRAM = (
    "see `swpks hmc health -m SYSTEM`, and make the disk of that system's state writable; then order again. "
    "If a file of NVRAM is gone or another one: stop the server, put the file back, and start it; if there "
    "is none any more: `swpks hmc replace service-processor --state DIR` before the start, then recover"
)
_SCARCE = "raise this limit of the host, or end other programs; then repeat the command"
_OFF = "`chsysstate -r lpar -m SYSTEM -n NAME -o shutdown --immed` powers it off"
_TARGET = "choose another target"
_AGAIN = "the attempt has ended, and the partition is where it was: order the migration again"
_OTHER_COPY = "take another copy: `swpks hmc copies -m SYSTEM` lists those of the console"
_KEY = "restore the key from its file: `chtskey -o restore -m SYSTEM --newkey FILE`"
_LIST = "see `lssyscfg -r lpar -m SYSTEM -F name,lpar_id,state`"
_HELP = "`COMMAND --help` prints its usage"

_LINES = {
    "line.command": "`swpks hmc --help` lists the verbs, and spec/console.md#lines the lines",
    "line.option": _HELP,
    "line.needed": _HELP,
    "line.choice": _HELP,
    "line.record": 'write NAME=VALUE,NAME=VALUE, and a pair with commas in quotes: "NAME=A,B"',
    "line.attribute": "spec/console.md#changes has the attributes that a record can set",
    "line.value": "spec/console.md#changes has the values of each attribute",
    "line.later": "use the terminal of the machine that runs the guest, such as that of swpks qemu",
    "line.system-on": "start its server: `swpks serve --state DIR`",
    "line.job": "remove the cause, and repeat the command; `swpks hmc jobs` shows the job",
    "line.size": "divide the line into several ones",
}
_SYSTEMS = {
    "hmc.system-known": "`swpks hmc systems` lists the systems; add one: `swpks hmc add-system WHERE`",
    "hmc.system-named": "name the system with -m; `swpks hmc systems` lists them",
    "hmc.file": "name a file that you can read, or a path where you can write",
    "hmc.watchers": "end another `swpks hmc status --watch`, or wait until one ends",
    "hmc.page-place": "write --page 127.0.0.1:8080, or [::1]:8080",
    "hmc.page-loopback": "take 127.0.0.1, or permit it by --insecure-listen",
    "hmc.page-packages": "install swpks with its extra: pip install 'swpks[console]'",
    "hmc.page-host": "use the address of --page, or name the host in --page",
    "console.served": (
        "start that system (`swpks serve --state DIR`), or correct its place (`swpks hmc add-system WHERE`)"
    ),
    "console.answer": "see that a server of swpks, and no other program, listens at the place of the system",
    "console.timeout": "choose a --timeout in this range",
    "system.operating": "see `swpks hmc status -m SYSTEM`; in Recovery: `swpks hmc recover -m SYSTEM`",
    "recovery.state": (
        "`swpks hmc status -m SYSTEM` shows the partitions; one store is put back by "
        "`swpks hmc restore FILE -m SYSTEM`"
    ),
    "recovery.complete": (
        "restore the others (`swpks hmc recover -m SYSTEM`), or accept their loss "
        "(`swpks hmc recover -m SYSTEM --give-up`)"
    ),
    "system.name-form": "choose a name of 1 to 31 letters, digits, blanks, dots, dashes or underscores",
    "hmc.system-own-name": "use the system's own name, or leave NAME= out",
    "hmc.system-name-new": (
        "choose a name that no other system has (`swpks hmc systems` lists them); "
        "a system at DIR is renamed by `swpks hmc name NAME --state DIR`"
    ),
    "hmc.system-place": "remove the system that has left this place: `swpks hmc remove-system SYSTEM`",
    "hmc.store-file": "bring the store back from a backup, or begin a new one: `swpks hmc serve --store DIR`",
    "hmc.store-level": "use the release of swpks that has written the store, or a later one",
    "hmc.store-owner": "stop the other console, or choose another store: `swpks hmc serve --store DIR`",
    "hmc.store-written": _SPACE,
    "hmc.job-known": "`swpks hmc jobs` lists the jobs",
    "hmc.job-alone": "wait for the end of the running job: `swpks hmc jobs` lists the jobs",
    "hmc.recovery-empty": (
        "`swpks hmc health -m SYSTEM` shows whether it works; one store is put back by "
        "`swpks hmc restore FILE -m SYSTEM`; all stores are put back after its partitions are deleted"
    ),
    "hmc.recovery-copies": "to keep the stores: bring the missing copies or their key back, and repeat it",
    "hmc.profile-file": "name a file that `bkprofdata -m SYSTEM -f FILE` has written",
    "hmc.profile-level": "use the release of swpks that has written the backup, or a later one",
    "hmc.profile-name": "use a bare name for the folder of the system, or a path that begins with / or ./",
    "hmc.profile-state": "wait until the system is Operating: `lssyscfg -r sys -m SYSTEM -F name,state`",
    "hmc.profile-idle": _OFF,
    "hmc.profile-forced": "repeat it with --forcekeystore if these objects may be lost",
    "console.attached": (
        "stop the other console, or take the system out of it there: `swpks hmc remove-system SYSTEM`"
    ),
    "console.known": "remove the system from this console, and add it again: `swpks hmc add-system WHERE`",
    "console.copy": "nothing is to be done: the system asks the console for a new copy",
    "console.stored": _NVRAM,
    "events.streams": "end other programs that read the events of this system",
    "console.layout": "the system begins a new record: attach it again (`swpks hmc add-system WHERE`)",
    "console.place": (
        "write the path of a control socket, or https://HOST:PORT; for the latter start the console with "
        "--tls-cert, --tls-key and --tls-ca"
    ),
    "hmc.wire": _PROGRAM,
    "hmc.operation": _PROGRAM,
    "hmc.store-folder": "choose a folder of your own, or a new one: `swpks hmc serve --store DIR`",
    "hmc.target": "name one end: --store DIR for a console, or --state DIR for a system",
    "hmc.links": "choose a new folder: `swpks hmc links DIR`",
    "hmc.stopped": "start the console again (`swpks hmc serve --store DIR`), and see `swpks hmc jobs`",
    "system.identity": "another system is at this place: see `swpks hmc systems`, and correct its place",
    "hmc.where": "`lssyscfg -r lpar -m SYSTEM -F name,state` shows whether it runs there",
}
_PARTITIONS = {
    "name.form": (
        "choose a name of 1 to 31 letters, digits, dots, dashes or underscores, "
        "with a letter or digit at its begin"
    ),
    "name.new": f"choose another name; {_LIST}",
    "name.unreadable": "restore or delete the unreadable partition: `swpks hmc status -m SYSTEM` names it",
    "name.path": "choose a shorter name that is no path",
    "partition.id": "delete a partition that is not used: `rmsyscfg -r lpar -m SYSTEM -n OTHER`",
    "size.range": "choose 0, or a size in the range",
    "size.total": "choose a smaller size, or switch another keystore off (keystore_kbytes=0)",
    "size.shrinks": "keep the size, or delete all objects and set keystore_kbytes=0",
    "size.running": _OFF,
    "attribute.known": "`swpks hmc set --help` lists the attributes",
    "attribute.form": "write each attribute once, as ATTRIBUTE=VALUE",
    "attribute.range": "choose a value in the range; `swpks hmc set --help` lists them",
    "attribute.running": _OFF,
    "attribute.keystore": "set keystore_kbytes to a size as well",
    "attribute.needs": "set the other attribute as well, or choose a firmware level that has the call",
    "power.counted": _NVRAM,
    "power.opened": (
        "see the reason (`swpks hmc status NAME -m SYSTEM`), and restore a copy "
        "(`swpks hmc restore FILE -m SYSTEM`)"
    ),
    "power.stored": (
        "see the reason (`swpks hmc status NAME -m SYSTEM`), and restore a copy "
        "(`swpks hmc restore FILE -m SYSTEM`)"
    ),
    "partition.number": f"choose another partition id; {_LIST}",
    "partition.off": _OFF,
    "partition.empty": "if the objects may be destroyed: `swpks hmc delete NAME --destroy -m SYSTEM`",
    "partition.stored": _NVRAM,
    "attribute.idle": _OFF,
}
_COPIES = {
    "trusted-key.file": "name a file of exactly 32 bytes, such as one of `head -c 32 /dev/urandom >FILE`",
    "trusted-key.layout": "replace the part and recover: `swpks hmc recover -m SYSTEM`",
    "trusted-key.sealed": _KEY,
    "trusted-key.set": "switch a keystore on, or set a key: `chtskey -o change -m SYSTEM --newkey FILE`",
    "trusted-key.operation": "`chtskey --help` prints which files go with which -o",
    "trusted-key.old": "name the file of the present key; its id: `lstskey -m SYSTEM`",
    "trusted-key.idle": _OFF,
    "copy.header": f"this is no copy of swpks, or it is damaged; {_OTHER_COPY}",
    "copy.level": "use the release of swpks that has made the copy, or a later one",
    "copy.length": f"the copy is cut off; {_OTHER_COPY}",
    "copy.key": _KEY,
    "copy.authentic": f"the copy is damaged; {_OTHER_COPY}",
    "copy.contents": f"the copy is damaged; {_OTHER_COPY}",
    "copy.counters": "no larger counter is left: delete the partition, and make it again",
    "backup.file": "name a file that you can read, or a path where you can write",
    "copy.idle": _OFF,
    "backup.stored": _NVRAM,
    "copy.behind": f"{_OTHER_COPY}; without --not-older an older one is restored",
}
_PROTOCOL = {
    "request.form": _PROGRAM,
    "request.path": _PROGRAM,
    "request.method": _PROGRAM,
    "request.time": "send the whole request at once; the network or the program is too slow",
    "request.size": "send a smaller file",
    "request.json": _PROGRAM,
    "request.answered": _BUG,
    "nvram.commit": _NVRAM,
    "access-key.stored": _NVRAM,
    "flush.finished": "see `swpks hmc health -m SYSTEM`, and repeat it when NVRAM writes again",
    "scarce.descriptors": _SCARCE,
    "scarce.memory": _SCARCE,
    "scarce.threads": _SCARCE,
    "scarce.entropy": "wait until the host has random bytes, and repeat the command",
    "scarce.space": "make room on the disk, and repeat the command",
}
_MOVES = {
    "custody.owned": (
        "give the order to the owner: `lslparmigr -r lpar -m SYSTEM -F name,owner_sys_name` names it"
    ),
    "custody.confirmed": (
        "start the console that this system is attached to, or start the system with --without-console"
    ),
    "custody.idle": "wait for the end of its migration (`lslparmigr -r lpar -m SYSTEM`), or stop it",
    "custody.epoch": "order again; if it is refused again, bring back the newest store of the console",
    "custody.stored": _NVRAM,
    "custody.uuid": "another partition has the name now; order again",
    "arrival.level": f"{_TARGET}, or switch off an empty keystore (keystore_kbytes=0)",
    "arrival.size": f"make room on the target (keystore_kbytes=0 of other partitions), or {_TARGET}",
    "arrival.objects": f"remove those objects in the guest, or {_TARGET} of the same or a later level",
    "arrival.password": f"{_TARGET} of the same or a later level",
    "arrival.calls": f"{_TARGET} of the same or a later level",
    "arrival.name": "rename the other partition: `chsyscfg -r lpar -m SYSTEM -i name=NAME,new_name=OTHER`",
    "arrival.format": "bring both systems to the same release of swpks",
    "arrival.custody": "look at both systems: `lslparmigr -r lpar -m SYSTEM`",
    "mobility.listens": "start the target with --mobility tcp:HOST:PORT or --mobility unix",
    "mobility.reached": "check the way to the address of the target: `lslparmigr -r sys -m SYSTEM`",
    "mobility.proven": f"another program is at the address, or the target was restarted; {_AGAIN}",
    "mobility.form": f"the network has damaged a message, or it is another program; {_AGAIN}",
    "mobility.size": f"this is a fault of the other end; {_AGAIN}",
    "mobility.time": f"the other system or the network is too slow; {_AGAIN}",
    "migration.systems": "name two systems of this console; `swpks hmc systems` lists them",
    "migration.power": "order again",
    "migration.running": "nothing is to be done; `lslparmigr -r lpar -m SYSTEM` shows the owners",
    "migration.decided": "bring it to its end (`migrlpar -o r -m SYSTEM -p NAME`), then move it back",
    "migration.force": (
        "recover it at the source (`migrlpar -o r -m SYSTEM -p NAME`), or restart it remotely "
        "(`rrstartlpar -o restart -m SYSTEM -t TARGET -p NAME`)"
    ),
    "migration.failed": "remove the cause, and order again at the system that owns the partition",
    "restart.capable": (
        "bring its own system back; while that runs: "
        "`chsyscfg -r lpar -m SYSTEM -i name=NAME,simplified_remote_restart_capable=1`"
    ),
    "restart.source": (
        "migrate it (`migrlpar -o m -m SYSTEM -t TARGET -p NAME`), or power that system off first"
    ),
    "restart.copy": "check the name; a partition without a copy waits for its own system: `swpks hmc copies`",
    "restart.key": (
        "set this key on that system, from its file: `chtskey -o restore -m SYSTEM --newkey FILE`; "
        "without the file, change the key of the source first (`chtskey -o change -m SYSTEM --newkey FILE`); "
        "the partition of a dead source waits for it"
    ),
    "restart.target": "bring that system back, and order again",
    "restart.cleanup": "see who owns it: `lslparmigr -r lpar -m SYSTEM -F name,owner_sys_name,custody`",
    "custody.barred": (
        "find the program that has ordered this; the record ends with `swpks asmi --state DIR reset-settings`"
    ),
}

REMEDIES: Mapping[str, str] = MappingProxyType(
    {**_LINES, **_SYSTEMS, **_PARTITIONS, **_COPIES, **_PROTOCOL, **_MOVES}
)
"""The remedies by the id of the rule: one for each number of ours."""


# In the remedies of these rules, SYSTEM and NAME are those of the line, and are filled in. In other remedies
# SYSTEM may be another system, such as the target.
OF_ONE_SYSTEM = frozenset(
    {
        *(*_PARTITIONS, *_COPIES, "hmc.recovery-empty", "recovery.state", "recovery.complete"),
        *("system.operating", "custody.owned", "custody.idle"),
    }
)
"""Rules whose remedy is about the system of the line: SYSTEM in the remedy is its name."""


def with_remedy(finding: str, rule_id: str) -> str:
    """Return a finding and the remedy of its rule; the finding alone if the rule has none."""
    remedy = REMEDIES.get(rule_id)
    return f"{finding}; {remedy}" if remedy else finding
