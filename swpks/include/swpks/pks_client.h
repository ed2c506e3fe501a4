/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the data channel in one header: connect, open with a proof, make h-calls, read their answers.
 *
 * C99 with POSIX 2008, such as Linux: with -std=c99 also -D_POSIX_C_SOURCE=200809L.  It allocates nothing and starts no thread.  A `struct pks_client` has 512 KiB of buffers, so
 * make it static or allocate it.  One thread at a time may use one client.
 *
 *	static struct pks_client client;
 *	uint64_t r[PKS_REGISTERS];
 *	uint8_t block[520];
 *	struct pks_memory memory[] = { pks_out(block, sizeof(block)) };
 *	int64_t status;
 *
 *	if (pks_connect_unix(&client, "lab/run/lpar1.sock") || pks_open(&client, 0, NULL, "my firmware"))
 *		errx(1, "%s", client.error);
 *	pks_get_config_arguments(r, memory[0].address, sizeof(block));
 *	if (pks_call(&client, PKS_OPCODE_GET_CONFIG, r, memory, 1, &status))
 *		errx(1, "%s", client.error);
 *	pks_close(&client);
 *
 * Every function that can fail returns 0, or a value of enum pks_end, and `client.error` has a sentence for people.
 * After an end the connection is closed, and every later call returns the same end.  PKS_TOO_LARGE and PKS_MISUSED are no ends.
 * PKS_LOST, PKS_GOODBYE and PKS_TIMEOUT say nothing about calls without an answer: they may have run.  After reason
 * PKS_GOODBYE_MIGRATED they have not run.  The client repeats no call.  Facts: spec/protocol.md.
 */
#ifndef SWPKS_PKS_CLIENT_H
#define SWPKS_PKS_CLIENT_H

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <swpks/pks.h>
#include <swpks/pks_hmac.h>

/* The time from the begin of pks_open to OPENED, in milliseconds. */
#ifndef PKS_OPEN_TIMEOUT
#define PKS_OPEN_TIMEOUT 5000
#endif

enum pks_end {
	PKS_DONE = 1,		/* the caller closed the session */
	PKS_UNREACHABLE,	/* nobody listens at the place, or it is no socket */
	PKS_REFUSED,		/* OPENED had the status client.refused */
	PKS_GOODBYE,		/* the server ended the session, reason client.reason */
	PKS_LOST,		/* the stream ended without GOODBYE, or failed */
	PKS_BROKEN,		/* the server broke the protocol, or has not the access key */
	PKS_TIMEOUT,		/* no answer in time */
	PKS_TOO_LARGE,		/* not sent: the call is larger than the server accepts */
	PKS_MISUSED		/* not sent: the caller has left out pks_connect or pks_open, or opened twice */
};

/* A piece of guest memory that a call may touch: an address, and the bytes that stand for it in this program. */
struct pks_memory {
	uint64_t address;
	void *bytes;
	uint32_t length;
	uint32_t access;
};

/* One h-call, from the request to its answer.  The client links it until it is answered. */
struct pks_exchange {
	uint64_t opcode;
	uint64_t registers[PKS_REGISTERS];	/* of the request, then of the answer */
	const struct pks_memory *memory;
	unsigned int count;
	int64_t status;				/* r3 of the answer */
	int begun, answered;
	/* Called for each write of the answer, if it is not null.  It must not use the client. */
	void (*wrote)(struct pks_exchange *call, uint64_t address, const uint8_t *bytes, uint32_t length);
	void *context;				/* for the caller */
	uint32_t tag;
	struct pks_exchange *next;
};

/* NEW is 0: a static client has it before it is connected. */
enum pks_state { PKS_STATE_NEW, PKS_STATE_START, PKS_STATE_GREETED, PKS_STATE_OPENING, PKS_STATE_OPEN, PKS_STATE_ENDED };

struct pks_client {
	int fd;
	int timeout;			/* of pks_begin and of pks_finish, in milliseconds; -1, the default: no limit */
	enum pks_state state;
	int end;			/* enum pks_end, once the state is PKS_STATE_ENDED */
	int32_t refused;		/* a status of OPENED */
	uint32_t reason;		/* of the server's GOODBYE */
	char error[400];

	uint16_t partition;		/* as OPENED says */
	uint32_t ipl_count;
	char level[PKS_MAX_TEXT + 1];
	char server[PKS_MAX_TEXT + 1];

