"""The keystore's client services as Forth text for SLOF, made from the tables of `hcall_abi`.

Each text leaves one number on the stack of SLOF.
"""

# Firmware in Forth
#
# On real hardware the boot loader asks partition firmware for objects of the keystore, through three client
# services of Open Firmware (spec/qemu.md#client-services).  Firmware makes the h-calls as consumer 1.  SLOF,
# QEMU's firmware, has no such services.  But it is written in Forth, and has a service `interpret` that runs
# a text.  So the bridge sends it the text of this module.  The h-calls then come from the guest's firmware,
# its password is made and stored there, and SLOF's own `test` and dispatch find the services.
#
# The text must guarantee:
#
#   1. The password of consumer 1 never leaves the page that it was generated into.  The page is erased
#      before the operating system gets the memory: in `quiesce`, the last service that a loader or a kernel
#      calls.
#   2. Each opcode, each register, each offset and each label comes from the tables.  A table that changes
#      changes the text.
#   3. A busy answer is repeated, as firmware has to do it; every other status goes to the boot loader.
#
# The page `pks-page` has everything that an h-call refers to.  So no buffer crosses a page, and one `erase`
# blanks it:
#
#   0x000  authorization block, with the password behind its head
#   0x200  labels of db and dbx
#   0x400  config block
#   0x800  r3 to r12 of a call, and behind them r3 to r5 of its answer
#   0x900  machine code with the one `sc 1`
#
# Arguments and results have separate places, because a busy call is repeated with the same arguments.
#
# Why the helpers are defined outside of `client-voc`, SLOF's vocabulary of client services.  That vocabulary
# has words called `exit`, `read`, `write`, `seek`, `open` and `close`.  While SLOF searches it first, a new
# definition gets these words in place of Forth's own.  So each word that is defined there calls one helper
# and nothing else.
#
# `quiesce` is defined again in `client-voc`.  The new `quiesce` reports the hand-over to the bridge, by an
# opcode that no h-call has.  Last it calls SLOF's own `quiesce`, whose address was stored before.
#
# An alternative was tried: breakpoints catch the calls of the client interface, and Python answers them.  A
# boot then needed 2,800 stops and 25 s, in place of 13 stops and 11 s.  The services would not have been
# firmware at all.

from __future__ import annotations

import struct

from construct import Struct

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.statuses import Status
from hcall_abi.structures import AUTH_HEAD, AUTH_LAYOUT, AUTH_VERSION, CONFIG_BLOCKS, CONFIG_MIN_SIZE
from hcall_client.guests.authvar import variable_label
from swpks.qemu.callsites import HYPERVISOR_CALL

HAND_OVER = 0
"""In the place of an opcode: firmware hands the machine over to an operating system.

r4 is the status of the h-call that locks the boot loader's objects, 0 if there was none.
"""
BUFFER_SIZE = 0xFFFF
"""Bytes of an object that a service reads at most; lengths of the client interface have 16 bits here."""
STORED_HEADER = 8
"""Bytes of version and time before the signature lists of a stored secure-boot variable."""
VARIABLES = {1: "db", 2: "dbx"}
"""The variables that `pks-read-sbvar` knows, by their number there."""

PASSWORD = AUTH_LAYOUT.size
LABELS, LABEL_ROOM, CONFIG, REGISTERS, RESULTS, CODE = 0x200, 0x40, 0x400, 0x800, 0x850, 0x900
LONGEST_PASSWORD = LABELS - PASSWORD
CODE_ROOM = 0x80
_RESULT = RESULTS - REGISTERS

