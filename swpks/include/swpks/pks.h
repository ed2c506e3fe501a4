/* SPDX-License-Identifier: Apache-2.0 */
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

/* Opcodes of h-calls: r3 of a call */
#define PKS_OPCODE_GET_CONFIG 0x41c
#define PKS_OPCODE_SET_PASSWORD 0x420
#define PKS_OPCODE_GEN_PASSWORD 0x424
#define PKS_OPCODE_GET_OBJECTLABELS 0x428
#define PKS_OPCODE_WRITE_OBJECT 0x42c
#define PKS_OPCODE_GEN_KEY 0x430
#define PKS_OPCODE_READ_OBJECT 0x434
#define PKS_OPCODE_REMOVE_OBJECT 0x438
#define PKS_OPCODE_CONFIRM_OBJECT_FLUSHED 0x43c
#define PKS_OPCODE_SIGNED_UPDATE 0x454
#define PKS_OPCODE_WRAP_OBJECT 0x490
#define PKS_OPCODE_UNWRAP_OBJECT 0x494
#define PKS_OPCODE_REVOKE_OBJECT 0x4ac
#define PKS_OPCODE_UNREVOKE_OBJECT 0x4b0

/* Statuses: r3 of an answer, signed */
#define PKS_H_SUCCESS 0
#define PKS_H_BUSY 1
#define PKS_H_NOT_AVAILABLE 3
#define PKS_H_PARTIAL 5
#define PKS_H_IN_PROGRESS 14
#define PKS_H_CONTINUE 18
#define PKS_H_LONG_BUSY_ORDER_1_MSEC 9900
#define PKS_H_LONG_BUSY_ORDER_10_MSEC 9901
#define PKS_H_LONG_BUSY_ORDER_100_MSEC 9902
#define PKS_H_LONG_BUSY_ORDER_1_SEC 9903
#define PKS_H_LONG_BUSY_ORDER_10_SEC 9904
#define PKS_H_LONG_BUSY_ORDER_100_SEC 9905
#define PKS_H_HARDWARE (-1)
#define PKS_H_FUNCTION (-2)
#define PKS_H_PRIVILEGE (-3)
#define PKS_H_PARAMETER (-4)
#define PKS_H_NOT_FOUND (-7)
#define PKS_H_NO_MEM (-9)
#define PKS_H_AUTHORITY (-10)
#define PKS_H_PERMISSION (-11)
#define PKS_H_RESOURCE (-16)
#define PKS_H_R_STATE (-45)
#define PKS_H_ABORTED (-54)
#define PKS_H_P2 (-55)
#define PKS_H_P3 (-56)
#define PKS_H_P4 (-57)
#define PKS_H_P5 (-58)
#define PKS_H_P6 (-59)
#define PKS_H_P7 (-60)
#define PKS_H_P8 (-61)
#define PKS_H_P9 (-62)
#define PKS_H_NOOP (-63)
#define PKS_H_TOO_BIG (-64)
#define PKS_H_UNSUPPORTED (-67)
#define PKS_H_OVERLAP (-68)
#define PKS_H_BAD_DATA (-70)
#define PKS_H_NOT_ACTIVE (-71)
#define PKS_H_STATE (-75)
#define PKS_H_IN_USE (-77)
#define PKS_H_INVALID_KEY (-78)

/* Consumers of a keystore */
#define PKS_CONSUMER_FIRMWARE 1
#define PKS_CONSUMER_BOOT_LOADER 2
#define PKS_CONSUMER_OPERATING_SYSTEM 3

/* Modes of OS secure boot */
#define PKS_SECURE_BOOT_OFF 0
#define PKS_SECURE_BOOT_AUDIT 1
#define PKS_SECURE_BOOT_ENFORCE 2

/* Bits of a policy word, 32 bits */
#define PKS_POLICY_OSSECBOOTAUDIT 0x40000000
#define PKS_POLICY_OSSECBOOTENFORCE 0x20000000
#define PKS_POLICY_PWSET 0x10000000
#define PKS_POLICY_WORLDREADABLE 0x08000000
#define PKS_POLICY_IMMUTABLE 0x04000000
#define PKS_POLICY_TRANSIENT 0x02000000
#define PKS_POLICY_SIGNEDUPDATE 0x01000000
#define PKS_POLICY_WRAPPINGKEY 0x00800000
#define PKS_POLICY_HVPROVISIONED 0x00000008
#define PKS_POLICY_REVOKED 0x00000002

/* Flags of WRAP_OBJECT, 64 bits */
#define PKS_WRAP_OSSECBOOTAUDIT UINT64_C(0x4000000000000000)
#define PKS_WRAP_OSSECBOOTENFORCE UINT64_C(0x2000000000000000)
#define PKS_WRAP_PWSET UINT64_C(0x1000000000000000)

/* Frame types of the data channel */
#define PKS_FRAME_HELLO 1
#define PKS_FRAME_OPEN 2
#define PKS_FRAME_OPENED 3
#define PKS_FRAME_HCALL 4
#define PKS_FRAME_HRETURN 5
#define PKS_FRAME_GOODBYE 6

/* Statuses of OPENED */
#define PKS_OPEN_OPENED 0
#define PKS_OPEN_NO_SUCH_PARTITION 1
#define PKS_OPEN_NOT_AUTHORISED 2
#define PKS_OPEN_NOT_ACTIVATED 3
#define PKS_OPEN_VERSION_NOT_SUPPORTED 4
#define PKS_OPEN_TOO_MANY_SESSIONS 5

/* Reasons of GOODBYE */
#define PKS_GOODBYE_DONE 0
#define PKS_GOODBYE_PROTOCOL_ERROR 1
#define PKS_GOODBYE_IPL_OR_POWER_OFF 2
#define PKS_GOODBYE_MIGRATED 3
#define PKS_GOODBYE_SERVER_STOPPING 4
#define PKS_GOODBYE_IDLE_TOO_LONG 5
#define PKS_GOODBYE_TOO_SLOW_TO_READ 6

/* Proof kinds of OPEN */
#define PKS_PROOF_NONE 0
#define PKS_PROOF_HMAC_SHA256 1

/* Access of an h-call to a segment */
#define PKS_ACCESS_IN 1
#define PKS_ACCESS_OUT 2
#define PKS_ACCESS_BOTH 3