	int64_t deadline;		/* of the function that waits, in milliseconds of the clock; -1: none */
	uint32_t max_body;
	uint32_t tag;
	int sending;			/* a frame is half sent */
	const uint8_t *key;		/* while the session is opened */
	uint16_t asked;
	uint8_t server_nonce[PKS_NONCE_SIZE];
	uint8_t nonce[PKS_NONCE_SIZE];
	struct pks_exchange *oldest, *newest;
	size_t filled;
	uint8_t in[sizeof(struct pks_frame_header) + PKS_MAX_BODY];
	uint8_t out[sizeof(struct pks_frame_header) + PKS_MAX_BODY];
};

/* The address of a buffer of this program, for programs that use their own addresses as guest memory. */
static inline uint64_t pks_address(const void *bytes)
{
	return (uint64_t)(uintptr_t)bytes;
}

static inline struct pks_memory pksi_memory(const void *bytes, size_t length, uint32_t access)
{
	struct pks_memory memory;

	memory.address = pks_address(bytes);
	memory.bytes = (void *)(uintptr_t)bytes;
	/* More than 4 GiB stays too large for every server. */
	memory.length = length > UINT32_MAX ? UINT32_MAX : (uint32_t)length;
	memory.access = access;
	return memory;
}

static inline struct pks_memory pks_in(const void *bytes, size_t length)
{
	return pksi_memory(bytes, length, PKS_ACCESS_IN);
}

static inline struct pks_memory pks_out(void *bytes, size_t length)
{
	return pksi_memory(bytes, length, PKS_ACCESS_OUT);
}

/* The end of a session */

static inline int pksi_ended(struct pks_client *client, int end)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	client->state = PKS_STATE_ENDED;
	client->end = end;
	client->oldest = client->newest = NULL;
	return end;
}

static inline int pksi_failed(struct pks_client *client, int end, const char *what)
{
	snprintf(client->error, sizeof(client->error), "%s", what);
	return pksi_ended(client, end);
}

static inline int pksi_system(struct pks_client *client, int end, const char *what)
{
	snprintf(client->error, sizeof(client->error), "%s: %s", what, strerror(errno));
	return pksi_ended(client, end);
}

/* The answer to a function that comes at the wrong time: the end, or the function that is missing or done. */
static inline int pksi_misused(struct pks_client *client, const char *function)
{
	if (client->state == PKS_STATE_ENDED)
		return client->end;
	snprintf(client->error, sizeof(client->error), "pks_%s: %s", function,
		 client->state == PKS_STATE_NEW	  ? "connect first, by pks_connect_unix or pks_connect_tcp" :
		 client->state == PKS_STATE_START ? "open the session first, by pks_open" :
						    "the session is open already");
	return PKS_MISUSED;
}

/* Deadlines: a server that sends single bytes must not hold a function longer than its timeout. */

static inline int64_t pksi_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void pksi_limit(struct pks_client *client, int timeout)
{
	client->deadline = timeout < 0 ? -1 : pksi_now() + timeout;
}

/* Wait for events of the connection; 0 if the deadline is over. */
static inline int pksi_wait(struct pks_client *client, short events)
{
	struct pollfd wanted;
	int64_t left = -1;

	for (;;) {
		if (client->deadline >= 0) {
			left = client->deadline - pksi_now();
			if (left < 0)
				return 0;
		}
		wanted.fd = client->fd;
		wanted.events = events;
		wanted.revents = 0;
		/* A signal ends poll early; then the rest of the time is waited for. */
		if (poll(&wanted, 1, (int)left) > 0)
			return wanted.revents;
		if (left == 0)
			return 0;
	}
}

/* Sending */

static inline int pksi_receive(struct pks_client *client);

static inline void pksi_frame(struct pks_client *client, uint8_t type, uint32_t tag, size_t length)
{
	struct pks_frame_header_values header;

	header.version = PKS_VERSION;
	header.type = type;
	header.tag = tag;
	header.length = (uint32_t)length;
	pks_pack_frame_header((struct pks_frame_header *)client->out, &header);
}

