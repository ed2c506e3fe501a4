/* Shared by the load generator and the flood: clock, program file, sockets, and the end of a frame of each protocol.
 *
 * The program file (bench/programs.py writes it; all numbers u32 in the machine's own byte order):
 *   "SPKL", number of programs; then for each program: number of opening, repeated and closing steps, then all of them.
 *   A step: flags, answers, units, bytes of all answers (0: not checked), bytes to send, then those bytes.
 * Connection n runs program n modulo their number: its opening once, the repeated steps over and over, its closing once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 16, H_CONTINUE = 18, HELLO = 1, OPENED = 3, HRETURN = 5, GOODBYE = 6, R3 = 16, R4_LAST = 31 };
enum { SPARE_SECONDS = 60 }; /* after its time and these seconds, an alarm ends a program that hangs */

struct step { uint32_t flags, answers, units, answer_bytes, size; const uint8_t *bytes; };
struct program { uint32_t openings, loop_end, steps; struct step *step; }; /* opening, loop, closing in a row */

static void fail(const char *what) {
  fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
  exit(1);
}

static uint64_t clock_ns(clockid_t clock) {
  struct timespec t;
  if (clock_gettime(clock, &t)) return 0;
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now(void) { return clock_ns(CLOCK_MONOTONIC); }

static uint32_t big32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Core and priority of this process */

static void keep_to_core(int core) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET((size_t)core, &cpus);
  if (sched_setaffinity(0, sizeof cpus, &cpus)) fail("--cpu");
}

__attribute__((unused)) static void become_real_time(void) {
  struct sched_param first = {.sched_priority = 1};
  if (sched_setscheduler(0, SCHED_FIFO, &first)) fail("--fifo");
}

/* The program file */

static uint32_t take(const uint8_t **p) {
  uint32_t value;
  memcpy(&value, *p, 4);
  *p += 4;
  return value;
}

static struct program *read_programs(const char *path, uint32_t *count) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) fail(path);
  long size = ftell(file);
  uint8_t *content = malloc((size_t)size);
  rewind(file);
  if (fread(content, 1, (size_t)size, file) != (size_t)size || memcmp(content, "SPKL", 4)) fail(path);
  fclose(file);
  const uint8_t *p = content + 4;
  *count = take(&p);
  struct program *programs = calloc(*count, sizeof *programs);
  for (uint32_t n = 0; n < *count; n++) {
    struct program *program = &programs[n];
    program->openings = take(&p);
    program->loop_end = program->openings + take(&p);
    program->steps = program->loop_end + take(&p);
    program->step = calloc(program->steps, sizeof *program->step);
    for (uint32_t s = 0; s < program->steps; s++) {
      struct step *step = &program->step[s];
      step->flags = take(&p);
      step->answers = take(&p);
      step->units = take(&p);
      step->answer_bytes = take(&p);
      step->size = take(&p);
      step->bytes = p;
      p += step->size;
    }
  }
  return programs;
}

/* Sockets */

static int connected(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) fail("the socket's path is too long");
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail(path);
  return fd;
}

static void send_all(int fd, const struct step *step) {
  for (uint32_t done = 0; done < step->size;) {
    ssize_t sent = send(fd, step->bytes + done, step->size - done, MSG_NOSIGNAL);
    if (sent < 0) fail("send");
    done += (uint32_t)sent;
  }
}

/* Frames: each function returns the size of the frame at `p`, 0 if too few bytes have come, and fails for an answer
 * that is no success. */

typedef uint32_t (*framing)(const uint8_t *p, uint32_t have);

static void refused(const char *what, int32_t status) {
  fprintf(stderr, "load: %s %d\n", what, (int)status);
  exit(1);
}

static uint32_t hcall_frame(const uint8_t *p, uint32_t have) {
  if (have < HEADER) return 0;
  uint32_t size = HEADER + big32(p + 12);
  errno = 0;
  if (memcmp(p, "HCAL\1", 5)) fail("an answer without the frame's magic and version");
  if (have < size || p[5] == HELLO) return size;
  int32_t status = size < R4_LAST + 1 ? -1 : (int32_t)(p[5] == HRETURN ? big32(p + R3 + 4) : big32(p + R3));
  if ((p[5] != OPENED && p[5] != HRETURN) || (status && status != H_CONTINUE)) refused(p[5] == HRETURN ? "an h-call has status" : "frame", status);
  return size;
}

/* Redis: a line, or the length of a string in a line and then the string. */
__attribute__((unused)) static uint32_t redis_frame(const uint8_t *p, uint32_t have) {
  const uint8_t *end = have ? memchr(p, '\n', have) : NULL;
  if (!end) return 0;
  uint32_t line = (uint32_t)(end - p) + 1;
  errno = 0;
  if (*p == '$' && p[1] != '-') return line + (uint32_t)atoi((const char *)p + 1) + 2;
  if (*p != '+' && *p != ':') fail("Redis refuses");
  return line;
}

/* TPM 2.0: tag u16, size u32, response code u32. */
__attribute__((unused)) static uint32_t tpm_frame(const uint8_t *p, uint32_t have) {
  if (have < 10) return 0;
  if (big32(p + 6)) refused("the TPM has response code", (int32_t)big32(p + 6));
  return big32(p + 2);
}
