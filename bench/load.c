/* A cheap load generator: sends frames that were computed beforehand and checks the answers by their headers.
 *
 * It knows nothing of h-calls beyond what it has to check: every answer is a whole HRETURN frame with r3 = 0 and the
 * frames of a step add up to the size that was foretold. Anything else ends it with a message and exit status 1, so
 * that nothing but success is ever counted.
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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { POLL = 1, START = 2, END = 4, LATER = 8 }; /* flags of a step; see bench/programs.py */
enum { HEADER = 16, HELLO = 1, OPENED = 3, HRETURN = 5, R3 = 16, R4_LAST = 31 };
enum { MOST_CONNECTIONS = 1024, MOST_SAMPLES = 8 << 20 };

struct step { uint32_t flags, answers, units, answer_bytes, size; const uint8_t *bytes; };
struct program { uint32_t openings, loop_end, steps; struct step *step; }; /* opening, loop, closing in a row */
struct connection {
  int fd;
  const struct program *program;
  uint32_t at, answers, answer_bytes, have, naps;
  uint8_t last_r4;
  uint64_t since, wake; /* ns: when this operation began; when to poll again, 0 for not waiting */
  uint8_t *buffer;
};

static const uint32_t BUFFER = 1 << 20;
static const uint64_t PATIENCE_NS = 10000000000u;
static struct connection connections[MOST_CONNECTIONS];
static uint32_t *samples, samples_used; /* ns */
static uint64_t units, polls, nap_ns;
static int measuring, stopping;
static uint32_t running; /* connections that have not yet come to the end of their steps */

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

/* One connection */

static void send_step(struct connection *c) {
  const struct step *step = &c->program->step[c->at];
  c->answers = c->answer_bytes = 0;
  if (step->flags & START) c->since = now();
  for (uint32_t done = 0; done < step->size;) {
    ssize_t sent = send(c->fd, step->bytes + done, step->size - done, MSG_NOSIGNAL);
    if (sent < 0) fail("send");
    done += (uint32_t)sent;
  }
}

/* Each nap of one wait is twice as long as the one before it, up to sixteen times the first. */
static void nap(struct connection *c) {
  if (nap_ns) c->wake = now() + (nap_ns << (c->naps < 4 ? c->naps++ : 4));
  else send_step(c);
}

static void check(const uint8_t *frame, uint32_t size) {
  int type = frame[5];
  errno = 0;
  if (memcmp(frame, "HCAL\1", 5)) fail("an answer without the frame's magic and version");
  if (type == HELLO) return;
  if (type == OPENED && big32(frame + R3) == 0) return;
  if (type == HRETURN && size >= 104 && big32(frame + R3) == 0 && big32(frame + R3 + 4) == 0) return;
  fprintf(stderr, "load: frame of type %d with status %d\n", type, (int)big32(frame + R3 + (type == HRETURN ? 4 : 0)));
  exit(1);
}

static void finish_step(struct connection *c) {
  const struct step *step = &c->program->step[c->at];
  errno = 0;
  if (step->answer_bytes && c->answer_bytes != step->answer_bytes) fail("answers of another size than foretold");
  if (step->flags & POLL && c->last_r4 != 1) {
    polls += measuring;
    nap(c);
    return;
  }
  if (step->flags & END && measuring) {
    if (samples_used < MOST_SAMPLES) samples[samples_used++] = (uint32_t)(now() - c->since);
    units += step->units;
  }
  c->at++;
  c->naps = 0;
  if (c->at == c->program->loop_end && !stopping) c->at = c->program->openings;
  if (c->at == c->program->steps) running--;
  else if (c->program->step[c->at].flags & LATER) nap(c);
  else send_step(c);
}

/* Take what has arrived; returns 0 when a non-blocking socket has nothing. */
static int receive(struct connection *c, int flags) {
  ssize_t got = recv(c->fd, c->buffer + c->have, BUFFER - c->have, flags);
  if (got < 0 && errno == EAGAIN) return 0;
  if (got <= 0) { if (!got) errno = 0; fail("the server closed the connection"); }
  c->have += (uint32_t)got;
  uint32_t used = 0;
  while (c->have - used >= HEADER) {
    const uint8_t *frame = c->buffer + used;
    uint32_t size = HEADER + big32(frame + 12);
    if (size > BUFFER) fail("an answer longer than any");
    if (c->have - used < size) break;
    check(frame, size);
    c->last_r4 = size > R4_LAST ? frame[R4_LAST] : 0;
    c->answers++;
    c->answer_bytes += size;
    used += size;
  }
  if (used && used < c->have) memmove(c->buffer, c->buffer + used, c->have - used);
  c->have -= used;
  if (c->answers >= c->program->step[c->at].answers) finish_step(c);
  return 1;
}

static void open_connection(struct connection *c, const char *path, const struct program *program) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) fail("the socket's path is too long");
  strcpy(address.sun_path, path);
  c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail(path);
  c->program = program;
  c->buffer = malloc(BUFFER);
  if (program->openings) send_step(c);
  while (c->at < program->openings) {
    uint32_t before = c->at;
    while (c->at == before) receive(c, 0);
  }
}

/* Loops: one connection needs no epoll; many do */