/* Send the frame in client->out.  Answers are read meanwhile: a server that can't send its answers reads nothing. */
static inline int pksi_send(struct pks_client *client, size_t length)
{
	size_t size = sizeof(struct pks_frame_header) + length, sent = 0;

	client->sending = 1;
	while (sent < size) {
		int events;
		ssize_t n = send(client->fd, client->out + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			sent += (size_t)n;
			continue;
		}
		/* The server's GOODBYE, which says why it closed, can still be read. */
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
			pksi_limit(client, PKS_OPEN_TIMEOUT);
			while (client->state != PKS_STATE_ENDED)
				pksi_receive(client);
			return client->end;
		}
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			return pksi_system(client, PKS_LOST, "cannot send to the server");
		events = pksi_wait(client, POLLIN | POLLOUT);
		if (!events)
			return pksi_failed(client, PKS_TIMEOUT, "the server takes no bytes");
		if (events & POLLIN && pksi_receive(client))
			return client->end;
	}
	client->sending = 0;
	return 0;
}

/* Append a text with its length, cut after the last whole character of its first 255 bytes. */
static inline size_t pksi_put_text(uint8_t *at, const char *text)
{
	size_t size = strlen(text);

	if (size > PKS_MAX_TEXT)
		for (size = PKS_MAX_TEXT; size && ((uint8_t)text[size] & 0xc0) == 0x80; size--)
			;
	at[0] = (uint8_t)size;
	memcpy(at + 1, text, size);
	return size + 1;
}