/* Sizes and fixed values of the data channel */
#define PKS_VERSION 1
#define PKS_NONCE_SIZE 32
#define PKS_PROOF_SIZE 32
#define PKS_MAX_BODY 262144
#define PKS_MAX_TEXT 255
#define PKS_FIRST_REGISTER 4
#define PKS_REGISTERS 9

/* Policy words: all known bits, those of a caller, those that the hypervisor reports */
#define PKS_POLICY_KNOWN 0x7f80000a
#define PKS_POLICY_CALLER 0x7f800000
#define PKS_POLICY_STATUS 0x0000000a

/* Flags of the config block */
#define PKS_CONFIG_WRAPPING 0x10
#define PKS_CONFIG_REVOKING 0x08

/* The byte `os` of a label header */
#define PKS_OS_LINUX 0x02
#define PKS_OS_COMMON 0x04

/* Signed updates and key wrapping */
#define PKS_UPDATE_APPEND 1
#define PKS_WRAPPING_KEY_SIZE 32
#define PKS_WRAP_OVERHEAD 1024
#define PKS_MAX_WRAP_INPUT 65535
#define PKS_WRAP_AES_256_GCM 1
#define PKS_WRAP_DEFAULT UINT64_C(0x1000000000000001)

#define PKS_ASSERT(name, condition) typedef char pks_assert_##name[(condition) ? 1 : -1]

/* Big-endian integers as bytes. */
typedef struct {
	uint8_t byte[2];
} pks_be16;

static inline uint16_t pks_get16(const pks_be16 *from)
{
	return (uint16_t)((uint16_t)from->byte[0] << 8 |
		(uint16_t)from->byte[1] << 0);
}

static inline void pks_put16(pks_be16 *to, uint16_t value)
{
	to->byte[0] = (uint8_t)(value >> 8);
	to->byte[1] = (uint8_t)(value >> 0);
}

typedef struct {
	uint8_t byte[4];
} pks_be32;

static inline uint32_t pks_get32(const pks_be32 *from)
{
	return (uint32_t)((uint32_t)from->byte[0] << 24 |
		(uint32_t)from->byte[1] << 16 |
		(uint32_t)from->byte[2] << 8 |
		(uint32_t)from->byte[3] << 0);
}

static inline void pks_put32(pks_be32 *to, uint32_t value)
{
	to->byte[0] = (uint8_t)(value >> 24);
	to->byte[1] = (uint8_t)(value >> 16);
	to->byte[2] = (uint8_t)(value >> 8);
	to->byte[3] = (uint8_t)(value >> 0);
}

typedef struct {
	uint8_t byte[8];
} pks_be64;

static inline uint64_t pks_get64(const pks_be64 *from)
{
	return (uint64_t)((uint64_t)from->byte[0] << 56 |
		(uint64_t)from->byte[1] << 48 |
		(uint64_t)from->byte[2] << 40 |
		(uint64_t)from->byte[3] << 32 |
		(uint64_t)from->byte[4] << 24 |
		(uint64_t)from->byte[5] << 16 |
		(uint64_t)from->byte[6] << 8 |
		(uint64_t)from->byte[7] << 0);
}

static inline void pks_put64(pks_be64 *to, uint64_t value)
{
	to->byte[0] = (uint8_t)(value >> 56);
	to->byte[1] = (uint8_t)(value >> 48);
	to->byte[2] = (uint8_t)(value >> 40);
	to->byte[3] = (uint8_t)(value >> 32);
	to->byte[4] = (uint8_t)(value >> 24);
	to->byte[5] = (uint8_t)(value >> 16);
	to->byte[6] = (uint8_t)(value >> 8);
	to->byte[7] = (uint8_t)(value >> 0);
}

static inline void pks_clear(void *at, size_t size)
{
	uint8_t *bytes = (uint8_t *)at;

	while (size--)
		*bytes++ = 0;
}

static inline int pks_is_clear(const void *at, size_t size)
{
	const uint8_t *bytes = (const uint8_t *)at;
	uint8_t found = 0;

	while (size--)
		found |= *bytes++;
	return !found;
}

static inline void pks_copy(void *to, const void *from, size_t size)
{
	uint8_t *target = (uint8_t *)to;
	const uint8_t *source = (const uint8_t *)from;

	while (size--)
		*target++ = *source++;
}

/* protocol#frame-header */
struct pks_frame_header {
	uint8_t magic[4];
	uint8_t version;
	uint8_t type;
	pks_be16 flags;
	pks_be32 tag;
	pks_be32 length;
};

PKS_ASSERT(pks_frame_header_size, sizeof(struct pks_frame_header) == 16);
PKS_ASSERT(pks_frame_header_magic, offsetof(struct pks_frame_header, magic) == 0);
PKS_ASSERT(pks_frame_header_version, offsetof(struct pks_frame_header, version) == 4);
PKS_ASSERT(pks_frame_header_type, offsetof(struct pks_frame_header, type) == 5);
PKS_ASSERT(pks_frame_header_flags, offsetof(struct pks_frame_header, flags) == 6);
PKS_ASSERT(pks_frame_header_tag, offsetof(struct pks_frame_header, tag) == 8);
PKS_ASSERT(pks_frame_header_length, offsetof(struct pks_frame_header, length) == 12);

struct pks_frame_header_values {
	uint8_t version;
	uint8_t type;
	uint32_t tag;
	uint32_t length;
};