_LOAD_ARGUMENTS = [0xE8030000 | register << 21 | 8 * (register - 3) for register in range(4, 13)]
MACHINE_CODE = (
    0xF861FFF0,  # std r3, -16(r1): the caller's pointer to REGISTERS, in the red zone
    *_LOAD_ARGUMENTS,  # ld r4 .. r12
    0xE8630000,  # ld r3, 0(r3)
    HYPERVISOR_CALL,
    0xE961FFF0,  # ld r11, -16(r1)
    0xF86B0000 | _RESULT,  # std r3: the status
    0xF88B0000 | _RESULT + 8,  # std r4
    0xF8AB0000 | _RESULT + 16,  # std r5
    0x4E800020,  # blr
)
"""A function that makes an h-call; r3 is the address of its registers."""
CALL_AT = CODE + 4 * MACHINE_CODE.index(HYPERVISOR_CALL)
"""Where in the page its `sc 1` is."""


def offset_of(structure: Struct, name: str) -> int:
    """Return the offset of a field in a structure; KeyError if there is no such field.

    All fields before it must have a fixed size.
    """
    at = 0
    for field in structure.subcons:
        if field.name == name:
            return at
        at += field.sizeof()
    raise KeyError(name)


def _argument(opcode: Opcode, name: str) -> str:
    """Return Forth that takes a number from the stack as this argument of a call."""
    return f"{CALLS[opcode].arg(name).register - 3:x} pks-argument!"


def _result(opcode: Opcode, name: str) -> str:
    """Return Forth that puts this result of a call onto the stack."""
    return f"{CALLS[opcode].output(name).register - 3:x} pks-result@"


def _stores(at: int, data: bytes) -> str:
    """Return Forth that stores bytes in the page; the length is a multiple of 4."""
    words = struct.iter_unpack(">I", data)
    return " ".join(f"{word:x} pks-page {at + 4 * n:x} + l!" for n, (word,) in enumerate(words))


def _label(number: int) -> bytes:
    return variable_label(VARIABLES[number])


def _label_at(number: int) -> int:
    return LABELS + LABEL_ROOM * (number - 1)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _labels() -> str:
    """Return Forth that stores the labels of the variables, each at its place."""
    return " ".join(_stores(_label_at(number), _padded(_label(number))) for number in VARIABLES)


def _label_cases() -> str:
    """Return Forth that looks up the label of a number on the stack.

    If a variable has the number, the Forth leaves the label's address and length, and exits the word.
    """
    return " ".join(
        f"dup {number:x} = IF drop pks-page {_label_at(number):x} + {len(_label(number)):x} EXIT THEN"
        for number in VARIABLES
    )


_CODE = b"".join(struct.pack(">I", word) for word in MACHINE_CODE)
_LENGTH = offset_of(AUTH_HEAD, "password_length")
_CONFIG = CONFIG_BLOCKS[3]
_MAX_PASSWORD = CONFIG + offset_of(_CONFIG, "max_password_size")
_MAX_OBJECT = CONFIG + offset_of(_CONFIG, "max_object_size")
_GET, _GEN, _READ = Opcode.GET_CONFIG, Opcode.GEN_PASSWORD, Opcode.READ_OBJECT