/* Send GOODBYE and close.  Only a try: the session ends in any case. */
static inline int pksi_goodbye(struct pks_client *client, uint32_t reason, int end)
{
	struct pks_goodbye_values goodbye;
	uint8_t *body = client->out + sizeof(struct pks_frame_header);
	size_t length = sizeof(struct pks_goodbye);
	ssize_t ignored;

	/* Behind a frame that is half sent, the server would read GOODBYE as the rest of that frame. */
	if (client->sending)
		return pksi_ended(client, end);
	goodbye.reason = reason;
	pks_pack_goodbye((struct pks_goodbye *)body, &goodbye);
	length += pksi_put_text(body + length, reason == PKS_GOODBYE_DONE ? "" : client->error);
	pksi_frame(client, PKS_FRAME_GOODBYE, 0, length);
	ignored = send(client->fd, client->out, sizeof(struct pks_frame_header) + length, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ignored;
	return pksi_ended(client, end);
}

static inline int pksi_broken(struct pks_client *client, const char *what)
{
	snprintf(client->error, sizeof(client->error), "the server broke the protocol: %s", what);
	return pksi_goodbye(client, PKS_GOODBYE_PROTOCOL_ERROR, PKS_BROKEN);
}

/* Receiving: each frame is checked as a whole before anything of it is used. */

/* Whether bytes are UTF-8 without surrogates and overlong forms (RFC 3629). */
static inline int pksi_utf8(const uint8_t *text, size_t size)
{
	size_t n = 0;

	while (n < size) {
		uint8_t first = text[n++];
		uint32_t point;
		int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1, left;

		if (first < 0x80)
			continue;
		if (first < 0xc2 || first > 0xf4)
			return 0;
		point = first & (0x3fU >> more);
		for (left = more; left; left--) {
			if (n == size || (text[n] & 0xc0) != 0x80)
				return 0;
			point = point << 6 | (text[n++] & 0x3fU);
		}
		if ((more == 2 && point < 0x800) || (more == 3 && (point < 0x10000 || point > 0x10ffff)) ||
		    (point >= 0xd800 && point < 0xe000))
			return 0;
	}
	return 1;
}

/* Copy the text at the end of a body; 0 if it is not exactly one text. */
static inline int pksi_text(char text[PKS_MAX_TEXT + 1], const uint8_t *body, size_t length, size_t fixed)
{
	size_t size = length > fixed ? body[fixed] : 0;

	if (length != fixed + 1 + size || !pksi_utf8(body + fixed + 1, size))
		return 0;
	memcpy(text, body + fixed + 1, size);
	text[size] = 0;
	return 1;
}

static inline int pksi_on_hello(struct pks_client *client, const uint8_t *body, size_t length)
{
	struct pks_hello_values hello;

	if (length < sizeof(struct pks_hello) || pks_unpack_hello(&hello, (const struct pks_hello *)body) ||
	    hello.lowest > hello.highest || !pksi_text(client->server, body, length, sizeof(struct pks_hello)))
		return pksi_broken(client, "its HELLO is malformed");
	if (hello.lowest > PKS_VERSION || hello.highest < PKS_VERSION) {
		snprintf(client->error, sizeof(client->error),
			 "the server speaks versions %u to %u of the protocol, this client version %u",
			 hello.lowest, hello.highest, PKS_VERSION);
		client->refused = PKS_OPEN_VERSION_NOT_SUPPORTED;
		return pksi_goodbye(client, PKS_GOODBYE_DONE, PKS_REFUSED);
	}
	client->max_body = hello.max_body;
	memcpy(client->server_nonce, hello.nonce, sizeof(hello.nonce));
	client->state = PKS_STATE_GREETED;
	return 0;
}

static inline void pksi_proof(struct pks_client *client, const char *text, uint8_t proof[PKS_PROOF_SIZE])
{
	pks_be16 partition;
	struct pks_text texts[4];

	pks_put16(&partition, client->asked);
	texts[0].data = text;
	texts[0].size = strlen(text);
	texts[1].data = client->server_nonce;
	texts[2].data = client->nonce;
	texts[1].size = texts[2].size = PKS_NONCE_SIZE;
	texts[3].data = &partition;
	texts[3].size = sizeof(partition);
	pks_hmac_sha256(proof, client->key, texts, 4);
}

/* Whether the server's proof is right; the time does not depend on the content. */
static inline int pksi_proven(struct pks_client *client, const uint8_t proof[PKS_PROOF_SIZE])
{
	uint8_t expected[PKS_PROOF_SIZE], different = 0;
	int n;

	if (!client->key)
		return pks_is_clear(proof, PKS_PROOF_SIZE);
	pksi_proof(client, "swpks opened 1", expected);
	for (n = 0; n < PKS_PROOF_SIZE; n++)
		different |= (uint8_t)(expected[n] ^ proof[n]);
	return !different;
}

static inline int pksi_on_opened(struct pks_client *client, const uint8_t *body, size_t length)
{
	static const char *const reasons[] = { "", "no such partition", "not authorised: the access key is wrong or missing",
					       "the partition is powered off", "version not supported",
					       "too many sessions" };
	struct pks_opened_values opened;

	if (length < sizeof(struct pks_opened) || pks_unpack_opened(&opened, (const struct pks_opened *)body) ||
	    !pksi_text(client->level, body, length, sizeof(struct pks_opened)))
		return pksi_broken(client, "its OPENED is malformed");
	if (opened.status != PKS_OPEN_OPENED) {
		client->refused = opened.status;
		snprintf(client->error, sizeof(client->error), "the server refused the session, status %d: %s",
			 (int)opened.status,
			 opened.status > 0 && opened.status < 6 ? reasons[opened.status] : "unknown to this client");
		return pksi_ended(client, PKS_REFUSED);
	}
	if (!pksi_proven(client, opened.proof))
		return pksi_broken(client, "its proof is wrong: it has not the access key of the partition");
	client->partition = opened.partition;
	client->ipl_count = opened.ipl_count;
	client->state = PKS_STATE_OPEN;
	return 0;
}

/* The memory in which a write of the server lies, or a null pointer. */
static inline uint8_t *pksi_target(const struct pks_exchange *call, const struct pks_write_values *write)
{
	unsigned int n;

	for (n = 0; n < call->count; n++) {
		const struct pks_memory *memory = &call->memory[n];
		uint64_t offset = write->address - memory->address;

		if (memory->access & PKS_ACCESS_OUT && write->address >= memory->address &&
		    offset <= memory->length && write->length <= memory->length - offset)
			return (uint8_t *)memory->bytes + offset;
	}
	return NULL;
}

/* Check the writes of an answer, and make them if `make` is not 0. */
static inline const char *pksi_writes(struct pks_exchange *call, const uint8_t *table, unsigned int count,
				      const uint8_t *data, size_t size, int make)
{
	struct pks_write_values write;
	unsigned int n;

	for (n = 0; n < count; n++) {
		uint8_t *target;

		if (pks_unpack_write(&write, (const struct pks_write *)table + n))
			return "a reserved field of its HRETURN is set";
		if (write.length > size)
			return "its HRETURN lacks bytes";
		target = pksi_target(call, &write);
		if (!target)
			return "it wrote outside of the memory of the call";
		if (make && write.length)
			memcpy(target, data, write.length);
		if (make && call->wrote)
			call->wrote(call, write.address, data, write.length);
		data += write.length;
		size -= write.length;
	}
	return size ? "its HRETURN has bytes left over" : NULL;
}

static inline int pksi_on_hreturn(struct pks_client *client, const uint8_t *body, size_t length)
{
	struct pks_exchange *call = client->oldest;
	struct pks_hreturn_values answer;
	const uint8_t *table = body + sizeof(struct pks_hreturn), *data;
	const char *wrong;
	size_t size;

	if (length < sizeof(struct pks_hreturn) || pks_unpack_hreturn(&answer, (const struct pks_hreturn *)body))
		return pksi_broken(client, "its HRETURN is malformed");
	size = length - sizeof(struct pks_hreturn);
	if (size < answer.count * sizeof(struct pks_write))
		return pksi_broken(client, "its HRETURN lacks writes");
	size -= answer.count * sizeof(struct pks_write);
	data = table + answer.count * sizeof(struct pks_write);
	wrong = pksi_writes(call, table, answer.count, data, size, 0);
	if (wrong)
		return pksi_broken(client, wrong);
	pksi_writes(call, table, answer.count, data, size, 1);
	call->status = answer.status;
	memcpy(call->registers, answer.registers, sizeof(call->registers));
	call->answered = 1;
	client->oldest = call->next;
	if (!client->oldest)
		client->newest = NULL;
	return 0;
}

static inline int pksi_on_goodbye(struct pks_client *client, const uint8_t *body, size_t length)
{
	struct pks_goodbye_values goodbye;
	char text[PKS_MAX_TEXT + 1];

	if (length < sizeof(struct pks_goodbye) || pks_unpack_goodbye(&goodbye, (const struct pks_goodbye *)body) ||
	    !pksi_text(text, body, length, sizeof(struct pks_goodbye)))
		return pksi_broken(client, "its GOODBYE is malformed");
	client->reason = goodbye.reason;
	snprintf(client->error, sizeof(client->error), "the server ended the session, reason %u: %s",
		 (unsigned int)goodbye.reason, text);
	return pksi_ended(client, PKS_GOODBYE);
}

/* Check a header alone: a wrong one is refused without a wait for its body. */
static inline const char *pksi_header_fault(struct pks_client *client, const struct pks_frame_header_values *header)
{
	if (header->type < PKS_FRAME_HELLO || header->type > PKS_FRAME_GOODBYE)
		return "unknown frame type";
	/* A later server sends HELLO in the lowest version that it speaks. */
	if (header->version != PKS_VERSION && header->type != PKS_FRAME_HELLO)
		return "a frame of another version";
	if (header->length > PKS_MAX_BODY)
		return "a body over 256 KiB";
	if (header->type == PKS_FRAME_GOODBYE)
		return header->tag ? "a tag in GOODBYE" : NULL;
	if (client->state == PKS_STATE_START && header->type == PKS_FRAME_HELLO)
		return header->tag ? "a tag in HELLO" : NULL;
	if (client->state == PKS_STATE_OPENING && header->type == PKS_FRAME_OPENED)
		return header->tag != client->tag ? "an OPENED with another tag" : NULL;
	if (client->state == PKS_STATE_OPEN && header->type == PKS_FRAME_HRETURN && client->oldest)
		return header->tag != client->oldest->tag ? "an HRETURN with another tag" : NULL;
	return "a frame that it may not send now";
}

static inline int pksi_on_frame(struct pks_client *client, uint8_t type, const uint8_t *body, size_t length)
{
	switch (type) {
	case PKS_FRAME_HELLO:
		return pksi_on_hello(client, body, length);
	case PKS_FRAME_OPENED:
		return pksi_on_opened(client, body, length);
	case PKS_FRAME_HRETURN:
		return pksi_on_hreturn(client, body, length);
	default:
		return pksi_on_goodbye(client, body, length);
	}
}

/* Handle every whole frame in client->in. */
static inline int pksi_frames(struct pks_client *client)
{
	size_t at = 0, size = sizeof(struct pks_frame_header);
	int result = 0;

	while (!result && client->filled - at >= size) {
		struct pks_frame_header_values header;
		const char *fault = "no frame begins with these bytes: is this the socket of a partition?";

		if (!pks_unpack_frame_header(&header, (const struct pks_frame_header *)(client->in + at)))
			fault = pksi_header_fault(client, &header);
		if (fault)
			return pksi_broken(client, fault);
		if (client->filled - at - size < header.length)
			break;
		result = pksi_on_frame(client, header.type, client->in + at + size, header.length);
		at += size + header.length;
	}
	memmove(client->in, client->in + at, client->filled - at);
	client->filled -= at;
	return result;
}

/* Wait for bytes until the deadline, and handle the frames that are whole. */
static inline int pksi_receive(struct pks_client *client)
{
	ssize_t n;

	if (!pksi_wait(client, POLLIN))
		return pksi_failed(client, PKS_TIMEOUT,
				   client->state == PKS_STATE_START ?
					   "the server sent no HELLO: is this the socket of a partition?" :
					   "the server does not answer");
	n = recv(client->fd, client->in + client->filled, sizeof(client->in) - client->filled, 0);
	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0)
		return pksi_system(client, PKS_LOST, "cannot receive from the server");
	if (n == 0)
		return pksi_failed(client, PKS_LOST, "the server closed the connection without GOODBYE");
	client->filled += (size_t)n;
	return pksi_frames(client);
}