static inline void pks_pack_frame_header(struct pks_frame_header *to, const struct pks_frame_header_values *from)
{
	pks_clear(to, sizeof(*to));
	to->magic[0] = 0x48;
	to->magic[1] = 0x43;
	to->magic[2] = 0x41;
	to->magic[3] = 0x4c;
	to->version = from->version;
	to->type = from->type;
	pks_put32(&to->tag, (uint32_t)from->tag);
	pks_put32(&to->length, (uint32_t)from->length);
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_frame_header(struct pks_frame_header_values *to, const struct pks_frame_header *from)
{
	if (from->magic[0] != 0x48)
		return -1;
	if (from->magic[1] != 0x43)
		return -1;
	if (from->magic[2] != 0x41)
		return -1;
	if (from->magic[3] != 0x4c)
		return -1;
	to->version = from->version;
	to->type = from->type;
	if (!pks_is_clear(&from->flags, sizeof(from->flags)))
		return -1;
	to->tag = (uint32_t)pks_get32(&from->tag);
	to->length = (uint32_t)pks_get32(&from->length);
	return 0;
}

/* protocol#hello */
struct pks_hello {
	uint8_t lowest;
	uint8_t highest;
	pks_be16 reserved1;
	pks_be32 max_body;
	pks_be64 features;
	uint8_t nonce[32];
};

PKS_ASSERT(pks_hello_size, sizeof(struct pks_hello) == 48);
PKS_ASSERT(pks_hello_lowest, offsetof(struct pks_hello, lowest) == 0);
PKS_ASSERT(pks_hello_highest, offsetof(struct pks_hello, highest) == 1);
PKS_ASSERT(pks_hello_reserved1, offsetof(struct pks_hello, reserved1) == 2);
PKS_ASSERT(pks_hello_max_body, offsetof(struct pks_hello, max_body) == 4);
PKS_ASSERT(pks_hello_features, offsetof(struct pks_hello, features) == 8);
PKS_ASSERT(pks_hello_nonce, offsetof(struct pks_hello, nonce) == 16);

struct pks_hello_values {
	uint8_t lowest;
	uint8_t highest;
	uint32_t max_body;
	uint64_t features;
	uint8_t nonce[32];
};

static inline void pks_pack_hello(struct pks_hello *to, const struct pks_hello_values *from)
{
	pks_clear(to, sizeof(*to));
	to->lowest = from->lowest;
	to->highest = from->highest;
	pks_put32(&to->max_body, (uint32_t)from->max_body);
	pks_put64(&to->features, (uint64_t)from->features);
	pks_copy(to->nonce, from->nonce, sizeof(to->nonce));
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_hello(struct pks_hello_values *to, const struct pks_hello *from)
{
	to->lowest = from->lowest;
	to->highest = from->highest;
	if (!pks_is_clear(&from->reserved1, sizeof(from->reserved1)))
		return -1;
	to->max_body = (uint32_t)pks_get32(&from->max_body);
	to->features = (uint64_t)pks_get64(&from->features);
	pks_copy(to->nonce, from->nonce, sizeof(to->nonce));
	return 0;
}

/* protocol#open */
struct pks_open {
	pks_be16 partition;
	uint8_t proof_kind;
	uint8_t reserved1;
	uint8_t nonce[32];
	uint8_t proof[32];
};

PKS_ASSERT(pks_open_size, sizeof(struct pks_open) == 68);
PKS_ASSERT(pks_open_partition, offsetof(struct pks_open, partition) == 0);
PKS_ASSERT(pks_open_proof_kind, offsetof(struct pks_open, proof_kind) == 2);
PKS_ASSERT(pks_open_reserved1, offsetof(struct pks_open, reserved1) == 3);
PKS_ASSERT(pks_open_nonce, offsetof(struct pks_open, nonce) == 4);
PKS_ASSERT(pks_open_proof, offsetof(struct pks_open, proof) == 36);

struct pks_open_values {
	uint16_t partition;
	uint8_t proof_kind;
	uint8_t nonce[32];
	uint8_t proof[32];
};

static inline void pks_pack_open(struct pks_open *to, const struct pks_open_values *from)
{
	pks_clear(to, sizeof(*to));
	pks_put16(&to->partition, (uint16_t)from->partition);
	to->proof_kind = from->proof_kind;
	pks_copy(to->nonce, from->nonce, sizeof(to->nonce));
	pks_copy(to->proof, from->proof, sizeof(to->proof));
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_open(struct pks_open_values *to, const struct pks_open *from)
{
	to->partition = (uint16_t)pks_get16(&from->partition);
	to->proof_kind = from->proof_kind;
	if (!pks_is_clear(&from->reserved1, sizeof(from->reserved1)))
		return -1;
	pks_copy(to->nonce, from->nonce, sizeof(to->nonce));
	pks_copy(to->proof, from->proof, sizeof(to->proof));
	return 0;
}

/* protocol#opened */
struct pks_opened {
	pks_be32 status;
	pks_be16 partition;
	pks_be16 reserved1;
	pks_be32 ipl_count;
	uint8_t proof[32];
};

PKS_ASSERT(pks_opened_size, sizeof(struct pks_opened) == 44);
PKS_ASSERT(pks_opened_status, offsetof(struct pks_opened, status) == 0);
PKS_ASSERT(pks_opened_partition, offsetof(struct pks_opened, partition) == 4);
PKS_ASSERT(pks_opened_reserved1, offsetof(struct pks_opened, reserved1) == 6);
PKS_ASSERT(pks_opened_ipl_count, offsetof(struct pks_opened, ipl_count) == 8);
PKS_ASSERT(pks_opened_proof, offsetof(struct pks_opened, proof) == 12);

struct pks_opened_values {
	int32_t status;
	uint16_t partition;
	uint32_t ipl_count;
	uint8_t proof[32];
};

static inline void pks_pack_opened(struct pks_opened *to, const struct pks_opened_values *from)
{
	pks_clear(to, sizeof(*to));
	pks_put32(&to->status, (uint32_t)from->status);
	pks_put16(&to->partition, (uint16_t)from->partition);
	pks_put32(&to->ipl_count, (uint32_t)from->ipl_count);
	pks_copy(to->proof, from->proof, sizeof(to->proof));
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_opened(struct pks_opened_values *to, const struct pks_opened *from)
{
	to->status = (int32_t)pks_get32(&from->status);
	to->partition = (uint16_t)pks_get16(&from->partition);
	if (!pks_is_clear(&from->reserved1, sizeof(from->reserved1)))
		return -1;
	to->ipl_count = (uint32_t)pks_get32(&from->ipl_count);
	pks_copy(to->proof, from->proof, sizeof(to->proof));
	return 0;
}

/* protocol#hcall */
struct pks_hcall {
	pks_be64 opcode;
	pks_be64 registers[9];
	pks_be16 count;
	pks_be16 reserved1;
	pks_be32 reserved2;
};

PKS_ASSERT(pks_hcall_size, sizeof(struct pks_hcall) == 88);
PKS_ASSERT(pks_hcall_opcode, offsetof(struct pks_hcall, opcode) == 0);
PKS_ASSERT(pks_hcall_registers, offsetof(struct pks_hcall, registers) == 8);
PKS_ASSERT(pks_hcall_count, offsetof(struct pks_hcall, count) == 80);
PKS_ASSERT(pks_hcall_reserved1, offsetof(struct pks_hcall, reserved1) == 82);
PKS_ASSERT(pks_hcall_reserved2, offsetof(struct pks_hcall, reserved2) == 84);

struct pks_hcall_values {
	uint64_t opcode;
	uint64_t registers[9];
	uint16_t count;
};

static inline void pks_pack_hcall(struct pks_hcall *to, const struct pks_hcall_values *from)
{
	pks_clear(to, sizeof(*to));
	pks_put64(&to->opcode, (uint64_t)from->opcode);
	pks_put64(&to->registers[0], (uint64_t)from->registers[0]);
	pks_put64(&to->registers[1], (uint64_t)from->registers[1]);
	pks_put64(&to->registers[2], (uint64_t)from->registers[2]);
	pks_put64(&to->registers[3], (uint64_t)from->registers[3]);
	pks_put64(&to->registers[4], (uint64_t)from->registers[4]);
	pks_put64(&to->registers[5], (uint64_t)from->registers[5]);
	pks_put64(&to->registers[6], (uint64_t)from->registers[6]);
	pks_put64(&to->registers[7], (uint64_t)from->registers[7]);
	pks_put64(&to->registers[8], (uint64_t)from->registers[8]);
	pks_put16(&to->count, (uint16_t)from->count);
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_hcall(struct pks_hcall_values *to, const struct pks_hcall *from)
{
	to->opcode = (uint64_t)pks_get64(&from->opcode);
	to->registers[0] = (uint64_t)pks_get64(&from->registers[0]);
	to->registers[1] = (uint64_t)pks_get64(&from->registers[1]);
	to->registers[2] = (uint64_t)pks_get64(&from->registers[2]);
	to->registers[3] = (uint64_t)pks_get64(&from->registers[3]);
	to->registers[4] = (uint64_t)pks_get64(&from->registers[4]);
	to->registers[5] = (uint64_t)pks_get64(&from->registers[5]);
	to->registers[6] = (uint64_t)pks_get64(&from->registers[6]);
	to->registers[7] = (uint64_t)pks_get64(&from->registers[7]);
	to->registers[8] = (uint64_t)pks_get64(&from->registers[8]);
	to->count = (uint16_t)pks_get16(&from->count);
	if (!pks_is_clear(&from->reserved1, sizeof(from->reserved1)))
		return -1;
	if (!pks_is_clear(&from->reserved2, sizeof(from->reserved2)))
		return -1;
	return 0;
}

/* protocol#hcall */
struct pks_segment {
	pks_be64 address;
	pks_be32 length;
	pks_be32 access;
};

PKS_ASSERT(pks_segment_size, sizeof(struct pks_segment) == 16);
PKS_ASSERT(pks_segment_address, offsetof(struct pks_segment, address) == 0);
PKS_ASSERT(pks_segment_length, offsetof(struct pks_segment, length) == 8);
PKS_ASSERT(pks_segment_access, offsetof(struct pks_segment, access) == 12);

struct pks_segment_values {
	uint64_t address;
	uint32_t length;
	uint32_t access;
};

static inline void pks_pack_segment(struct pks_segment *to, const struct pks_segment_values *from)
{
	pks_clear(to, sizeof(*to));
	pks_put64(&to->address, (uint64_t)from->address);
	pks_put32(&to->length, (uint32_t)from->length);
	pks_put32(&to->access, (uint32_t)from->access);
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_segment(struct pks_segment_values *to, const struct pks_segment *from)
{
	to->address = (uint64_t)pks_get64(&from->address);
	to->length = (uint32_t)pks_get32(&from->length);
	to->access = (uint32_t)pks_get32(&from->access);
	return 0;
}

/* protocol#hreturn */
struct pks_hreturn {
	pks_be64 status;
	pks_be64 registers[9];
	pks_be16 count;
	pks_be16 reserved1;
	pks_be32 reserved2;
};

PKS_ASSERT(pks_hreturn_size, sizeof(struct pks_hreturn) == 88);
PKS_ASSERT(pks_hreturn_status, offsetof(struct pks_hreturn, status) == 0);
PKS_ASSERT(pks_hreturn_registers, offsetof(struct pks_hreturn, registers) == 8);
PKS_ASSERT(pks_hreturn_count, offsetof(struct pks_hreturn, count) == 80);
PKS_ASSERT(pks_hreturn_reserved1, offsetof(struct pks_hreturn, reserved1) == 82);
PKS_ASSERT(pks_hreturn_reserved2, offsetof(struct pks_hreturn, reserved2) == 84);

struct pks_hreturn_values {
	int64_t status;
	uint64_t registers[9];
	uint16_t count;
};

static inline void pks_pack_hreturn(struct pks_hreturn *to, const struct pks_hreturn_values *from)
{
	pks_clear(to, sizeof(*to));
	pks_put64(&to->status, (uint64_t)from->status);
	pks_put64(&to->registers[0], (uint64_t)from->registers[0]);
	pks_put64(&to->registers[1], (uint64_t)from->registers[1]);
	pks_put64(&to->registers[2], (uint64_t)from->registers[2]);
	pks_put64(&to->registers[3], (uint64_t)from->registers[3]);
	pks_put64(&to->registers[4], (uint64_t)from->registers[4]);
	pks_put64(&to->registers[5], (uint64_t)from->registers[5]);
	pks_put64(&to->registers[6], (uint64_t)from->registers[6]);
	pks_put64(&to->registers[7], (uint64_t)from->registers[7]);
	pks_put64(&to->registers[8], (uint64_t)from->registers[8]);
	pks_put16(&to->count, (uint16_t)from->count);
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_hreturn(struct pks_hreturn_values *to, const struct pks_hreturn *from)
{
	to->status = (int64_t)pks_get64(&from->status);
	to->registers[0] = (uint64_t)pks_get64(&from->registers[0]);
	to->registers[1] = (uint64_t)pks_get64(&from->registers[1]);
	to->registers[2] = (uint64_t)pks_get64(&from->registers[2]);
	to->registers[3] = (uint64_t)pks_get64(&from->registers[3]);
	to->registers[4] = (uint64_t)pks_get64(&from->registers[4]);
	to->registers[5] = (uint64_t)pks_get64(&from->registers[5]);
	to->registers[6] = (uint64_t)pks_get64(&from->registers[6]);
	to->registers[7] = (uint64_t)pks_get64(&from->registers[7]);
	to->registers[8] = (uint64_t)pks_get64(&from->registers[8]);
	to->count = (uint16_t)pks_get16(&from->count);
	if (!pks_is_clear(&from->reserved1, sizeof(from->reserved1)))
		return -1;
	if (!pks_is_clear(&from->reserved2, sizeof(from->reserved2)))
		return -1;
	return 0;
}

/* protocol#hreturn */
struct pks_write {
	pks_be64 address;
	pks_be32 length;
	pks_be32 reserved1;
};

PKS_ASSERT(pks_write_size, sizeof(struct pks_write) == 16);
PKS_ASSERT(pks_write_address, offsetof(struct pks_write, address) == 0);
PKS_ASSERT(pks_write_length, offsetof(struct pks_write, length) == 8);
PKS_ASSERT(pks_write_reserved1, offsetof(struct pks_write, reserved1) == 12);

struct pks_write_values {
	uint64_t address;
	uint32_t length;
};

static inline void pks_pack_write(struct pks_write *to, const struct pks_write_values *from)
{
	pks_clear(to, sizeof(*to));
	pks_put64(&to->address, (uint64_t)from->address);
	pks_put32(&to->length, (uint32_t)from->length);
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_write(struct pks_write_values *to, const struct pks_write *from)
{
	to->address = (uint64_t)pks_get64(&from->address);
	to->length = (uint32_t)pks_get32(&from->length);
	if (!pks_is_clear(&from->reserved1, sizeof(from->reserved1)))
		return -1;
	return 0;
}

/* protocol#goodbye */
struct pks_goodbye {
	pks_be32 reason;
};

PKS_ASSERT(pks_goodbye_size, sizeof(struct pks_goodbye) == 4);
PKS_ASSERT(pks_goodbye_reason, offsetof(struct pks_goodbye, reason) == 0);

struct pks_goodbye_values {
	uint32_t reason;
};

static inline void pks_pack_goodbye(struct pks_goodbye *to, const struct pks_goodbye_values *from)
{
	pks_clear(to, sizeof(*to));
	pks_put32(&to->reason, (uint32_t)from->reason);
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_goodbye(struct pks_goodbye_values *to, const struct pks_goodbye *from)
{
	to->reason = (uint32_t)pks_get32(&from->reason);
	return 0;
}

/* structures#authorization-block */
struct pks_auth {
	uint8_t version;
	uint8_t consumer;
	uint8_t reserved1[8];
	pks_be32 reserved2;
	pks_be16 password_length;
};

PKS_ASSERT(pks_auth_size, sizeof(struct pks_auth) == 16);
PKS_ASSERT(pks_auth_version, offsetof(struct pks_auth, version) == 0);
PKS_ASSERT(pks_auth_consumer, offsetof(struct pks_auth, consumer) == 1);
PKS_ASSERT(pks_auth_reserved1, offsetof(struct pks_auth, reserved1) == 2);
PKS_ASSERT(pks_auth_reserved2, offsetof(struct pks_auth, reserved2) == 10);
PKS_ASSERT(pks_auth_password_length, offsetof(struct pks_auth, password_length) == 14);

struct pks_auth_values {
	uint8_t consumer;
	uint16_t password_length;
};

static inline void pks_pack_auth(struct pks_auth *to, const struct pks_auth_values *from)
{
	pks_clear(to, sizeof(*to));
	to->version = 0x01;
	to->consumer = from->consumer;
	pks_put16(&to->password_length, (uint16_t)from->password_length);
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_auth(struct pks_auth_values *to, const struct pks_auth *from)
{
	if (from->version != 0x01)
		return -1;
	to->consumer = from->consumer;
	if (!pks_is_clear(&from->reserved1, sizeof(from->reserved1)))
		return -1;
	if (!pks_is_clear(&from->reserved2, sizeof(from->reserved2)))
		return -1;
	to->password_length = (uint16_t)pks_get16(&from->password_length);
	return 0;
}

/* structures#label */
struct pks_label_header {
	uint8_t prefix[8];
	uint8_t version;
	uint8_t os;
	uint8_t length;
	uint8_t reserved1[5];
};

PKS_ASSERT(pks_label_header_size, sizeof(struct pks_label_header) == 16);
PKS_ASSERT(pks_label_header_prefix, offsetof(struct pks_label_header, prefix) == 0);
PKS_ASSERT(pks_label_header_version, offsetof(struct pks_label_header, version) == 8);
PKS_ASSERT(pks_label_header_os, offsetof(struct pks_label_header, os) == 9);
PKS_ASSERT(pks_label_header_length, offsetof(struct pks_label_header, length) == 10);
PKS_ASSERT(pks_label_header_reserved1, offsetof(struct pks_label_header, reserved1) == 11);

struct pks_label_header_values {
	uint8_t prefix[8];
	uint8_t os;
};

static inline void pks_pack_label_header(struct pks_label_header *to, const struct pks_label_header_values *from)
{
	pks_clear(to, sizeof(*to));
	pks_copy(to->prefix, from->prefix, sizeof(to->prefix));
	to->os = from->os;
	to->length = 0x10;
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_label_header(struct pks_label_header_values *to, const struct pks_label_header *from)
{
	pks_copy(to->prefix, from->prefix, sizeof(to->prefix));
	if (!pks_is_clear(&from->version, sizeof(from->version)))
		return -1;
	to->os = from->os;
	if (from->length != 0x10)
		return -1;
	if (!pks_is_clear(&from->reserved1, sizeof(from->reserved1)))
		return -1;
	return 0;
}

/* structures#config-block */
struct pks_config {
	uint8_t version;
	uint8_t flags;
	pks_be16 reserved1;
	pks_be16 object_overhead;
	pks_be16 max_password_size;
	pks_be16 max_label_size;
	pks_be16 max_object_size;
	pks_be32 total_size;
	pks_be32 used_space;
	pks_be32 supported_policies;
	pks_be32 max_large_object_size;
	pks_be64 signed_update_algorithms;
	pks_be64 wrapping_features;
	uint8_t reserved2[476];
};

PKS_ASSERT(pks_config_size, sizeof(struct pks_config) == 520);
PKS_ASSERT(pks_config_version, offsetof(struct pks_config, version) == 0);
PKS_ASSERT(pks_config_flags, offsetof(struct pks_config, flags) == 1);
PKS_ASSERT(pks_config_reserved1, offsetof(struct pks_config, reserved1) == 2);
PKS_ASSERT(pks_config_object_overhead, offsetof(struct pks_config, object_overhead) == 4);
PKS_ASSERT(pks_config_max_password_size, offsetof(struct pks_config, max_password_size) == 6);
PKS_ASSERT(pks_config_max_label_size, offsetof(struct pks_config, max_label_size) == 8);
PKS_ASSERT(pks_config_max_object_size, offsetof(struct pks_config, max_object_size) == 10);
PKS_ASSERT(pks_config_total_size, offsetof(struct pks_config, total_size) == 12);
PKS_ASSERT(pks_config_used_space, offsetof(struct pks_config, used_space) == 16);
PKS_ASSERT(pks_config_supported_policies, offsetof(struct pks_config, supported_policies) == 20);
PKS_ASSERT(pks_config_max_large_object_size, offsetof(struct pks_config, max_large_object_size) == 24);
PKS_ASSERT(pks_config_signed_update_algorithms, offsetof(struct pks_config, signed_update_algorithms) == 28);
PKS_ASSERT(pks_config_wrapping_features, offsetof(struct pks_config, wrapping_features) == 36);
PKS_ASSERT(pks_config_reserved2, offsetof(struct pks_config, reserved2) == 44);

struct pks_config_values {
	uint8_t version;
	uint8_t flags;
	uint16_t object_overhead;
	uint16_t max_password_size;
	uint16_t max_label_size;
	uint16_t max_object_size;
	uint32_t total_size;
	uint32_t used_space;
	uint32_t supported_policies;
	uint32_t max_large_object_size;
	uint64_t signed_update_algorithms;
	uint64_t wrapping_features;
};

static inline void pks_pack_config(struct pks_config *to, const struct pks_config_values *from)
{
	pks_clear(to, sizeof(*to));
	to->version = from->version;
	to->flags = from->flags;
	pks_put16(&to->object_overhead, (uint16_t)from->object_overhead);
	pks_put16(&to->max_password_size, (uint16_t)from->max_password_size);
	pks_put16(&to->max_label_size, (uint16_t)from->max_label_size);
	pks_put16(&to->max_object_size, (uint16_t)from->max_object_size);
	pks_put32(&to->total_size, (uint32_t)from->total_size);
	pks_put32(&to->used_space, (uint32_t)from->used_space);
	pks_put32(&to->supported_policies, (uint32_t)from->supported_policies);
	pks_put32(&to->max_large_object_size, (uint32_t)from->max_large_object_size);
	pks_put64(&to->signed_update_algorithms, (uint64_t)from->signed_update_algorithms);
	pks_put64(&to->wrapping_features, (uint64_t)from->wrapping_features);
}

/* Returns 0, or -1 if a field that is constant has another value. */
static inline int pks_unpack_config(struct pks_config_values *to, const struct pks_config *from)
{
	to->version = from->version;
	to->flags = from->flags;
	if (!pks_is_clear(&from->reserved1, sizeof(from->reserved1)))
		return -1;
	to->object_overhead = (uint16_t)pks_get16(&from->object_overhead);
	to->max_password_size = (uint16_t)pks_get16(&from->max_password_size);
	to->max_label_size = (uint16_t)pks_get16(&from->max_label_size);
	to->max_object_size = (uint16_t)pks_get16(&from->max_object_size);
	to->total_size = (uint32_t)pks_get32(&from->total_size);
	to->used_space = (uint32_t)pks_get32(&from->used_space);
	to->supported_policies = (uint32_t)pks_get32(&from->supported_policies);
	to->max_large_object_size = (uint32_t)pks_get32(&from->max_large_object_size);
	to->signed_update_algorithms = (uint64_t)pks_get64(&from->signed_update_algorithms);
	to->wrapping_features = (uint64_t)pks_get64(&from->wrapping_features);
	if (!pks_is_clear(&from->reserved2, sizeof(from->reserved2)))
		return -1;
	return 0;
}

/* H_PKS_GET_CONFIG: hcalls/get_config */
static inline void pks_get_config_arguments(uint64_t registers[PKS_REGISTERS], uint64_t config,
	uint64_t config_length)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = config;
	registers[1] = config_length;
}

/* H_PKS_SET_PASSWORD: hcalls/set_password */
static inline void pks_set_password_arguments(uint64_t registers[PKS_REGISTERS], uint64_t consumer,
	uint64_t reserved, uint64_t password, uint64_t password_length)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = consumer;
	registers[1] = reserved;
	registers[2] = password;
	registers[3] = password_length;
}

/* H_PKS_GEN_PASSWORD: hcalls/gen_password */
static inline void pks_gen_password_arguments(uint64_t registers[PKS_REGISTERS], uint64_t consumer,
	uint64_t reserved, uint64_t password, uint64_t password_length)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = consumer;
	registers[1] = reserved;
	registers[2] = password;
	registers[3] = password_length;
}

/* H_PKS_GET_OBJECTLABELS: hcalls/get_objectlabels */
/* The place of each result in the registers of the answer */
#define PKS_GET_OBJECTLABELS_RESULT_COUNT 0
#define PKS_GET_OBJECTLABELS_RESULT_TOKEN 1

static inline void pks_get_objectlabels_arguments(uint64_t registers[PKS_REGISTERS], uint64_t authorization,
	uint64_t token, uint64_t labels, uint64_t labels_length)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = token;
	registers[2] = labels;
	registers[3] = labels_length;
}

/* H_PKS_WRITE_OBJECT: hcalls/write_object */
static inline void pks_write_object_arguments(uint64_t registers[PKS_REGISTERS], uint64_t authorization,
	uint64_t label, uint64_t label_length, uint64_t policy, uint64_t data, uint64_t data_length)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = label;
	registers[2] = label_length;
	registers[3] = policy;
	registers[4] = data;
	registers[5] = data_length;
}

/* H_PKS_GEN_KEY: hcalls/gen_key */
static inline void pks_gen_key_arguments(uint64_t registers[PKS_REGISTERS], uint64_t authorization,
	uint64_t label, uint64_t label_length, uint64_t policy, uint64_t key, uint64_t key_length)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = label;
	registers[2] = label_length;
	registers[3] = policy;
	registers[4] = key;
	registers[5] = key_length;
}

/* H_PKS_READ_OBJECT: hcalls/read_object */
/* The place of each result in the registers of the answer */
#define PKS_READ_OBJECT_RESULT_SIZE 0
#define PKS_READ_OBJECT_RESULT_POLICY 1

static inline void pks_read_object_arguments(uint64_t registers[PKS_REGISTERS], uint64_t authorization,
	uint64_t label, uint64_t label_length, uint64_t data, uint64_t data_length)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = label;
	registers[2] = label_length;
	registers[3] = data;
	registers[4] = data_length;
}

/* H_PKS_REMOVE_OBJECT: hcalls/remove_object */
static inline void pks_remove_object_arguments(uint64_t registers[PKS_REGISTERS], uint64_t authorization,
	uint64_t label, uint64_t label_length)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = label;
	registers[2] = label_length;
}

/* H_PKS_CONFIRM_OBJECT_FLUSHED: hcalls/confirm_object_flushed */
/* The place of each result in the registers of the answer */
#define PKS_CONFIRM_OBJECT_FLUSHED_RESULT_FLUSHED 0

static inline void pks_confirm_object_flushed_arguments(uint64_t registers[PKS_REGISTERS],
	uint64_t authorization, uint64_t label, uint64_t label_length)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = label;
	registers[2] = label_length;
}

/* H_PKS_SIGNED_UPDATE: hcalls/signed_update */
/* The place of each result in the registers of the answer */
#define PKS_SIGNED_UPDATE_RESULT_TOKEN 0

static inline void pks_signed_update_arguments(uint64_t registers[PKS_REGISTERS], uint64_t authorization,
	uint64_t label, uint64_t label_length, uint64_t policy, uint64_t flags, uint64_t data, uint64_t data_length,
	uint64_t token)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = label;
	registers[2] = label_length;
	registers[3] = policy;
	registers[4] = flags;
	registers[5] = data;
	registers[6] = data_length;
	registers[7] = token;
}

/* H_PKS_WRAP_OBJECT: hcalls/wrap_object */
/* The place of each result in the registers of the answer */
#define PKS_WRAP_OBJECT_RESULT_TOKEN 0
#define PKS_WRAP_OBJECT_RESULT_SIZE 1

static inline void pks_wrap_object_arguments(uint64_t registers[PKS_REGISTERS], uint64_t authorization,
	uint64_t label, uint64_t label_length, uint64_t flags, uint64_t input, uint64_t input_length,
	uint64_t output, uint64_t output_length, uint64_t token)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = label;
	registers[2] = label_length;
	registers[3] = flags;
	registers[4] = input;
	registers[5] = input_length;
	registers[6] = output;
	registers[7] = output_length;
	registers[8] = token;
}

