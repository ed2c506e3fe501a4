/*
 * Puts the C client of swpks/pks_client.h before the judge of clients:
 *
 *	swpks conformance client --exec ./conformance_adapter
 *
 * Each line of standard input is a command, each line of standard output an answer.  The line protocol is
 * spec/conformance.md#line-protocol.
 */
#include <stdlib.h>

#include <swpks/pks_client.h>

#define MAX_LINE (1 << 20)
#define MAX_CALLS 4096
#define MAX_SEGMENTS 1024

static struct pks_client client;
static char line[MAX_LINE + 2];
static struct pks_exchange calls[MAX_CALLS];

static unsigned int digit(char hex)
{
	return (unsigned int)(hex <= '9' ? hex - '0' : (hex | 0x20) - 'a' + 10);
}

static size_t from_hex(uint8_t *to, const char *from)
{
	size_t size = 0;

	for (; *from; from += 2)
		to[size++] = (uint8_t)(digit(from[0]) << 4 | digit(from[1]));
	return size;
}

/* ADDRESS:ACCESS:CONTENT */
static void parse_segment(struct pks_memory *memory, char *text)
{
	char *access = strchr(text, ':') + 1, *content = strchr(access, ':') + 1;

	memory->address = strtoull(text, NULL, 0);
	if (!strncmp(access, "out", 3)) {
		memory->access = PKS_ACCESS_OUT;
		memory->length = (uint32_t)strtoul(content, NULL, 0);
		memory->bytes = calloc(memory->length + 1u, 1);
		return;
	}
	memory->access = strncmp(access, "both", 4) ? PKS_ACCESS_IN : PKS_ACCESS_BOTH;
	memory->bytes = malloc(strlen(content) / 2 + 1);
	memory->length = (uint32_t)from_hex(memory->bytes, content);
}

/* OPCODE [rN=NUMBER ...] [segment=... ...] */
static void parse_call(struct pks_exchange *call, char *text)
{
	struct pks_memory *memory = calloc(MAX_SEGMENTS, sizeof(*memory));
	char *rest, *word = strtok_r(text, " ", &rest);

	memset(call, 0, sizeof(*call));
	call->memory = memory;
	call->opcode = strtoull(word, NULL, 0);
	while ((word = strtok_r(NULL, " ", &rest)) != NULL) {
		if (word[0] == 'r')
			call->registers[atoi(word + 1) - PKS_FIRST_REGISTER] = strtoull(strchr(word, '=') + 1, NULL, 0);
		else
			parse_segment(&memory[call->count++], strchr(word, '=') + 1);
	}
}

/* Collect the writes of an answer as text, in call->context. */
static void on_write(struct pks_exchange *call, uint64_t address, const uint8_t *bytes, uint32_t length)
{
	uint32_t n;

	fprintf(call->context, " write=0x%llx:", (unsigned long long)address);
	for (n = 0; n < length; n++)
		fprintf(call->context, "%02x", bytes[n]);
}

static void print_end(int end, int sent)
{
	const char *outcome = "";

	if (sent)
		outcome = end == PKS_GOODBYE && client.reason == PKS_GOODBYE_MIGRATED ? " outcome=not-run" :
										       " outcome=unknown";
	switch (end) {
	case PKS_REFUSED:
		printf("refused %d\n", (int)client.refused);
		break;
	case PKS_GOODBYE:
		printf("ended %u%s\n", (unsigned int)client.reason, outcome);
		break;
	case PKS_UNREACHABLE:
		printf("unreachable %s\n", client.error);
		break;
	case PKS_BROKEN:
		printf("broken %s\n", client.error);
		break;
	case PKS_TOO_LARGE:
		printf("too-large\n");
		break;
	default:
		printf("lost%s\n", outcome);
	}
}

static void open_place(char *text)
{
	char *rest, *word, *place = strtok_r(text, " ", &rest), *port;
	uint8_t key[32], *given = NULL;
	uint16_t partition = 0;
	int end;

	while ((word = strtok_r(NULL, " ", &rest)) != NULL)
		if (!strncmp(word, "key=", 4) && from_hex(key, word + 4) == sizeof(key))
			given = key;
		else
			partition = (uint16_t)atoi(strchr(word, '=') + 1);
	pks_close(&client);
	if (!strncmp(place, "unix:", 5)) {
		end = pks_connect_unix(&client, place + 5);
	} else {
		port = strrchr(place, ':');
		*port = 0;
		end = pks_connect_tcp(&client, place + strlen("tcp:"), port + 1);
	}
	if (!end)
		end = pks_open(&client, partition, given, "pks_client.h");
	if (end)
		print_end(end, 0);
	else
		printf("opened partition=%u ipl=%u level=%s\n", client.partition, (unsigned int)client.ipl_count,
		       client.level);
}

static void print_answer(struct pks_exchange *call, const char *writes)
{
	int n;

	printf("returned %lld", (long long)call->status);
	for (n = 0; n < PKS_REGISTERS; n++)
		if (call->registers[n])
			printf(" r%d=0x%llx", n + PKS_FIRST_REGISTER, (unsigned long long)call->registers[n]);
	printf("%s\n", writes);
}

static void make_calls(char *text)
{
	static char *writes[MAX_CALLS];
	static size_t sizes[MAX_CALLS];
	static int ends[MAX_CALLS];
	unsigned int count = 0, n, m;
	char *rest, *word;

	for (word = strtok_r(text, ";", &rest); word; word = strtok_r(NULL, ";", &rest), count++) {
		parse_call(&calls[count], word);
		calls[count].wrote = on_write;
		calls[count].context = open_memstream(&writes[count], &sizes[count]);
	}
	for (n = 0; n < count; n++)
		ends[n] = pks_begin(&client, &calls[n]);
	for (n = 0; n < count; n++) {
		if (ends[n] != PKS_TOO_LARGE)
			ends[n] = pks_finish(&client, &calls[n]);
		fclose(calls[n].context);
		if (ends[n])
			print_end(ends[n], 1);
		else
			print_answer(&calls[n], writes[n]);
		free(writes[n]);
		for (m = 0; m < calls[n].count; m++)
			free(calls[n].memory[m].bytes);
		free((void *)calls[n].memory);
	}
}

int main(void)
{
	client.fd = -1;
	while (fgets(line, sizeof(line), stdin)) {
		char *rest = strchr(line, ' ');

		line[strcspn(line, "\n")] = 0;
		if (rest)
			*rest++ = 0;
		if (!strcmp(line, "quit"))
			return 0;
		if (!strcmp(line, "begin"))
			printf("ready pks_client.h\n");
		else if (!strcmp(line, "open"))
			open_place(rest);
		else if (!strcmp(line, "call") || !strcmp(line, "pipeline"))
			make_calls(rest);
		else if (!strcmp(line, "close"))
			pks_close(&client), printf("closed\n");
		else
			printf("unsupported\n");
		fflush(stdout);
	}
	return 0;
}
