"""Rules of everything at rest: sealed records, images, profiles, the anchor card, NVRAM, the state folder."""

from __future__ import annotations

from hcall_abi.bounds import ACCESS_KEY_SIZE, SYSTEM_NAME_SIZE
from hcall_abi.rules.rule import Fault, Rule

_OPERATOR = Fault.OPERATOR
_STORAGE = Fault.STORAGE
_SEALED = "spec/sealed.md#order-of-checks"
_IMAGE = "spec/sealed.md#partition-image"
_PROFILE = "spec/sealed.md#partition-record"
_SYSTEM = "spec/sealed.md#system-record"
_LEVEL_1 = "spec/sealed.md#level-1"
_LEVELS = "spec/sealed.md#levels"
_CARD = "spec/sealed.md#anchor-card"
_ROOT_KEY = "spec/root-key.md#decisions"
_TPM = "spec/components.md#tpm"
_EMBEDDED = "spec/components.md#embedded-tpm"
_KINDS = "spec/components.md#kinds-of-tpm"
_NVRAM = "spec/sealed.md#nvram"
_ETCD = "spec/sealed.md#nvram-on-etcd"
_MARK = "spec/sealed.md#high-water-mark"
_COMMIT = "spec/sealed.md#commit-record"
_REFUSALS = "spec/sealed.md#refusals"
_STATE = "spec/service.md#state"

# Sealed blobs

SEALED_MAGIC = Rule(
    "sealed.magic", "a sealed blob begins with its magic, and its reserved bytes are zero", _SEALED, _STORAGE
)
# The level is checked before the length, because a later level may have another length. The message must name
# the later release, and not say that the blob is damaged.
SEALED_LEVEL = Rule(
    "sealed.level", "the format level of a sealed blob is one that this release knows", _SEALED, _STORAGE
)
SEALED_LENGTH = Rule(
    "sealed.length", "a sealed blob has the length that its header states", _SEALED, _STORAGE
)
SEALED_KIND = Rule("sealed.kind", "a record holds a blob of its own kind", _SEALED, _STORAGE)
SEALED_AUTHENTIC = Rule(
    "sealed.authentic",
    "a sealed blob authenticates under the key of its partition and system",
    _SEALED,
    _STORAGE,
)
# A blob is bound to its partition, so records that were swapped in the file are found.
SEALED_OWNER = Rule(
    "sealed.owner",
    "a sealed blob opens only for the partition that it was sealed for",
    _SEALED,
    _STORAGE,
)

SEALED_FIELD = Rule(
    "sealed.field",
    "the fields of a tagged list have tags that this release knows, each once and in ascending order",
    "spec/sealed.md#later-fields",
    _STORAGE,
)

# Partition images

IMAGE_HEADER = Rule("image.header", "an image has a header of 8 bytes", _IMAGE, _STORAGE)
IMAGE_LEVEL = Rule("image.level", "the level of an image is one that this release knows", _IMAGE, _STORAGE)
IMAGE_RESERVED = Rule("image.reserved", "the reserved bytes of an image are zero", _IMAGE, _STORAGE)
IMAGE_OBJECTS = Rule("image.objects", "each object of an image has a header of 12 bytes", _IMAGE, _STORAGE)
IMAGE_CONSUMER = Rule(
    "image.consumer",
    "the consumer of an object is 1, 2 or 3, and its reserved byte is zero",
    _IMAGE,
    _STORAGE,
)
IMAGE_LENGTHS = Rule("image.lengths", "an object has the lengths that its header states", _IMAGE, _STORAGE)
IMAGE_LABELS = Rule("image.labels", "no consumer has two objects of one label", _IMAGE, _STORAGE)
IMAGE_END = Rule("image.end", "nothing follows the last object of an image", _IMAGE, _STORAGE)

# Partition profiles and the system record