/* H_PKS_UNWRAP_OBJECT: hcalls/unwrap_object */
/* The place of each result in the registers of the answer */
#define PKS_UNWRAP_OBJECT_RESULT_TOKEN 0
#define PKS_UNWRAP_OBJECT_RESULT_SIZE 1

static inline void pks_unwrap_object_arguments(uint64_t registers[PKS_REGISTERS], uint64_t authorization,
	uint64_t flags, uint64_t input, uint64_t input_length, uint64_t output, uint64_t output_length,
	uint64_t token)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = flags;
	registers[2] = input;
	registers[3] = input_length;
	registers[4] = output;
	registers[5] = output_length;
	registers[6] = token;
}

/* H_PKS_REVOKE_OBJECT: hcalls/revoke_object */
/* The place of each result in the registers of the answer */
#define PKS_REVOKE_OBJECT_RESULT_POLICY 0

static inline void pks_revoke_object_arguments(uint64_t registers[PKS_REGISTERS], uint64_t authorization,
	uint64_t label, uint64_t label_length, uint64_t flags)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = label;
	registers[2] = label_length;
	registers[3] = flags;
}

/* H_PKS_UNREVOKE_OBJECT: hcalls/unrevoke_object */
/* The place of each result in the registers of the answer */
#define PKS_UNREVOKE_OBJECT_RESULT_POLICY 0

