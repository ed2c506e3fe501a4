/* A flood: sessions that send the steps of their program without end, as fast as the socket takes them.
 *
 * A flooding session reads all answers at once, so that no bound on slow readers ends it. Answers may be refusals. They
 * are whole HRETURN frames all the same, and are counted. A session that the server ends is counted and stays closed.
 *
 * It writes the line "flooding" when every session has sent something, and its figures as JSON at SIGTERM or when its
 * time is over.
 */
#include "load.h"
#include <signal.h>

enum { MOST_SESSIONS = 4096, ROOM = 1 << 18 };

struct session {
  int fd;
  const struct program *program;
  uint32_t at, sent, have;
  uint8_t *buffer;
};

static struct session sessions[MOST_SESSIONS];
static uint64_t answers, bytes_sent;
static uint32_t open_sessions, ended;
static volatile sig_atomic_t stopped;

static void stop(int signal) { (void)signal; stopped = 1; }

static void close_session(struct session *s) {
  close(s->fd);
  s->fd = -1;
  open_sessions--;
  ended++;
}

/* Take all whole frames out of the buffer; returns 0 at a GOODBYE. */
static int take_frames(struct session *s) {
  uint32_t used = 0;
  while (s->have - used >= HEADER) {
    const uint8_t *frame = s->buffer + used;
    uint32_t size = HEADER + big32(frame + 12);
    errno = 0;
    if (memcmp(frame, "HCAL\1", 5) || size > ROOM) fail("no frame of ours");
    if (frame[5] == GOODBYE) return 0;
    if (s->have - used < size) break;
    if (frame[5] == HRETURN) answers++;
    used += size;
  }
  memmove(s->buffer, s->buffer + used, s->have - used);
  s->have -= used;
  return 1;
}

static void receive(struct session *s) {
  ssize_t got = recv(s->fd, s->buffer + s->have, ROOM - s->have, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return;
  s->have += got > 0 ? (uint32_t)got : 0;
  if (got <= 0 || !take_frames(s)) close_session(s);
}

static void send_more(struct session *s) {
  const struct step *step = &s->program->step[s->at];
  ssize_t sent = send(s->fd, step->bytes + s->sent, step->size - s->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) {
    if (errno != EAGAIN) close_session(s);
    return;
  }
  bytes_sent += (uint64_t)sent;
  s->sent += (uint32_t)sent;
  if (s->sent < step->size) return;
  s->sent = 0;
  if (++s->at == s->program->loop_end) s->at = s->program->openings;
}

/* The opening of a session, step by step: send, then wait for the number of whole frames in the program. */
static void open_session(struct session *s, const char *path, const struct program *program) {
  s->fd = connected(path);
  s->program = program;
  s->buffer = malloc(ROOM);
  for (; s->at < program->openings; s->at++) {
    send_all(s->fd, &program->step[s->at]);
    for (uint32_t come = 0, size; come < program->step[s->at].answers;) {
      ssize_t got = recv(s->fd, s->buffer + s->have, ROOM - s->have, 0);
      if (got <= 0) fail("the server closed a session at its opening");
      s->have += (uint32_t)got;
      for (; (size = hcall_frame(s->buffer, s->have)) && size <= s->have; come++) {
        s->have -= size;
        memmove(s->buffer, s->buffer + size, s->have);
      }
    }
  }
  open_sessions++;
}

static void flood(int epoll, uint64_t end) {
  struct epoll_event events[MOST_SESSIONS];
  while (!stopped && open_sessions && now() < end) {
    int ready = epoll_wait(epoll, events, MOST_SESSIONS, 100);
    for (int n = 0; n < ready; n++) {
      struct session *s = &sessions[events[n].data.u32];
      if (events[n].events & ~(unsigned)EPOLLOUT) receive(s);
      if (s->fd >= 0 && events[n].events & EPOLLOUT) send_more(s);
    }
  }
}

int main(int argc, char **argv) {
  static const struct option options[] = {
      {"socket", 1, 0, 's'}, {"programs", 1, 0, 'p'}, {"sessions", 1, 0, 'c'}, {"seconds", 1, 0, 't'}, {"cpu", 1, 0, 'u'}, {0}};
  const char *path = NULL, *file = NULL;
  uint32_t count = 1, programs_count;
  double seconds = 1;
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (option) {
    case 's': path = optarg; break;
    case 'p': file = optarg; break;
    case 'c': count = (uint32_t)atoi(optarg); break;
    case 't': seconds = atof(optarg); break;
    case 'u': keep_to_core(atoi(optarg)); break;
    default: exit(2);
  }
  if (!path || !file || !count || count > MOST_SESSIONS) fail("--socket, --programs, 1 to 4096 --sessions");
  alarm((unsigned)seconds + SPARE_SECONDS);
  struct sigaction at_term = {.sa_handler = stop};
  sigaction(SIGTERM, &at_term, NULL);
  struct program *programs = read_programs(file, &programs_count);
  for (uint32_t n = 0; n < count; n++) open_session(&sessions[n], path, &programs[n % programs_count]);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  for (uint32_t n = 0; n < count; n++) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = n};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, sessions[n].fd, &event)) fail("epoll");
    send_more(&sessions[n]);
  }
  printf("flooding\n");
  fflush(stdout);
  uint64_t began = now();
  flood(epoll, began + (uint64_t)(seconds * 1e9));
  printf("{\"answers\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"ended\": %u}\n", (unsigned long long)answers,
         (unsigned long long)bytes_sent, 1e-9 * (double)(now() - began), ended);
  return 0;
}
