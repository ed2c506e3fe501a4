"""Rules of the management console: its systems, its store, its jobs and its command lines."""

from __future__ import annotations

from hcall_abi.rules.rule import Fault, Rule

_OPERATOR = Fault.OPERATOR
_STORAGE = Fault.STORAGE
_LINES = "spec/console.md#lines"
_RECORDS = "spec/console.md#records"
_SYSTEMS = "spec/console.md#systems"
_STORE = "spec/console.md#store"
_JOBS = "spec/console.md#jobs"
_PROFILES = "spec/console.md#profile-backups"
_RECOVERY = "spec/console.md#recovery"

# Systems

HMC_SYSTEM_KNOWN = Rule(
    "hmc.system-known", "a command names a managed system that the console knows", _SYSTEMS, _OPERATOR
)
# If the console knows one system, no line needs -m. If it knows more, a wrong guess could change the wrong
# system.
HMC_SYSTEM_NAMED = Rule(
    "hmc.system-named",
    "a command names its managed system with -m, unless the console knows exactly one",
    _SYSTEMS,
    _OPERATOR,
)
HMC_SYSTEM_OWN_NAME = Rule(
    "hmc.system-own-name",
    "a managed system is added under its own name, or without a name",
    _SYSTEMS,
    _OPERATOR,
)
HMC_SYSTEM_PLACE = Rule(
    "hmc.system-place", "each managed system of a console has a place of its own", _SYSTEMS, _OPERATOR
)
# A line names a system by its name.  Two equal names make every such line ambiguous.
HMC_SYSTEM_NAME_NEW = Rule(
    "hmc.system-name-new",
    "a command gives no managed system the name of another one that the console knows",
    _SYSTEMS,
    _OPERATOR,
)

# The console's store

HMC_STORE_FILE = Rule(
    "hmc.store-file", "the console's store is an undamaged database of a console", _STORE, _STORAGE
)
HMC_STORE_LEVEL = Rule(
    "hmc.store-level", "the console's store has a format level that this release knows", _STORE, _STORAGE
)
HMC_STORE_OWNER = Rule("hmc.store-owner", "one console at a time uses a store", _STORE, _OPERATOR)
HMC_STORE_WRITTEN = Rule(
    "hmc.store-written",
    "a change is durable in the console's store before the console answers",
    _STORE,
    _STORAGE,
)

# Jobs

HMC_JOB_KNOWN = Rule("hmc.job-known", "a command names a job that the console has stored", _JOBS, _OPERATOR)
HMC_JOB_ALONE = Rule("hmc.job-alone", "a managed system has one running job at a time", _JOBS, _OPERATOR)

# Recovery

HMC_RECOVERY_EMPTY = Rule(
    "hmc.recovery-empty",
    "recover works on a system in the state Recovery, or on one that is Operating and has no partitions",
    _RECOVERY,
    _OPERATOR,
)
HMC_RECOVERY_COPIES = Rule(
    "hmc.recovery-copies",
    "recover restores every store that it knows, or the loss of the rest is accepted with --give-up",
    _RECOVERY,
    _OPERATOR,
)

# Profile backups

HMC_PROFILE_FILE = Rule(
    "hmc.profile-file",
    "a profile backup is an undamaged file that bkprofdata has written",
    _PROFILES,
    _OPERATOR,
)
HMC_PROFILE_LEVEL = Rule(
    "hmc.profile-level", "a profile backup has a format level that this release knows", _PROFILES, _OPERATOR
)
# A bare name must not lead out of the folder of its system.
HMC_PROFILE_NAME = Rule(
    "hmc.profile-name",
    "a bare name of a profile backup is one of the folder of its system, and no path",
    _PROFILES,
    _OPERATOR,
)
HMC_PROFILE_STATE = Rule(
    "hmc.profile-state", "profiles are saved and restored while the system is Operating", _PROFILES, _OPERATOR
)
HMC_PROFILE_IDLE = Rule(
    "hmc.profile-idle", "a profile restore changes partitions only while they are off", _PROFILES, _OPERATOR
)
HMC_PROFILE_FORCED = Rule(
    "hmc.profile-forced",
    "a profile restore gives up present objects only with --forcekeystore",
    _PROFILES,
    _OPERATOR,
)

# Files of a command

# The command opens only paths of its own line: a console must not get other files of the command's
# user.
HMC_FILE = Rule(
    "hmc.file",
    "a file of a command is named in its arguments, can be opened by its caller, and is not too large",
    "spec/console.md#files",
    _OPERATOR,
)

# The process and its wire

