"""The C header `swpks/pks.h`: the contract for firmware and kernels, without a C library (R-81).

C99, also valid C++11.  It needs <stddef.h> and <stdint.h> alone, which a freestanding compiler has.
"""

from __future__ import annotations

from hcall_abi.export import c_calls, c_names, c_structures

_HEAD = """\
/* SPDX-License-Identifier: {license} */
/*
 * The platform keystore's h-calls and the frames that carry them.
 *
 * Made by tools/exports.py from the tables of the contract; do not edit.  Each comment names the page of
 * spec/ that has the facts: `swpks explain PAGE` prints it.
 *
 * The header needs no C library.  A compiler may still call memset and memcpy, as every compiler may.
 *
 * struct pks_NAME has the bytes of guest memory or of a frame: big-endian, packed, alignment 1.
 * struct pks_NAME_values has its fields as integers.  pks_pack_NAME and pks_unpack_NAME convert.
 */
#ifndef SWPKS_PKS_H
#define SWPKS_PKS_H

#include <stddef.h>
#include <stdint.h>
"""

_BASE = """\
#define PKS_ASSERT(name, condition) typedef char pks_assert_##name[(condition) ? 1 : -1]

/* Big-endian integers as bytes. */
{types}
static inline void pks_clear(void *at, size_t size)
{{
	uint8_t *bytes = (uint8_t *)at;

	while (size--)
		*bytes++ = 0;
}}

static inline int pks_is_clear(const void *at, size_t size)
{{
	const uint8_t *bytes = (const uint8_t *)at;
	uint8_t found = 0;

	while (size--)
		found |= *bytes++;
	return !found;
}}

static inline void pks_copy(void *to, const void *from, size_t size)
{{
	uint8_t *target = (uint8_t *)to;
	const uint8_t *source = (const uint8_t *)from;

	while (size--)
		*target++ = *source++;
}}
"""

_INTEGER = """\
typedef struct {{
	uint8_t byte[{size}];
}} pks_be{bits};

static inline uint{bits}_t pks_get{bits}(const pks_be{bits} *from)
{{
	return (uint{bits}_t)({read});
}}

static inline void pks_put{bits}(pks_be{bits} *to, uint{bits}_t value)
{{
{write}
}}
"""


def header() -> str:
    """Return the whole text of the header."""
    parts = [
        _HEAD.format(license="Apache-2.0"),
        *c_names.macros(),
        _BASE.format(types="\n".join(_integer(size) for size in (2, 4, 8))),
        *(c_structures.declaration(structure) for structure in c_structures.STRUCTURES),
        *c_calls.functions(),
        "#endif\n",
    ]
    return "\n".join(parts)


def _integer(size: int) -> str:
    """Return the type of a big-endian integer of `size` bytes, and its two functions."""
    bits = 8 * size
    places = [(n, bits - 8 * (n + 1)) for n in range(size)]
    read = " |\n\t\t".join(f"(uint{bits}_t)from->byte[{n}] << {shift}" for n, shift in places)
    write = "\n".join(f"\tto->byte[{n}] = (uint8_t)(value >> {shift});" for n, shift in places)
    return _INTEGER.format(size=size, bits=bits, read=read, write=write)
