"""`swpks hmc replace PART --state DIR`: replace a part of a powered-off system."""

from __future__ import annotations

import argparse
import json

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules.hmc import HMC_TARGET
from hcall_abi.rules.rule import Fault
from hcall_abi.scarcity import scarcity_of
from hcall_server.service.layout import SERVICE_PROCESSOR, etcd_mark_path, replace_part
from hcall_server.service.locked import LockedState
from hcall_server.service.state_folder import trouble
from swpks.cli import streams
from swpks.cli.refusals import refuse

REFUSED, STORAGE = 1, 3
_ON_ETCD = (
    "; its records are still on etcd, and a start with the same --nvram and --nvram-prefix finds them: "
    "start without --nvram or with another prefix for an empty NVRAM"
)


def replace(args: argparse.Namespace) -> int:
    """Replace a part by a new one, and keep the old one; return the exit status.

    0 done, 1 refused, such as for a running system; 2 without --state; 3 the storage fails.
    """
    if args.state is None:
        raise OperatorError(
            HMC_TARGET, "name the powered-off system: --state DIR (or SWPKS_STATE)", advised=True
        )
    try:
        with LockedState(args.state) as locked:
            # Its records are in etcd, and only its mark is in the folder.
            on_etcd = args.part == SERVICE_PROCESSOR and etcd_mark_path(locked.folder).exists()
            try:
                old = replace_part(locked.folder, args.part)
            except OSError as error:
                raise scarcity_of(error) or trouble(error, locked.folder) from None
    except SwpksError as error:
        refuse("hmc replace", error, as_json=args.json)
        return STORAGE if error.fault is Fault.STORAGE else REFUSED
    kept = f"the old part is in {old}" if old else "it was new already"
    kept += _ON_ETCD if on_etcd else ""
    answer = {"part": args.part, "old": str(old) if old else None}
    streams.say(json.dumps(answer) if args.json else f"{args.part} is new; {kept}")
    return 0
