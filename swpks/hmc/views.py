"""The answers to the console's own verbs, as msgspec structs (spec/console.md#own-verbs).

Times are in seconds since 1970 (UTC).
"""

from __future__ import annotations

from hcall_abi.control_views import View


class KnownSystemView(View):
    """A system that the console knows; `state` and `partitions` are those of the last contact.

    `since` is the time since when it has been connected or away.  If it is away, `trouble` is the reason,
    and `advice` the remedy.  A system of the command line that was never reached has no serial number and
    no id. Its name is "" if none was given.

    Each store of the system has a newest copy.  `copied` is the time of the oldest of these copies, null if
    there is none.  `age` is the age of this copy in seconds, by the console's clock. `without_copy` names
    the partitions that have no copy.  `waiting` has a line for each partition that is not served, with the
    reason and the remedy.
    """

    name: str
    type_model_serial: str
    system_id: str
    where: str
    connected: bool
    since: float
    trouble: str
    state: str | None
    partitions: int | None
    copied: int | None
    age: float | None
    without_copy: list[str]
    advice: str = ""
    waiting: list[str] = []


class RemovedSystemView(View):
    """A removed system.

    `trouble` is the reason why the system still stores the console's id, "" if it does not.
    """

    name: str
    trouble: str


class StoredCopyView(View):
    """A copy of a store that the console holds; `age` is in seconds, by the console's clock."""

    system: str
    partition: str
    uuid: str
    restores: int
    generation: int
    time: int
    age: float
    received: float
    keystore_kbytes: int
    firmware_level: str
    trusted_key_id: str


class JobView(View):
    """A job of the console.

    `waiting` is the reason why the job waits, "" if it does not wait.  `rule_id` is the rule of its failure,
    "" if it has not failed.  The last line of a failed job is the error message; `advised`: this line has the
    remedy already.
    """

    number: int
    kind: str
    system: str
    state: str
    done: int
    total: int
    lines: list[str]
    waiting: str = ""
    rule_id: str = ""
    advised: bool = False