/* Opening */

static inline void pksi_fresh(struct pks_client *client)
{
	memset(client, 0, offsetof(struct pks_client, in));
	client->fd = -1;
	client->timeout = -1;
	client->state = PKS_STATE_START;
}

/*
 * Connect to the Unix socket of a partition, such as DIR/run/lpar1.sock.  A client that is connected has to be
 * closed first.
 */
static inline int pks_connect_unix(struct pks_client *client, const char *path)
{
	struct sockaddr_un address;

	pksi_fresh(client);
	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(address.sun_path))
		return pksi_failed(client, PKS_UNREACHABLE, "the path of the socket is longer than 107 bytes");
	memcpy(address.sun_path, path, strlen(path));
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0 || connect(client->fd, (const struct sockaddr *)&address, sizeof(address)))
		return pksi_system(client, PKS_UNREACHABLE, path);
	return 0;
}

/* Connect to a TCP listener; it demands the access key. */
static inline int pks_connect_tcp(struct pks_client *client, const char *host, const char *port)
{
	struct addrinfo hints, *found, *place;
	int failure;

	pksi_fresh(client);
	memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = SOCK_STREAM;
	failure = getaddrinfo(host, port, &hints, &found);
	if (failure)
		return pksi_failed(client, PKS_UNREACHABLE, gai_strerror(failure));
	for (place = found; place && client->fd < 0; place = place->ai_next) {
		client->fd = socket(place->ai_family, place->ai_socktype | SOCK_CLOEXEC, place->ai_protocol);
		if (client->fd >= 0 && connect(client->fd, place->ai_addr, place->ai_addrlen)) {
			failure = errno;
			close(client->fd);
			client->fd = -1;
			errno = failure;
		}
	}
	freeaddrinfo(found);
	return client->fd < 0 ? pksi_system(client, PKS_UNREACHABLE, host) : 0;
}

