/*
 * A boot loader and its key, against a running swpks: docs/recipes.md#keys-of-the-boot-loader.
 *
 *	cc -I"$(swpks c-header --include)" -o boot_loader boot_loader.c
 *	./boot_loader lab/run/lpar1.sock
 *
 * The loader asks firmware's object SB_VERSION for the kind of secure-boot keys.  Then it sets a password of its
 * consumer, stores or reads its key, and forgets the password: the kernel, which runs later, can't use consumer 2.
 */
#include <stdlib.h>

#include <swpks/pks_client.h>

static struct pks_client client;

/* The blocks that the hypervisor reads, aligned for strict memory. */
struct block {
	struct pks_auth head;
	uint8_t password[255];
} __attribute__((aligned(512)));

static int64_t call(uint64_t opcode, uint64_t r[PKS_REGISTERS], const struct pks_memory *memory, unsigned int count)
{
	int64_t status;

	if (pks_call(&client, opcode, r, memory, count, &status)) {
		fprintf(stderr, "boot_loader: %s\n", client.error);
		exit(1);
	}
	return status;
}

static void fail(const char *name, int64_t status)
{
	fprintf(stderr, "boot_loader: %s: %s\n", name, pks_status_name(status) ? pks_status_name(status) : "?");
	exit(1);
}

/* Fill the block of a consumer; returns the memory of the block. */
static struct pks_memory authorization(struct block *block, uint8_t consumer, size_t password_length)
{
	struct pks_auth_values values;

	values.consumer = consumer;
	values.password_length = (uint16_t)password_length;
	pks_pack_auth(&block->head, &values);
	return pks_in(block, sizeof(block->head) + password_length);
}

static int64_t read_object(struct pks_memory auth, const char *label, void *to, size_t *size)
{
	struct pks_memory memory[3];
	uint64_t r[PKS_REGISTERS];
	int64_t status;

	memory[0] = auth;
	memory[1] = pks_in(label, strlen(label));
	memory[2] = pks_out(to, *size);
	pks_read_object_arguments(r, auth.address, memory[1].address, memory[1].length, memory[2].address, *size);
	status = call(PKS_OPCODE_READ_OBJECT, r, memory, 3);
	*size = (size_t)r[PKS_READ_OBJECT_RESULT_SIZE];
	return status;
}

/* The key is durable once CONFIRM answers 1. */
static void wait_flushed(struct pks_memory auth, struct pks_memory label)
{
	struct pks_memory memory[2] = { auth, label };
	uint64_t r[PKS_REGISTERS];
	int64_t status;

	do {
		pks_confirm_object_flushed_arguments(r, auth.address, label.address, label.length);
		status = call(PKS_OPCODE_CONFIRM_OBJECT_FLUSHED, r, memory, 2);
		if (status != PKS_H_SUCCESS)
			fail("H_PKS_CONFIRM_OBJECT_FLUSHED", status);
	} while (!r[PKS_CONFIRM_OBJECT_FLUSHED_RESULT_FLUSHED] && usleep(1000) == 0);
}

int main(int argc, char **argv)
{
	static struct block firmware, own;
	static char version_label[16] __attribute__((aligned(16))) = "SB_VERSION";
	static char key_label[16] __attribute__((aligned(16))) = "boot-key";
	static uint8_t key[32] = "a key that the loader has made";
	struct pks_memory auth, memory[3];
	uint64_t r[PKS_REGISTERS];
	uint8_t version[8] = { 0 };
	size_t size = sizeof(version);
	int64_t status;

	if (argc != 2 || pks_connect_unix(&client, argv[1]) || pks_open(&client, 0, NULL, "boot_loader.c")) {
		fprintf(stderr, "boot_loader: %s\n", argc == 2 ? client.error : "usage: boot_loader SOCKET");
		return 1;
	}

	/* Firmware's object is world-readable: its consumer's block, and no password. */
	status = read_object(authorization(&firmware, PKS_CONSUMER_FIRMWARE, 0), version_label, version, &size);
	/* As in Linux, no object that may be read means static keys.  Any other answer must not choose the keys. */
	if (status != PKS_H_SUCCESS && status != PKS_H_NOT_FOUND && status != PKS_H_AUTHORITY)
		fail("SB_VERSION", status);
	printf("secure-boot keys: %s\n", status == PKS_H_SUCCESS && version[0] ? "dynamic" : "static");

	memory[0] = pks_out(own.password, 32);
	pks_gen_password_arguments(r, PKS_CONSUMER_BOOT_LOADER, 0, memory[0].address, memory[0].length);
	status = call(PKS_OPCODE_GEN_PASSWORD, r, memory, 1);
	if (status != PKS_H_SUCCESS)
		fail("H_PKS_GEN_PASSWORD", status);
	auth = authorization(&own, PKS_CONSUMER_BOOT_LOADER, 32);

	size = sizeof(key);
	status = read_object(auth, key_label, key, &size);
	if (status == PKS_H_NOT_FOUND) {
		memory[0] = auth;
		memory[1] = pks_in(key_label, strlen(key_label));
		memory[2] = pks_in(key, sizeof(key));
		pks_write_object_arguments(r, auth.address, memory[1].address, memory[1].length, PKS_POLICY_PWSET,
					   memory[2].address, memory[2].length);
		status = call(PKS_OPCODE_WRITE_OBJECT, r, memory, 3);
		if (status == PKS_H_SUCCESS)
			wait_flushed(auth, memory[1]);
		size = 0;
	}
	if (status != PKS_H_SUCCESS)
		fail("boot-key", status);
	if (size)
		printf("the key is known, %u bytes\n", (unsigned int)size);
	else
		printf("the key is new\n");

	pks_clear(&own, sizeof(own));
	pks_clear(key, sizeof(key));
	pks_close(&client);
	return 0;
}