PROFILE_LAYOUT = Rule(
    "profile.layout",
    "a profile has a known level, zero reserved bytes and no trailing bytes",
    _PROFILE,
    _STORAGE,
)
PROFILE_RANGES = Rule(
    "profile.ranges",
    "the fields of a profile are in their ranges, and the partition has a name",
    _PROFILE,
    _STORAGE,
)
PROFILE_NAME = Rule("profile.name", "the name in a profile is UTF-8", _PROFILE, _STORAGE)
PROFILE_OWNER = Rule(
    "profile.owner", "a profile names the partition that it is sealed for", _LEVEL_1, _STORAGE
)
SYSTEM_LAYOUT = Rule(
    "system.layout",
    "a system record has a known level, zero reserved bytes and no trailing bytes",
    _SYSTEM,
    _STORAGE,
)
SYSTEM_NAME = Rule(
    "system.name",
    f"the names in a system record are UTF-8, and the system's own has 1 to {SYSTEM_NAME_SIZE} bytes",
    _SYSTEM,
    _STORAGE,
)
SYSTEM_FIRMWARE = Rule(
    "system.firmware",
    "the stored firmware level is one that this release knows",
    "spec/choices.md#levels",
    _STORAGE,
)
SYSTEM_KEYS = Rule(
    "system.keys",
    "a system that serves partitions has its system record",
    _CARD,
    _STORAGE,
)

# Records that belong together

# Each record alone can be right and old. The commit record lists all of them, so an older or a missing
# one is found.
COMMIT_RECORD = Rule(
    "commit.record",
    "from sealed level 2 on NVRAM has a commit record that authenticates under the root key",
    _COMMIT,
    _STORAGE,
)
RECORDS_COMMITTED = Rule(
    "records.committed", "each record is the one that the last commit has left", _COMMIT, _STORAGE
)
RECORDS_WHOLE = Rule(
    "records.whole", "a partition has a profile and, with its keystore on, an image", _REFUSALS, _STORAGE
)
RECORDS_TOGETHER = Rule(
    "records.together", "profile and image of a partition are committed together", _LEVEL_1, _STORAGE
)
RECORDS_LEVEL = Rule(
    "records.level",
    "a stored keystore has at most the size that the firmware level allows",
    _REFUSALS,
    _OPERATOR,
)

# Wrapped copies of the root key

ROOT_KEY_RECORD = Rule(
    "root-key.record",
    "a wrapped copy of the root key is whole, of a known level and TPM kind",
    "spec/sealed.md#wrapped-root-key",
    _STORAGE,
)
ROOT_KEY_IDENTITY = Rule(
    "root-key.identity",
    "the contents of a wrapped copy are a system id and a root key",
    "spec/sealed.md#wrapped-root-key",
    _STORAGE,
)

# The anchor card

CARD_MODE = Rule(
    "card.mode", "the anchor card is a file of mode 0600 in a folder of mode 0700", _CARD, _OPERATOR
)
CARD_WHOLE = Rule(
    "card.whole",
    "the anchor card is whole, of a known level, and its check value is right",
    _CARD,
    _STORAGE,
)

# The copies of the root key

# If two keys differ, a part of another system was put in. The start stops, because neither key is preferred.
ROOT_KEY_AGREE = Rule(
    "root-key.agree",
    "all readable copies of the root key are of one system and equal",
    _ROOT_KEY,
    _STORAGE,
)
ROOT_KEY_READABLE = Rule(
    "root-key.readable",
    "a system that had a root key has a readable copy of it",
    _ROOT_KEY,
    _STORAGE,
)
ROOT_KEY_STORED = Rule("root-key.stored", "a wrapped copy is in NVRAM as it was written", _ROOT_KEY, _STORAGE)

# TPMs

TPM_UNWRAPS = Rule("tpm.unwraps", "a TPM unwraps the copies of the root key that it wrapped", _TPM, _STORAGE)
TPM_ANSWERS = Rule("tpm.answers", "a TPM answers within 10 seconds", _TPM, _STORAGE)
TPM_SEED = Rule(
    "tpm.seed",
    "the seed of an embedded TPM is whole, of a known level, and its check value is right",
    _EMBEDDED,
    _STORAGE,
)
TPM_EXTERNAL = Rule(
    "tpm.external", "the file `external` of a TPM is one line that names the TPM", _KINDS, _STORAGE
)
TPM_MODE = Rule("tpm.mode", "a TPM's files have mode 0600 in a folder of mode 0700", _KINDS, _OPERATOR)
TPM_FORM = Rule("tpm.form", "--tpm is `embedded`, `swtpm:PATH` or `tcti:STRING`", _KINDS, _OPERATOR)
TPM_KIND = Rule("tpm.kind", "a TPM is of one kind until it is replaced", _KINDS, _OPERATOR)
TPM_EXTRA = Rule("tpm.extra", "a TPM that is named by a TCTI needs tpm2-pytss", _KINDS, _OPERATOR)