static inline int pksi_random(void *at, size_t size)
{
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, at, size);

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)size ? 0 : -1;
}

static inline int pksi_send_open(struct pks_client *client, const char *name)
{
	struct pks_open_values open;
	uint8_t *body = client->out + sizeof(struct pks_frame_header);
	size_t length = sizeof(struct pks_open);

	memset(&open, 0, sizeof(open));
	open.partition = client->asked;
	open.proof_kind = client->key ? PKS_PROOF_HMAC_SHA256 : PKS_PROOF_NONE;
	if (pksi_random(client->nonce, sizeof(client->nonce)))
		return pksi_system(client, PKS_LOST, "no random bytes from /dev/urandom");
	memcpy(open.nonce, client->nonce, sizeof(open.nonce));
	if (client->key)
		pksi_proof(client, "swpks open 1", open.proof);
	pks_pack_open((struct pks_open *)body, &open);
	length += pksi_put_text(body + length, name);
	pksi_frame(client, PKS_FRAME_OPEN, ++client->tag, length);
	client->state = PKS_STATE_OPENING;
	return pksi_send(client, length);
}

/*
 * Open the session of a connected client.  partition: an id, or 0 for the only partition of the socket.  key: the 32
 * bytes of the access key, or a null pointer for a private socket.  name: of the program, for the server's log.
 */
static inline int pks_open(struct pks_client *client, uint16_t partition, const uint8_t *key, const char *name)
{
	int result = 0;

	if (client->state != PKS_STATE_START)
		return pksi_misused(client, "open");
	client->asked = partition;
	client->key = key;
	pksi_limit(client, PKS_OPEN_TIMEOUT);
	while (!result && client->state == PKS_STATE_START)
		result = pksi_receive(client);
	if (!result && client->state == PKS_STATE_GREETED)
		result = pksi_send_open(client, name);
	while (!result && client->state == PKS_STATE_OPENING)
		result = pksi_receive(client);
	client->key = NULL;
	return client->state == PKS_STATE_ENDED ? client->end : result;
}