static void wait_out_nap(struct connection *c) {
  struct timespec until = {(time_t)(c->wake / 1000000000u), (long)(c->wake % 1000000000u)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {}
  c->wake = 0;
  send_step(c);
}

/* Time is up, but not before a first operation is done: a measurement shorter than one of them is still one. */
static int is_over(uint64_t end) {
  uint64_t time = now();
  return time >= end && !(measuring && !units && time < end + PATIENCE_NS);
}

static void run_one(uint64_t end) {
  while (running && !is_over(end)) {
    receive(&connections[0], 0);
    if (connections[0].wake) wait_out_nap(&connections[0]);
  }
}

/* Poll again where a nap is over; returns how long the next one still takes, a tenth of a second at most. */
static uint64_t wake_up(uint32_t count) {
  uint64_t time = now(), least = 100000000u;
  for (uint32_t n = 0; n < count; n++) {
    struct connection *c = &connections[n];
    if (!c->wake) continue;
    if (c->wake <= time) {
      c->wake = 0;
      send_step(c);
    } else if (c->wake - time < least) least = c->wake - time;
  }
  return least;
}

static void run_many(int epoll, uint32_t count, uint64_t end) {
  struct epoll_event events[MOST_CONNECTIONS];
  while (running && !is_over(end)) {
    uint64_t wait = nap_ns ? wake_up(count) : 100000000u;
    struct timespec timeout = {0, (long)wait};
    int ready = epoll_pwait2(epoll, events, MOST_CONNECTIONS, &timeout, NULL);
    for (int n = 0; n < ready; n++) receive(&connections[events[n].data.u32], MSG_DONTWAIT);
  }
}

static int make_epoll(uint32_t count) {
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  for (uint32_t n = 0; n < count; n++) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = n};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, connections[n].fd, &event)) fail("epoll");
  }
  return epoll;
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static double percentile(double share) {
  return samples_used ? samples[(uint32_t)(share * (samples_used - 1))] / 1000.0 : 0.0;
}

static void run(uint32_t count, uint64_t nanoseconds) {
  static int epoll = -1;
  if (count == 1) { run_one(now() + nanoseconds); return; }
  if (epoll < 0) epoll = make_epoll(count);
  run_many(epoll, count, now() + nanoseconds);
}

int main(int argc, char **argv) {
  static const struct option options[] = {
      {"socket", 1, 0, 's'}, {"programs", 1, 0, 'p'}, {"connections", 1, 0, 'c'}, {"seconds", 1, 0, 't'},
      {"warm-up", 1, 0, 'w'}, {"cpu", 1, 0, 'u'}, {"nap-us", 1, 0, 'n'}, {"server", 1, 0, 'v'}, {0}};
  const char *path = NULL, *file = NULL;
  double seconds = 1, warm_up = 0.1;
  uint32_t count = 1, programs_count;
  pid_t server = getpid();
  int option;
  while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
    cpu_set_t cpus;
    switch (option) {
      case 's': path = optarg; break;
      case 'p': file = optarg; break;
      case 'c': count = (uint32_t)atoi(optarg); break;
      case 't': seconds = atof(optarg); break;
      case 'w': warm_up = atof(optarg); break;
      case 'n': nap_ns = (uint64_t)(atof(optarg) * 1000); break;
      case 'v': server = atoi(optarg); break;
      case 'u':
        CPU_ZERO(&cpus);
        CPU_SET((size_t)atoi(optarg), &cpus);
        if (sched_setaffinity(0, sizeof cpus, &cpus)) fail("--cpu");
        break;
      default: exit(2);
    }
  }
  errno = 0;
  if (!path || !file || !count || count > MOST_CONNECTIONS) fail("--socket, --programs, 1 to 1024 --connections");
  prctl(PR_SET_TIMERSLACK, 1000);
  samples = malloc(sizeof *samples * MOST_SAMPLES);
  struct program *programs = read_programs(file, &programs_count);
  for (uint32_t n = 0; n < count; n++) open_connection(&connections[n], path, &programs[n % programs_count]);
  for (uint32_t n = 0; n < count; n++)
    if (!programs[n % programs_count].openings) send_step(&connections[n]);

  running = count;
  run(count, (uint64_t)(warm_up * 1e9));
  clockid_t server_clock = (clockid_t)(~(unsigned)server << 3 | 2); /* clock_getcpuclockid(3), as Linux has it */
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  uint64_t cpu = clock_ns(server_clock), began = now();
  measuring = 1;
  run(count, (uint64_t)(seconds * 1e9));
  uint64_t ended = now();
  cpu = clock_ns(server_clock) - cpu;
  getrusage(RUSAGE_SELF, &after);
  double own = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) + (after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
               1e-6 * ((after.ru_utime.tv_usec - before.ru_utime.tv_usec) + (after.ru_stime.tv_usec - before.ru_stime.tv_usec));
  measuring = 0;
  stopping = 1;
  run(count, PATIENCE_NS);
  if (running) fail("the last answers did not come");
  qsort(samples, samples_used, sizeof *samples, ascending);
  printf("{\"units\": %llu, \"seconds\": %.6f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"polls\": %llu, "
         "\"server_cpu\": %.6f, \"load_cpu\": %.6f}\n",
         (unsigned long long)units, 1e-9 * (double)(ended - began), percentile(0.5), percentile(0.99),
         (unsigned long long)polls, 1e-9 * (double)cpu, own);
  return 0;
}