static inline void pks_unrevoke_object_arguments(uint64_t registers[PKS_REGISTERS], uint64_t authorization,
	uint64_t label, uint64_t label_length, uint64_t flags)
{
	pks_clear(registers, PKS_REGISTERS * sizeof(registers[0]));
	registers[0] = authorization;
	registers[1] = label;
	registers[2] = label_length;
	registers[3] = flags;
}

/* Returns the name, or a null pointer for a number without one. */
static inline const char *pks_status_name(int64_t status)
{
	switch (status) {
	case PKS_H_SUCCESS:
		return "H_SUCCESS";
	case PKS_H_BUSY:
		return "H_BUSY";
	case PKS_H_NOT_AVAILABLE:
		return "H_NOT_AVAILABLE";
	case PKS_H_PARTIAL:
		return "H_PARTIAL";
	case PKS_H_IN_PROGRESS:
		return "H_IN_PROGRESS";
	case PKS_H_CONTINUE:
		return "H_CONTINUE";
	case PKS_H_LONG_BUSY_ORDER_1_MSEC:
		return "H_LONG_BUSY_ORDER_1_MSEC";
	case PKS_H_LONG_BUSY_ORDER_10_MSEC:
		return "H_LONG_BUSY_ORDER_10_MSEC";
	case PKS_H_LONG_BUSY_ORDER_100_MSEC:
		return "H_LONG_BUSY_ORDER_100_MSEC";
	case PKS_H_LONG_BUSY_ORDER_1_SEC:
		return "H_LONG_BUSY_ORDER_1_SEC";
	case PKS_H_LONG_BUSY_ORDER_10_SEC:
		return "H_LONG_BUSY_ORDER_10_SEC";
	case PKS_H_LONG_BUSY_ORDER_100_SEC:
		return "H_LONG_BUSY_ORDER_100_SEC";
	case PKS_H_HARDWARE:
		return "H_HARDWARE";
	case PKS_H_FUNCTION:
		return "H_FUNCTION";
	case PKS_H_PRIVILEGE:
		return "H_PRIVILEGE";
	case PKS_H_PARAMETER:
		return "H_PARAMETER";
	case PKS_H_NOT_FOUND:
		return "H_NOT_FOUND";
	case PKS_H_NO_MEM:
		return "H_NO_MEM";
	case PKS_H_AUTHORITY:
		return "H_AUTHORITY";
	case PKS_H_PERMISSION:
		return "H_PERMISSION";
	case PKS_H_RESOURCE:
		return "H_RESOURCE";
	case PKS_H_R_STATE:
		return "H_R_STATE";
	case PKS_H_ABORTED:
		return "H_ABORTED";
	case PKS_H_P2:
		return "H_P2";
	case PKS_H_P3:
		return "H_P3";
	case PKS_H_P4:
		return "H_P4";
	case PKS_H_P5:
		return "H_P5";
	case PKS_H_P6:
		return "H_P6";
	case PKS_H_P7:
		return "H_P7";
	case PKS_H_P8:
		return "H_P8";
	case PKS_H_P9:
		return "H_P9";
	case PKS_H_NOOP:
		return "H_NOOP";
	case PKS_H_TOO_BIG:
		return "H_TOO_BIG";
	case PKS_H_UNSUPPORTED:
		return "H_UNSUPPORTED";
	case PKS_H_OVERLAP:
		return "H_OVERLAP";
	case PKS_H_BAD_DATA:
		return "H_BAD_DATA";
	case PKS_H_NOT_ACTIVE:
		return "H_NOT_ACTIVE";
	case PKS_H_STATE:
		return "H_STATE";
	case PKS_H_IN_USE:
		return "H_IN_USE";
	case PKS_H_INVALID_KEY:
		return "H_INVALID_KEY";
	default:
		return 0;
	}
}

