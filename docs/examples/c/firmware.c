/*
 * Partition firmware and its keystore, against a running swpks:
 *
 *	swpks serve --state lab --partition lpar1:64 &
 *	cc -I"$(swpks c-header --include)" -o firmware firmware.c
 *	./firmware lab/run/lpar1.sock
 *	swpks hmc --state lab ipl lpar1		before a second run: a password is set once in an IPL
 *
 * On the machine the same registers and the same memory go into an h-call: replace call() by your own.
 */
#include <stdlib.h>

#include <swpks/pks_client.h>

static struct pks_client client;

/* End with the reason if the session has ended; return r3 of the answer. */
static int64_t call(uint64_t opcode, uint64_t r[PKS_REGISTERS], const struct pks_memory *memory, unsigned int count)
{
	int64_t status;

	if (pks_call(&client, opcode, r, memory, count, &status)) {
		fprintf(stderr, "firmware: %s\n", client.error);
		exit(1);
	}
	return status;
}

/* End unless a call succeeded. */
static void must(const char *name, int64_t status)
{
	printf("%-28s %s\n", name, pks_status_name(status) ? pks_status_name(status) : "an unknown status");
	if (status == PKS_H_SUCCESS)
		return;
	if (pks_blamed_register(status))
		fprintf(stderr, "firmware: %s refused the argument in r%d\n", name, pks_blamed_register(status));
	exit(1);
}

/* The authorization block: 16 bytes, then the password.  Strict memory wants it aligned to 16 bytes. */
static union {
	struct pks_auth head;
	uint8_t bytes[sizeof(struct pks_auth) + 255];
} auth __attribute__((aligned(512)));

static const char label[] __attribute__((aligned(16))) = "SB_VERSION";
static uint8_t config[520] __attribute__((aligned(1024)));

int main(int argc, char **argv)
{
	struct pks_auth_values who = { PKS_CONSUMER_FIRMWARE, 0 };
	struct pks_config_values limits;
	struct pks_memory memory[3];
	uint64_t r[PKS_REGISTERS], size;
	uint8_t version = 1, found[8];
	int64_t status;

	if (argc != 2 || pks_connect_unix(&client, argv[1]) || pks_open(&client, 0, NULL, "firmware.c")) {
		fprintf(stderr, "firmware: %s\n", argc == 2 ? client.error : "usage: firmware SOCKET");
		return 1;
	}

	memory[0] = pks_out(config, sizeof(config));
	pks_get_config_arguments(r, memory[0].address, sizeof(config));
	must("H_PKS_GET_CONFIG", call(PKS_OPCODE_GET_CONFIG, r, memory, 1));
	if (pks_unpack_config(&limits, (struct pks_config *)config))
		return 1;
	printf("  %s, %u of %u bytes used\n", client.level, limits.used_space, limits.total_size);

	/* The hypervisor makes the password; it is forgotten at the next IPL. */
	size = limits.max_password_size;
	if (size > sizeof(auth.bytes) - sizeof(struct pks_auth))
		size = sizeof(auth.bytes) - sizeof(struct pks_auth);
	memory[0] = pks_out(auth.bytes + sizeof(struct pks_auth), size);
	pks_gen_password_arguments(r, PKS_CONSUMER_FIRMWARE, 0, memory[0].address, size);
	must("H_PKS_GEN_PASSWORD", call(PKS_OPCODE_GEN_PASSWORD, r, memory, 1));
	who.password_length = (uint16_t)size;
	pks_pack_auth(&auth.head, &who);

	memory[0] = pks_in(&auth, sizeof(struct pks_auth) + size);
	memory[1] = pks_in(label, sizeof(label) - 1);
	memory[2] = pks_in(&version, sizeof(version));
	pks_write_object_arguments(r, memory[0].address, memory[1].address, memory[1].length,
				   PKS_POLICY_WORLDREADABLE, memory[2].address, memory[2].length);
	must("H_PKS_WRITE_OBJECT", call(PKS_OPCODE_WRITE_OBJECT, r, memory, 3));

	/* The object is encrypted and flushed later: it is durable once CONFIRM answers 1. */
	do {
		pks_confirm_object_flushed_arguments(r, memory[0].address, memory[1].address, memory[1].length);
		status = call(PKS_OPCODE_CONFIRM_OBJECT_FLUSHED, r, memory, 2);
	} while (status == PKS_H_SUCCESS && !r[PKS_CONFIRM_OBJECT_FLUSHED_RESULT_FLUSHED] && usleep(1000) == 0);
	must("H_PKS_CONFIRM_OBJECT_FLUSHED", status);

	memory[2] = pks_out(found, sizeof(found));
	pks_read_object_arguments(r, memory[0].address, memory[1].address, memory[1].length, memory[2].address,
				  memory[2].length);
	must("H_PKS_READ_OBJECT", call(PKS_OPCODE_READ_OBJECT, r, memory, 3));
	printf("  %u bytes, policy 0x%08x\n", (unsigned int)r[PKS_READ_OBJECT_RESULT_SIZE],
	       (unsigned int)r[PKS_READ_OBJECT_RESULT_POLICY]);

	pks_remove_object_arguments(r, memory[0].address, memory[1].address, memory[1].length);
	must("H_PKS_REMOVE_OBJECT", call(PKS_OPCODE_REMOVE_OBJECT, r, memory, 2));

	/* An error that firmware expects: the object is gone. */
	pks_read_object_arguments(r, memory[0].address, memory[1].address, memory[1].length, memory[2].address,
				  memory[2].length);
	status = call(PKS_OPCODE_READ_OBJECT, r, memory, 3);
	printf("%-28s %s\n", "H_PKS_READ_OBJECT", status == PKS_H_NOT_FOUND ? "H_NOT_FOUND" : "another status");
	pks_close(&client);
	return status != PKS_H_NOT_FOUND;
}
