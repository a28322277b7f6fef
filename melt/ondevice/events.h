/* Writes events: one JSON object a line, appended to a file that another program may append to as well.
 *
 * Valid C11 and C++17, libc only. Lines are built in a buffer and leave it in one write, so every write holds whole
 * lines. Between the two stamps of a measured interval nothing here is called: take both stamps, then put the
 * events, then ev_pace(). A process that is killed loses what ev_pace() held back, EV_HOLD_NS of it at most; one
 * that dies by a signal it can catch loses nothing.
 *
 * An inference of EV_PAIR_NS or more is a pair of lines, for people to read. Shorter ones come in batches, since a
 * hundred thousand pairs a second would cost the model its rate and the reader its memory:
 *   {"t":T,"ev":"infer.batch","i":FIRST,"ns":[0,DURATION,GAP,DURATION,...]}
 * T is when inference FIRST began, and each GAP the time from the end of one to the begin of the next.
 */
#ifndef MELT_EVENTS_H
#define MELT_EVENTS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { EV_BUFFER = 65536, EV_LINE_MAX = 32768, EV_BATCH_MAX = 16384, EV_TEXT_MAX = 2000 };
enum { EV_HOLD_NS = 100000000, EV_PAIR_NS = 1000000, EV_DIGITS = 20 };

struct ev_writer {
  int fd;
  size_t ready;      /* bytes of whole lines: all that a signal handler may write, but for ... */
  size_t batch;      /* end of the last inference of the batch that is open, which lacks its "]}"; 0 when none is */
  size_t batch_full; /* where that batch is long enough */
  int64_t batch_end; /* when its last inference ended */
  int64_t batch_next; /* the number that its next one must have */
  size_t at;         /* end of the line that is being built */
  bool too_long;     /* the line that is being built did not fit */
  int64_t wrote;     /* when the buffer was last emptied */
};
static struct ev_writer ev_writer = {-1, 0, 0, 0, 0, 0, 0, false, 0};
static char ev_buffer[EV_BUFFER];

static inline int64_t ev_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Makes the open batch a whole line. Each step leaves a buffer that a signal handler writes the same bytes of. */
static inline void ev_close_batch(void) {
  size_t end = __atomic_load_n(&ev_writer.batch, __ATOMIC_ACQUIRE);
  if (end == 0) return;
  memcpy(ev_buffer + end, "]}\n", 3);
  __atomic_store_n(&ev_writer.ready, end + 3, __ATOMIC_RELEASE);
  __atomic_store_n(&ev_writer.batch, (size_t)0, __ATOMIC_RELEASE);
}

/* Async-signal-safe. False when the file took less than everything, with errno set. */
static inline bool ev_write_out(void) {
  ev_close_batch();
  size_t done = 0, ready = __atomic_load_n(&ev_writer.ready, __ATOMIC_ACQUIRE);
  while (done < ready) {
    ssize_t n = write(ev_writer.fd, ev_buffer + done, ready - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += (size_t)n;
  }
  return true;
}

/* Empties the buffer. Signals wait meanwhile, or a handler could write the same lines a second time. */
static inline void ev_flush(void) {
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);
  bool whole = ev_write_out();
  int error = errno;
  __atomic_store_n(&ev_writer.ready, (size_t)0, __ATOMIC_RELEASE);
  ev_writer.at = 0;
  ev_writer.wrote = ev_now();
  sigprocmask(SIG_SETMASK, &before, NULL);
  if (!whole) { /* a measurement that nobody can read need not go on */
    fprintf(stderr, "cannot write events: %s\n", strerror(error));
    _exit(3);
  }
}

/* Call between measured intervals, with the time and how long the next one is likely to take. */
static inline void ev_pace(int64_t now, int64_t next_ns) {
  if (now - ev_writer.wrote + next_ns >= EV_HOLD_NS) ev_flush();
}

static inline void ev_raw(const char *text, size_t length) {
  if (ev_writer.too_long || length > EV_BUFFER - ev_writer.at) {
    ev_writer.too_long = true;
    return;
  }
  memcpy(ev_buffer + ev_writer.at, text, length);
  ev_writer.at += length;
}

static inline void ev_text(const char *text) { ev_raw(text, strlen(text)); }

/* Writes a number of at most EV_DIGITS characters; returns how many. Between the inferences of a small model
 * snprintf would take longer than many of their operators. */
static inline size_t ev_digits(char *to, int64_t value) {
  char reversed[EV_DIGITS];
  size_t n = 0, sign = value < 0;
  uint64_t rest = sign ? 0 - (uint64_t)value : (uint64_t)value;
  do reversed[n++] = (char)('0' + rest % 10);
  while ((rest /= 10) > 0);
  if (sign) *to = '-';
  for (size_t i = 0; i < n; i++) to[sign + i] = reversed[n - 1 - i];
  return sign + n;
}

static inline void ev_number(int64_t value) {
  char digits[EV_DIGITS];
  ev_raw(digits, ev_digits(digits, value));
}