/* Returns the name, or a null pointer for a number without one. */
static inline const char *pks_opcode_name(uint64_t opcode)
{
	switch (opcode) {
	case PKS_OPCODE_GET_CONFIG:
		return "H_PKS_GET_CONFIG";
	case PKS_OPCODE_SET_PASSWORD:
		return "H_PKS_SET_PASSWORD";
	case PKS_OPCODE_GEN_PASSWORD:
		return "H_PKS_GEN_PASSWORD";
	case PKS_OPCODE_GET_OBJECTLABELS:
		return "H_PKS_GET_OBJECTLABELS";
	case PKS_OPCODE_WRITE_OBJECT:
		return "H_PKS_WRITE_OBJECT";
	case PKS_OPCODE_GEN_KEY:
		return "H_PKS_GEN_KEY";
	case PKS_OPCODE_READ_OBJECT:
		return "H_PKS_READ_OBJECT";
	case PKS_OPCODE_REMOVE_OBJECT:
		return "H_PKS_REMOVE_OBJECT";
	case PKS_OPCODE_CONFIRM_OBJECT_FLUSHED:
		return "H_PKS_CONFIRM_OBJECT_FLUSHED";
	case PKS_OPCODE_SIGNED_UPDATE:
		return "H_PKS_SIGNED_UPDATE";
	case PKS_OPCODE_WRAP_OBJECT:
		return "H_PKS_WRAP_OBJECT";
	case PKS_OPCODE_UNWRAP_OBJECT:
		return "H_PKS_UNWRAP_OBJECT";
	case PKS_OPCODE_REVOKE_OBJECT:
		return "H_PKS_REVOKE_OBJECT";
	case PKS_OPCODE_UNREVOKE_OBJECT:
		return "H_PKS_UNREVOKE_OBJECT";
	default:
		return 0;
	}
}

