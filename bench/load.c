/* A cheap load generator: sends frames that were computed beforehand and checks the answers by their headers.
 *
 * It checks that every answer is a whole HRETURN frame with r3 = 0 (or H_CONTINUE, the status of a page of labels), and
 * that the frames of a step have the expected size together. Anything else ends it with a message and exit status 1, so
 * only successes are counted. With --protocol it checks answers of Redis or of a TPM in the same way.
 */
#include "load.h"
#include <sys/prctl.h>

enum { POLL = 1, START = 2, END = 4, LATER = 8, END_IF = 16 }; /* flags of a step; see bench/programs.py */
enum { MOST_CONNECTIONS = 1024, MOST_SAMPLES = 8 << 20 };

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
static framing frame_size = hcall_frame;

/* One connection */

static void send_step(struct connection *c) {
  const struct step *step = &c->program->step[c->at];
  c->answers = c->answer_bytes = 0;
  if (step->flags & START) c->since = now();
  send_all(c->fd, step);
}

/* Each nap of one wait is twice as long as the one before it, up to sixteen times the first. */
static void nap(struct connection *c) {
  if (nap_ns) c->wake = now() + (nap_ns << (c->naps < 4 ? c->naps++ : 4));
  else send_step(c);
}

static void finish_step(struct connection *c) {
  const struct step *step = &c->program->step[c->at];
  errno = 0;
  if (step->answer_bytes && c->answer_bytes != step->answer_bytes) fail("answers of another size than foretold");
  int flushed = c->last_r4 == 1, early = flushed && step->flags & END_IF;
  if (step->flags & (POLL | END_IF) && !flushed) polls += measuring;
  if (step->flags & POLL && !flushed) {
    nap(c);
    return;
  }
  if ((step->flags & END || early) && measuring) {
    if (samples_used < MOST_SAMPLES) samples[samples_used++] = (uint32_t)(now() - c->since);
    units += step->units;
  }
  c->at += early ? 2 : 1; /* the next step would ask again */
  c->naps = 0;
  if (c->at == c->program->loop_end && !stopping) c->at = c->program->openings;
  if (c->at == c->program->steps) running--;
  else if (c->program->step[c->at].flags & LATER) nap(c);
  else send_step(c);
}

/* Receive once and check whole frames; returns 0 if a non-blocking socket has nothing. */
static int receive(struct connection *c, int flags) {
  ssize_t got = recv(c->fd, c->buffer + c->have, BUFFER - c->have, flags);
  if (got < 0 && errno == EAGAIN) return 0;
  if (got <= 0) { if (!got) errno = 0; fail("the server closed the connection"); }
  c->have += (uint32_t)got;
  uint32_t used = 0;
  for (uint32_t size; (size = frame_size(c->buffer + used, c->have - used));) {
    const uint8_t *frame = c->buffer + used;
    if (size > BUFFER) fail("an answer longer than any");
    if (c->have - used < size) break;
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
  struct timeval a_while = {0, 100000}; /* a blocking receive gives the end of the time a chance */
  c->fd = connected(path);
  if (setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &a_while, sizeof a_while)) fail("SO_RCVTIMEO");
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

/* The time is over, and at least one operation is done: a very short measurement has a result, too. */
static int is_over(uint64_t end) {
  uint64_t time = now();
  return time >= end && !(measuring && !units && time < end + PATIENCE_NS);
}

static void run_one(uint64_t end) {
  while (running && !is_over(end)) {
    if (connections[0].wake) wait_out_nap(&connections[0]);
    receive(&connections[0], 0);
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
      {"warm-up", 1, 0, 'w'}, {"cpu", 1, 0, 'u'}, {"nap-us", 1, 0, 'n'}, {"server", 1, 0, 'v'},
      {"protocol", 1, 0, 'r'}, {"fifo", 0, 0, 'f'}, {"on-demand", 0, 0, 'd'}, {0}};
  const char *path = NULL, *file = NULL;
  double seconds = 1, warm_up = 0.1;
  uint32_t count = 1, programs_count;
  pid_t server = getpid();
  int option, real_time = 0, on_demand = 0;
  while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
    switch (option) {
      case 's': path = optarg; break;
      case 'p': file = optarg; break;
      case 'c': count = (uint32_t)atoi(optarg); break;
      case 't': seconds = atof(optarg); break;
      case 'w': warm_up = atof(optarg); break;
      case 'n': nap_ns = (uint64_t)(atof(optarg) * 1000); break;
      case 'v': server = atoi(optarg); break;
      case 'u': keep_to_core(atoi(optarg)); break;
      case 'f': real_time = 1; break;
      case 'd': on_demand = 1; break;
      case 'r': frame_size = *optarg == 'r' ? redis_frame : *optarg == 't' ? tpm_frame : hcall_frame; break;
      default: exit(2);
    }
  }
  errno = 0;
  if (!path || !file || !count || count > MOST_CONNECTIONS) fail("--socket, --programs, 1 to 1024 --connections");
  prctl(PR_SET_TIMERSLACK, 1000);
  alarm((unsigned)(warm_up + seconds) + SPARE_SECONDS);
  samples = malloc(sizeof *samples * MOST_SAMPLES);
  struct program *programs = read_programs(file, &programs_count);
  for (uint32_t n = 0; n < count; n++) open_connection(&connections[n], path, &programs[n % programs_count]);
  if (on_demand) { /* every session is open: wait for a line on standard input */
    printf("open\n");
    fflush(stdout);
    if (getchar() == EOF) return 1;
  }
  for (uint32_t n = 0; n < count; n++)
    if (!programs[n % programs_count].openings) send_step(&connections[n]);

  if (real_time) become_real_time();
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