/* Calls */

/* Write an HCALL into client->out; returns the length of its body, or 0 if the server does not accept so much. */
static inline size_t pksi_hcall(struct pks_client *client, const struct pks_exchange *call)
{
	struct pks_hcall_values head;
	struct pks_segment_values segment;
	uint8_t *body = client->out + sizeof(struct pks_frame_header);
	size_t limit = client->max_body < PKS_MAX_BODY ? client->max_body : PKS_MAX_BODY;
	size_t length = sizeof(struct pks_hcall) + (size_t)call->count * sizeof(struct pks_segment);
	unsigned int n;

	if (call->count > 0xffff || length > limit)
		return 0;
	head.opcode = call->opcode;
	memcpy(head.registers, call->registers, sizeof(head.registers));
	head.count = (uint16_t)call->count;
	pks_pack_hcall((struct pks_hcall *)body, &head);
	for (n = 0; n < call->count; n++) {
		const struct pks_memory *memory = &call->memory[n];

		segment.address = memory->address;
		segment.length = memory->length;
		segment.access = memory->access;
		pks_pack_segment((struct pks_segment *)(body + sizeof(struct pks_hcall)) + n, &segment);
		if (!(memory->access & PKS_ACCESS_IN) || !memory->length)
			continue;
		if (memory->length > limit - length)
			return 0;
		memcpy(body + length, memory->bytes, memory->length);
		length += memory->length;
	}
	return length;
}

/* Send a call without a wait for its answer.  The exchange and its memory must stay until it is answered. */
static inline int pks_begin(struct pks_client *client, struct pks_exchange *call)
{
	size_t length;

	call->answered = call->begun = 0;
	if (client->state != PKS_STATE_OPEN)
		return pksi_misused(client, "call");
	length = pksi_hcall(client, call);
	if (!length) {
		snprintf(client->error, sizeof(client->error), "the call is larger than the %u bytes of the server",
			 (unsigned int)client->max_body);
		return PKS_TOO_LARGE;
	}
	call->tag = ++client->tag;
	call->begun = 1;
	call->next = NULL;
	pksi_limit(client, client->timeout);
	if (client->newest)
		client->newest->next = call;
	else
		client->oldest = call;
	client->newest = call;
	pksi_frame(client, PKS_FRAME_HCALL, call->tag, length);
	return pksi_send(client, length);
}

/* Wait until a call is answered; PKS_MISUSED if pks_begin did not send it. */
static inline int pks_finish(struct pks_client *client, struct pks_exchange *call)
{
	if (!call->begun)
		return client->state == PKS_STATE_ENDED ? client->end : PKS_MISUSED;
	pksi_limit(client, client->timeout);
	while (!call->answered && client->state == PKS_STATE_OPEN)
		pksi_receive(client);
	return call->answered ? 0 : client->end;
}

/*
 * Make one h-call and wait for its answer.  registers: r4 to r12, as pks_NAME_arguments fills them; after the call
 * those of the answer.  memory: the pieces that the call may touch.  status: r3 of the answer.
 */
static inline int pks_call(struct pks_client *client, uint64_t opcode, uint64_t registers[PKS_REGISTERS],
			   const struct pks_memory *memory, unsigned int count, int64_t *status)
{
	struct pks_exchange call;
	int result;

	memset(&call, 0, sizeof(call));
	call.opcode = opcode;
	memcpy(call.registers, registers, sizeof(call.registers));
	call.memory = memory;
	call.count = count;
	result = pks_begin(client, &call);
	if (result || (result = pks_finish(client, &call)) != 0)
		return result;
	memcpy(registers, call.registers, sizeof(call.registers));
	*status = call.status;
	return 0;
}

/* Say GOODBYE and close; harmless on a client that has ended. */
static inline void pks_close(struct pks_client *client)
{
	if (client->state == PKS_STATE_ENDED || client->state == PKS_STATE_NEW)
		return;
	pksi_goodbye(client, PKS_GOODBYE_DONE, PKS_DONE);
	snprintf(client->error, sizeof(client->error), "the session is closed");
}

#endif
