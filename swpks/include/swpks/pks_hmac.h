/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HMAC-SHA256 (RFC 2104, FIPS 180-4), for the proofs of the data channel: spec/protocol.md#proof.
 *
 * A proof is two blocks of text and is made once a connection, so this code is short and not fast.  It is here
 * so that a client needs no cryptographic library.
 */
#ifndef SWPKS_PKS_HMAC_H
#define SWPKS_PKS_HMAC_H

#include <stddef.h>
#include <stdint.h>

#define PKS_SHA256_BLOCK 64
#define PKS_SHA256_SIZE 32

struct pks_sha256 {
	uint32_t state[8];
	uint64_t size;
	uint8_t block[PKS_SHA256_BLOCK];
};

static inline uint32_t pksi_rotate(uint32_t word, int bits)
{
	return (word >> bits) | (word << (32 - bits));
}

static inline void pksi_sha256_block(struct pks_sha256 *hash)
{
	static const uint32_t constants[64] = {
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
		0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
		0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
		0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
		0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
		0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
		0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
	};
	uint32_t word[64], v[8];
	int n;

	for (n = 0; n < 16; n++)
		word[n] = (uint32_t)hash->block[4 * n] << 24 | (uint32_t)hash->block[4 * n + 1] << 16 |
			  (uint32_t)hash->block[4 * n + 2] << 8 | hash->block[4 * n + 3];
	for (; n < 64; n++) {
		uint32_t a = word[n - 15], b = word[n - 2];

		word[n] = word[n - 16] + word[n - 7] +
			  (pksi_rotate(a, 7) ^ pksi_rotate(a, 18) ^ (a >> 3)) +
			  (pksi_rotate(b, 17) ^ pksi_rotate(b, 19) ^ (b >> 10));
	}
	for (n = 0; n < 8; n++)
		v[n] = hash->state[n];
	for (n = 0; n < 64; n++) {
		uint32_t first = v[7] + (pksi_rotate(v[4], 6) ^ pksi_rotate(v[4], 11) ^ pksi_rotate(v[4], 25)) +
				 ((v[4] & v[5]) ^ (~v[4] & v[6])) + constants[n] + word[n];
		uint32_t second = (pksi_rotate(v[0], 2) ^ pksi_rotate(v[0], 13) ^ pksi_rotate(v[0], 22)) +
				  ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		int m;

		for (m = 7; m > 0; m--)
			v[m] = v[m - 1];
		v[4] += first;
		v[0] = first + second;
	}
	for (n = 0; n < 8; n++)
		hash->state[n] += v[n];
}

static inline void pks_sha256_begin(struct pks_sha256 *hash)
{
	static const uint32_t state[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
					   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	int n;

	for (n = 0; n < 8; n++)
		hash->state[n] = state[n];
	hash->size = 0;
}

static inline void pks_sha256_add(struct pks_sha256 *hash, const void *data, size_t size)
{
	const uint8_t *bytes = (const uint8_t *)data;

	while (size--) {
		hash->block[hash->size++ % PKS_SHA256_BLOCK] = *bytes++;
		if (hash->size % PKS_SHA256_BLOCK == 0)
			pksi_sha256_block(hash);
	}
}

static inline void pks_sha256_end(struct pks_sha256 *hash, uint8_t digest[PKS_SHA256_SIZE])
{
	static const uint8_t end = 0x80, zero = 0;
	uint64_t bits = hash->size * 8;
	int n;

	pks_sha256_add(hash, &end, 1);
	while (hash->size % PKS_SHA256_BLOCK != PKS_SHA256_BLOCK - 8)
		pks_sha256_add(hash, &zero, 1);
	for (n = 56; n >= 0; n -= 8) {
		uint8_t byte = (uint8_t)(bits >> n);

		pks_sha256_add(hash, &byte, 1);
	}
	for (n = 0; n < PKS_SHA256_SIZE; n++)
		digest[n] = (uint8_t)(hash->state[n / 4] >> (24 - 8 * (n % 4)));
}

/* One piece of the text that an HMAC covers. */
struct pks_text {
	const void *data;
	size_t size;
};

static inline void pksi_hmac_key(struct pks_sha256 *hash, const uint8_t key[32], uint8_t pad)
{
	int n;

	pks_sha256_begin(hash);
	for (n = 0; n < PKS_SHA256_BLOCK; n++) {
		uint8_t byte = (uint8_t)((n < 32 ? key[n] : 0) ^ pad);

		pks_sha256_add(hash, &byte, 1);
	}
}

/* The HMAC of `count` texts, one behind the other, under a key of 32 bytes. */
static inline void pks_hmac_sha256(uint8_t mac[PKS_SHA256_SIZE], const uint8_t key[32], const struct pks_text *texts,
				   unsigned int count)
{
	struct pks_sha256 hash;
	uint8_t inner[PKS_SHA256_SIZE];
	unsigned int n;

	pksi_hmac_key(&hash, key, 0x36);
	for (n = 0; n < count; n++)
		pks_sha256_add(&hash, texts[n].data, texts[n].size);
	pks_sha256_end(&hash, inner);
	pksi_hmac_key(&hash, key, 0x5c);
	pks_sha256_add(&hash, inner, sizeof(inner));
	pks_sha256_end(&hash, mac);
}

#endif