# NVRAM

NVRAM_COMMIT = Rule("nvram.commit", "NVRAM stores each commit, whole and durable", _NVRAM, _STORAGE)
NVRAM_FILE = Rule("nvram.file", "NVRAM is an undamaged SQLite file of a known level", _NVRAM, _STORAGE)
NVRAM_MARK = Rule(
    "nvram.mark",
    "NVRAM has a whole high-water mark of its own system",
    _MARK,
    _STORAGE,
)
# A confirmed change must not be lost without a word. `--accept-older` allows it on purpose.
NVRAM_AGE = Rule(
    "nvram.age", "the records found at start are never older than the last confirmed ones", _MARK, _STORAGE
)
NVRAM_WRITABLE = Rule(
    "nvram.writable", "NVRAM is a plain file that the server may read and write", _NVRAM, _OPERATOR
)
# If the file of NVRAM is renamed or removed, SQLite goes on with it and reports success.
NVRAM_PLACE = Rule(
    "nvram.place",
    "while a server runs, the files of its state stay in place, and only the server writes them",
    "spec/service.md#files-in-place",
    _STORAGE,
)

# A lease alone does not stop the former owner's commits; each transaction compares the owner as well.
NVRAM_OWNER = Rule(
    "nvram.owner", "the server that commits to a system's records in etcd is their owner", _ETCD, _STORAGE
)
NVRAM_REACHED = Rule(
    "nvram.reached", "a member of the etcd cluster answers, and a majority is up", _ETCD, _STORAGE
)
NVRAM_ANSWER = Rule("nvram.answer", "an answer of etcd has the form of its JSON gateway", _ETCD, _STORAGE)
NVRAM_QUOTA = Rule("nvram.quota", "the store of the etcd cluster is below its quota", _ETCD, _STORAGE)

FLUSH_FINISHED = Rule(
    "flush.finished", "a flush does not fail inside the server", "spec/service.md#scarcity", Fault.INTERNAL
)

# The state folder

STATE_OWNER = Rule("state.owner", "one server at a time uses a state", _STATE, _OPERATOR)
STATE_WRITABLE = Rule("state.writable", "the server may write its state", _STATE, _OPERATOR)
STATE_DEVICE = Rule(
    "state.device", "the device of the state reads and writes without errors", _STATE, _STORAGE
)
STATE_NAMED = Rule("state.named", "the path of a state is not empty", _STATE, _OPERATOR)
STATE_EMPTY = Rule("state.empty", "a new state is made in a folder that is new or empty", _STATE, _OPERATOR)
STATE_EXISTS = Rule(
    "state.exists", "a command for a powered-off system names an existing state folder", _STATE, _OPERATOR
)
# An older release must not take a newer record for a damaged one, and replace it.
STATE_LEVEL = Rule("state.level", "no part of a state has a level of a later release", _LEVELS, _STORAGE)
STATE_LAYOUT = Rule("state.layout", "a state has the files of its NVRAM once", _STATE, _STORAGE)
STATE_PRIVATE = Rule(
    "state.private",
    "the state and its folders belong to the server's user and have mode 0700",
    _STATE,
    _OPERATOR,
)
# A link could make the server change a file, or its mode, outside of the state.
STATE_LINK = Rule(
    "state.link",
    "neither the state folder nor a file or folder of the server in it is a symbolic link",
    _STATE,
    _OPERATOR,
)
ACCESS_KEY_FILE = Rule("access-key.file", "an access key is a plain file", _STATE, _OPERATOR)
ACCESS_KEY_MODE = Rule("access-key.mode", "an access key has mode 0600", _STATE, _OPERATOR)
ACCESS_KEY_CONTENT = Rule(
    "access-key.content", f"an access key is {ACCESS_KEY_SIZE} bytes in hexadecimal", _STATE, _OPERATOR
)
ACCESS_KEY_STORED = Rule(
    "access-key.stored", "every partition has its access key in the state", _STATE, _STORAGE
)