HMC_WIRE = Rule(
    "hmc.wire",
    "a command sends one request, and replies to the questions of the console, in lines of JSON",
    "spec/console.md#the-wire",
    Fault.PEER,
)
HMC_OPERATION = Rule(
    "hmc.operation",
    "a command forwards a verb of the control channel, with the body that it takes",
    "spec/console.md#the-wire",
    Fault.PEER,
)
HMC_STORE_FOLDER = Rule(
    "hmc.store-folder",
    "a store is a folder of a console, private to its user, that the console may write",
    _STORE,
    _OPERATOR,
)
HMC_TARGET = Rule(
    "hmc.target",
    "a command talks to one console or one system: --store, --state or --socket",
    "spec/console.md#which-end",
    _OPERATOR,
)
HMC_LINKS = Rule(
    "hmc.links",
    "a folder of links is new, empty, or holds such links only",
    "spec/console.md#links",
    _OPERATOR,
)
HMC_WHERE = Rule(
    "hmc.where",
    "a question about a data channel names one partition that its owner serves",
    "spec/console.md#where",
    _OPERATOR,
)
# Jobs are in the store, so they survive the process; commands are connections, and do not.
HMC_STOPPED = Rule(
    "hmc.stopped",
    "a console that stops ends the commands that wait for it; jobs go on at its next start",
    "spec/console.md#stopping",
    _OPERATOR,
)

# The overview, and the page

HMC_WATCHERS = Rule(
    "hmc.watchers", "at most 8 commands watch a console at once", "spec/console.md#overview", _OPERATOR
)
HMC_PAGE_PLACE = Rule(
    "hmc.page-place", "the place of the page is HOST:PORT", "spec/console.md#the-page", _OPERATOR
)
# The page has no password: every client that reaches it can read it.
HMC_PAGE_LOOPBACK = Rule(
    "hmc.page-loopback",
    "the page is served at an address of loopback, or at another one with --insecure-listen",
    "spec/console.md#the-page",
    _OPERATOR,
)
HMC_PAGE_PACKAGES = Rule(
    "hmc.page-packages",
    "the page needs the packages of the extra swpks[console]",
    "spec/console.md#the-page",
    _OPERATOR,
)
# A name of the DNS may lead to this machine at any time, so a foreign page could read this one.
HMC_PAGE_HOST = Rule(
    "hmc.page-host",
    "a request for the page names the host of --page, or this machine by a name of loopback",
    "spec/console.md#the-page",
    Fault.PEER,
)

# Lines

LINE_COMMAND = Rule(
    "line.command", "a line begins with the name of a command of the console", _LINES, _OPERATOR
)
LINE_OPTION = Rule(
    "line.option",
    "a line has options that its command takes, each once, with the number of values that it takes",
    _LINES,
    _OPERATOR,
)
LINE_NEEDED = Rule(
    "line.needed",
    "a line has every option that its command needs, and no two that exclude each other",
    _LINES,
    _OPERATOR,
)
LINE_CHOICE = Rule(
    "line.choice", "the value of an option is one of those that its command knows", _LINES, _OPERATOR
)
LINE_RECORD = Rule(
    "line.record",
    "a record is ATTRIBUTE=VALUE pairs divided by commas, each attribute once, a pair with commas in quotes",
    _RECORDS,
    _OPERATOR,
)
LINE_SIZE = Rule(
    "line.size",
    "a record, -F and --filter have at most 65536 characters and 256 attributes, and a line 1000 records",
    _RECORDS,
    _OPERATOR,
)
LINE_ATTRIBUTE = Rule(
    "line.attribute",
    "a record, -F and --filter name attributes that their command has and can set",
    _RECORDS,
    _OPERATOR,
)
LINE_VALUE = Rule(
    "line.value",
    "the value of an attribute in a line is one that the attribute can have",
    _RECORDS,
    _OPERATOR,
)
LINE_LATER = Rule(
    "line.later",
    "no line opens a terminal",
    _LINES,
    _OPERATOR,
)
# HSCL0DB4 is the real console's number for this refusal, so scripts meet the message that they know.
LINE_RMC = Rule(
    "line.rmc",
    "osshutdown needs an RMC connection, which no emulated partition has",
    _LINES,
    _OPERATOR,
    "HSCL0DB4",
)
LINE_SYSTEM_ON = Rule(
    "line.system-on", "a managed system is powered on with swpks serve, not by a line", _LINES, _OPERATOR
)
LINE_JOB = Rule(
    "line.job", "a line that starts a job ends with it, and is refused if the job fails", _LINES, _OPERATOR
)