/* Length of the UTF-8 character at `p`, which ends in NUL, or 0 when there is none. */
static inline size_t ev_utf8(const unsigned char *p) {
  if (p[0] < 0x80) return 1;
  size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
  if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
  for (size_t i = 1; i < n; i++)
    if ((p[i] & 0xc0) != 0x80) return 0;
  if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90)) return 0; /* longer than need be */
  if ((p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0; /* surrogates, beyond Unicode */
  return n;
}

/* A JSON string of any bytes, cut after EV_TEXT_MAX of them; what is not UTF-8 becomes U+FFFD. */
static inline void ev_string(const char *text) {
  const unsigned char *p = (const unsigned char *)text, *end = p + strnlen(text, EV_TEXT_MAX);
  char escaped[8];
  ev_text("\"");
  while (p < end) {
    size_t n = ev_utf8(p);
    if (n == 0) {
      ev_text("\\ufffd");
      n = 1;
    } else if (n > (size_t)(end - p)) {
      break;
    } else if (*p == '"' || *p == '\\' || *p < 0x20 || *p == 0x7f) {
      ev_raw(escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", *p));
    } else {
      ev_raw((const char *)p, n);
    }
    p += n;
  }
  ev_text("\"");
}

/* A line: ev_begin, any number of keys, ev_end. */
static inline void ev_begin(int64_t t, const char *name) {
  ev_close_batch();
  if (ev_writer.ready > EV_BUFFER - EV_LINE_MAX) ev_flush();
  ev_writer.at = ev_writer.ready;
  ev_writer.too_long = false;
  ev_text("{\"t\":");
  ev_number(t);
  ev_text(",\"ev\":");
  ev_string(name);
}

static inline void ev_key(const char *key) {
  ev_text(",");
  ev_string(key);
  ev_text(":");
}

static inline void ev_key_number(const char *key, int64_t value) {
  ev_key(key);
  ev_number(value);
}

static inline void ev_key_string(const char *key, const char *value) {
  ev_key(key);
  ev_string(value);
}

/* False when the line did not fit: it is dropped, and the caller says so in a shorter one. */
static inline bool ev_end(void) {
  ev_text("}\n");
  if (ev_writer.too_long) return false;
  __atomic_store_n(&ev_writer.ready, ev_writer.at, __ATOMIC_RELEASE);
  return true;
}

static inline void ev_pair(int64_t t, const char *name, int64_t i) {
  ev_begin(t, name);
  ev_key_number("i", i);
  ev_end();
}

/* One inference that ended well, number `i`. */
static inline void ev_inference(int64_t i, int64_t begin, int64_t end) {
  if (end - begin >= EV_PAIR_NS) {
    ev_pair(begin, "infer.begin", i);
    ev_pair(end, "infer.end", i);
    return;
  }
  size_t at = ev_writer.batch;
  int64_t gap = begin - ev_writer.batch_end;
  if (at == 0 || at > ev_writer.batch_full || i != ev_writer.batch_next) {
    ev_begin(begin, "infer.batch");
    ev_key_number("i", i);
    ev_key("ns");
    ev_text("[");
    at = ev_writer.at;
    gap = 0;
    ev_writer.batch_full = ev_writer.ready + EV_BATCH_MAX - 2 * (EV_DIGITS + 1) - 3;
  } else {
    ev_buffer[at++] = ',';
  }
  at += ev_digits(ev_buffer + at, gap);
  ev_buffer[at++] = ',';
  at += ev_digits(ev_buffer + at, end - begin);
  ev_writer.batch_end = end;
  ev_writer.batch_next = i + 1;
  __atomic_store_n(&ev_writer.batch, at, __ATOMIC_RELEASE);
}

static inline void ev_mark_begin(int64_t t, const char *name) {
  ev_begin(t, "mark");
  ev_key_string("name", name);
}

static inline void ev_mark(int64_t t, const char *name) {
  ev_mark_begin(t, name);
  ev_end();
}

/* Writes the whole lines, then lets the signal do what it does to any program.
 * A request to end may reach any thread while the main one is in ev_flush(): it is passed on to the main thread,
 * which has signals blocked there. A fault in another thread needs no such care: the main one waits for its work. */
static inline void ev_on_signal(int number) {
  if (number == SIGTERM && syscall(SYS_gettid) != getpid()) {
    int error = errno;
    syscall(SYS_tgkill, getpid(), getpid(), number);
    errno = error;
    return;
  }
  ev_write_out();
  signal(number, SIG_DFL);
  raise(number);
}

static inline void ev_catch_signals(void) {
  static const int fatal[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGTERM};
  static char stack[65536]; /* of its own: the signal may say that the other stack is full */
  stack_t alternate;
  memset(&alternate, 0, sizeof alternate);
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  sigaltstack(&alternate, NULL);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = ev_on_signal;
  action.sa_flags = SA_ONSTACK;
  sigfillset(&action.sa_mask);
  for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) sigaction(fatal[i], &action, NULL);
}

/* False, with errno set, when the file cannot be opened. */
static inline bool ev_open(const char *path) {
  ev_writer.fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (ev_writer.fd < 0) return false;
  ev_writer.wrote = ev_now();
  ev_catch_signals();
  return true;
}

/* Says why this process cannot go on, in the events and on stderr, and ends it with code 3. Exit handlers are left
 * out: those of a runtime that has just failed may crash and hide the reason. */
static inline void __attribute__((noreturn)) ev_die(const char *kind, const char *message) {
  ev_begin(ev_now(), "error");
  ev_key_string("kind", kind);
  ev_key_string("message", message);
  ev_end();
  ev_flush();
  fputs(kind, stderr);
  fputs(": ", stderr);
  for (int i = 0; i < EV_TEXT_MAX && message[i] != '\0'; i++)
    fputc((unsigned char)message[i] < 0x20 || message[i] == 0x7f ? ' ' : message[i], stderr); /* no terminal codes */
  fputc('\n', stderr);
  _exit(3);
}

#endif