/* Returns the register (4 to 12) of the argument that a status refuses, or 0. */
static inline int pks_blamed_register(int64_t status)
{
	switch (status) {
	case PKS_H_PARAMETER:
		return 4;
	case PKS_H_P2:
		return 5;
	case PKS_H_P3:
		return 6;
	case PKS_H_P4:
		return 7;
	case PKS_H_P5:
		return 8;
	case PKS_H_P6:
		return 9;
	case PKS_H_P7:
		return 10;
	case PKS_H_P8:
		return 11;
	case PKS_H_P9:
		return 12;
	default:
		return 0;
	}
}

/* levels: limits in bytes, masks, and the opcodes that the level has, up to a 0. */
struct pks_level {
	const char *name;
	uint64_t config_version;
	uint64_t max_password_size;
	uint64_t max_label_size;
	uint64_t max_object_size;
	uint64_t max_large_object_size;
	uint64_t object_overhead;
	uint64_t supported_policies;
	uint64_t signed_update_algorithms;
	uint64_t wrapping_features;
	uint16_t calls[15];
};

#define PKS_LEVELS 8

/* Returns a level, 0 (the oldest) to PKS_LEVELS - 1; a null pointer for any other number. */
static inline const struct pks_level *pks_level(unsigned int number)
{
	static const struct pks_level levels[PKS_LEVELS] = {
		{ "FW940", 0, 0, 0, 0, 0, 0, 0, 0, 0,
			{ 0 } },
		{ "FW950", 1, 32, 255, 65535, 0, 32, 0x7f000000, 0, 0,
			{ 0x41c, 0x420, 0x424, 0x428, 0x42c, 0x430, 0x434, 0x438, 0x43c, 0 } },
		{ "FW1010", 2, 64, 255, 65535, 0, 32, 0x7f000000, 0, 0,
			{ 0x41c, 0x420, 0x424, 0x428, 0x42c, 0x430, 0x434, 0x438, 0x43c, 0 } },
		{ "FW1030", 3, 64, 255, 65535, 0, 32, 0x7f000000, UINT64_C(0xc000000000000000), 0,
			{ 0x41c, 0x420, 0x424, 0x428, 0x42c, 0x430, 0x434, 0x438, 0x43c, 0x454, 0 } },
		{ "FW1050", 3, 64, 255, 65535, 65536, 32, 0x7f000000, UINT64_C(0xc000000000000000), 0,
			{ 0x41c, 0x420, 0x424, 0x428, 0x42c, 0x430, 0x434, 0x438, 0x43c, 0x454, 0 } },
		{ "FW1060", 3, 64, 255, 65535, 65536, 32, 0x7f000000, UINT64_C(0xc000000000000000), 0,
			{ 0x41c, 0x420, 0x424, 0x428, 0x42c, 0x430, 0x434, 0x438, 0x43c, 0x454, 0 } },
		{ "FW1110", 3, 64, 255, 65535, 0x20000, 32, 0x7f800000, UINT64_C(0xc000000000000000), UINT64_C(0x8000000000000000),
			{ 0x41c, 0x420, 0x424, 0x428, 0x42c, 0x430, 0x434, 0x438, 0x43c, 0x454, 0x490, 0x494, 0 } },
		{ "NEXT", 3, 64, 255, 65535, 0x20000, 32, 0x7f800000, UINT64_C(0xc000000000000000), UINT64_C(0x8000000000000000),
			{ 0x41c, 0x420, 0x424, 0x428, 0x42c, 0x430, 0x434, 0x438, 0x43c, 0x454, 0x490, 0x494, 0x4ac, 0x4b0, 0 } },
	};

	return number < PKS_LEVELS ? &levels[number] : 0;
}

static inline int pks_level_has(const struct pks_level *level, uint64_t opcode)
{
	unsigned int n;

	for (n = 0; level->calls[n]; n++)
		if (level->calls[n] == opcode)
			return 1;
	return 0;
}

#endif