BASE = f"""
hex
2000 alloc-mem fff + fff invert and value pks-page
{BUFFER_SIZE + 1:x} alloc-mem value pks-buffer
0 value pks-password-length
0 value pks-room
0 value pks-target
0 value pks-quiesce
0 value pks-locks-loader
0 value pks-loader-status
pks-page 1000 erase
{_stores(CODE, _CODE)}
pks-page {CODE:x} + {CODE_ROOM:x} flushcache
{_labels()}

: pks-argument! ( value register -- ) 8 * pks-page {REGISTERS:x} + + ! ;
: pks-result@ ( register -- value ) 8 * pks-page {RESULTS:x} + + @ ;
: pks-once ( opcode -- status )
  0 pks-argument!  pks-page {REGISTERS:x} + 0 0 pks-page {CODE:x} + call-c drop  0 pks-result@ ;
: pks-call ( opcode -- status ) BEGIN dup pks-once dup {Status.H_BUSY:x} = WHILE drop REPEAT nip ;

: pks-authorize ( consumer -- )
  pks-page {PASSWORD:x} erase
  {AUTH_VERSION:x} pks-page c!
  dup pks-page {offset_of(AUTH_HEAD, "consumer"):x} + c!
  {Consumer.FIRMWARE:x} = IF pks-password-length pks-page {_LENGTH:x} + w! THEN
  pks-page {_argument(_READ, "authorization")} ;
: pks-read ( consumer label label-length buffer length -- status )
  {_argument(_READ, "data_length")} {_argument(_READ, "data")}
  {_argument(_READ, "label_length")} {_argument(_READ, "label")}
  pks-authorize {_READ:x} pks-call ;
: pks-get-config ( -- status )
  pks-page {CONFIG:x} + {_argument(_GET, "config")} {CONFIG_MIN_SIZE:x} {_argument(_GET, "config_length")}
  {_GET:x} pks-call ;
: pks-generate ( consumer -- status )
  {_argument(_GEN, "consumer")} 0 {_argument(_GEN, "reserved")}
  pks-page {PASSWORD:x} + {_argument(_GEN, "password")}
  pks-page {_MAX_PASSWORD:x} + w@ {LONGEST_PASSWORD:x} min {_argument(_GEN, "password_length")}
  {_GEN:x} pks-call ;
: pks-lock ( -- status )
  {Consumer.FIRMWARE:x} pks-generate dup 0= IF pks-page {_MAX_PASSWORD:x} + w@ {LONGEST_PASSWORD:x} min
  to pks-password-length THEN ;
: pks-forget ( -- ) pks-page {LABELS:x} erase 0 to pks-password-length ;
: pks-leave ( -- )
  pks-forget pks-locks-loader IF
  {Consumer.BOOT_LOADER:x} pks-generate to pks-loader-status pks-forget THEN ;

: (pks-max-object-size) ( -- size ) pks-get-config IF 0 ELSE pks-page {_MAX_OBJECT:x} + w@ THEN ;
: (pks-read-object) ( consumer label label-length buffer length -- length policy status )
  pks-read dup IF 0 0 rot ELSE {_result(_READ, "size")} {_result(_READ, "policy")} rot THEN ;
: pks-variable ( number -- label length ) {_label_cases()} drop 0 0 ;
: (pks-read-sbvar) ( flags number buffer length -- length status )
  to pks-room to pks-target
  swap IF drop 0 {Status.H_PARAMETER:x} EXIT THEN
  pks-variable dup 0= IF 2drop 0 {Status.H_PARAMETER:x} EXIT THEN
  {Consumer.OPERATING_SYSTEM:x} -rot pks-buffer {BUFFER_SIZE:x} pks-read
  dup IF 0 swap EXIT THEN drop
  {_result(_READ, "size")} {STORED_HEADER:x} - 0 max
  dup pks-room > IF drop 0 {Status.H_TOO_BIG:x} EXIT THEN
  pks-buffer {STORED_HEADER:x} + pks-target 2 pick move 0 ;
: (pks-quiesce) ( -- )
  pks-leave pks-loader-status 1 pks-argument! {HAND_OVER:x} pks-once drop pks-quiesce execute ;

also client-voc ' quiesce to pks-quiesce previous
also client-voc definitions
: quiesce (pks-quiesce) ;
previous definitions
pks-page
"""
"""Defines the words, and leaves the address of the page."""

SERVICES = """
hex
also client-voc definitions
: pks-max-object-size (pks-max-object-size) ;
: pks-read-object (pks-read-object) ;
: pks-read-sbvar (pks-read-sbvar) ;
previous definitions
0
"""
"""Gives the boot loader the three services; leaves 0."""

GET_CONFIG = "pks-get-config"
"""Makes the h-call; leaves its status."""
LOCK = "pks-lock"
"""Generates the password of consumer 1; leaves the status of the h-call."""
LOCK_LOADER = "1 to pks-locks-loader 0"
"""Has the hand-over generate a password of consumer 2, and forget it; leaves 0."""
