/* Measures what a device can do at most: read memory, and multiply and add, with one thread and with more.
 *
 *   roofline --events PATH [--threads N] [--bytes N] [--warmup-n N] [--warmup-s S] [--min-n N] [--min-s S]
 *
 *   roofline --try    whether this program runs here
 *
 * A point is one kind of work with one number of threads. Each is repeated --min-n times at least, and they share
 * --min-s among them. A repetition lasts REPETITION_NS and is a pair of events that says how much was done.
 * Exit code 0: done. 2: wrong arguments. 3: failed, the last event says why. */
#include "../events.h"
#include "kernels.h"
#include "machine.h"
#include "team.h"

#include <stdarg.h>
#include <sys/mman.h>

#define VERSION "1"
enum { CHUNK_BYTES = 256 << 10, MAX_THREADS = 1024, ALL_COUNTS = 16, MOST_COUNTS = 32, CACHES = 4, SHARE = 4 };
static const int64_t REPETITION_NS = 20000000, DEFAULT_BYTES = INT64_C(256) << 20, MAX_BYTES = INT64_C(1) << 46;
static const char *const names[KINDS] = {"read", "fp32", "int8"};

struct plan {
  const char *events;
  int64_t threads, bytes, warmup_n, min_n, warmup_ns, min_ns;
};


static void __attribute__((noreturn, format(printf, 1, 2))) usage(const char *format, ...) {
  va_list rest;
  va_start(rest, format);
  fputs("roofline: ", stderr);
  vfprintf(stderr, format, rest);
  fputc('\n', stderr);
  exit(2);
}

static void __attribute__((noreturn, format(printf, 2, 3))) fail(const char *kind, const char *format, ...) {
  char message[EV_TEXT_MAX + 1];
  va_list rest;
  va_start(rest, format);
  vsnprintf(message, sizeof message, format, rest);
  ev_die(kind, message);
}

/* -------------------------------------------------------------------------------------------------- arguments */

static int64_t count_of(const char *flag, const char *text, int64_t least, int64_t most) {
  const size_t digits = strspn(text, "0123456789");
  const int64_t value = digits > 0 && digits <= 18 && text[digits] == '\0' ? strtoll(text, NULL, 10) : -1;
  if (value < least || value > most)
    usage("%s takes a whole number from %lld to %lld, not '%s'", flag, (long long)least, (long long)most, text);
  return value;
}

/* Seconds as 12 or 12.5, to nanoseconds; no sign, exponent, inf or nan. */
static int64_t seconds_of(const char *flag, const char *text) {
  const size_t length = strlen(text);
  char *end = NULL;
  double value = -1;
  if (length > 0 && length <= 24 && strspn(text, "0123456789.") == length) value = strtod(text, &end);
  if (end != text + length || !(value >= 0 && value <= 604800))
    usage("%s takes seconds from 0 to 604800, not '%s'", flag, text);
  return (int64_t)(value * 1e9);
}

static struct plan read_arguments(int argc, char **argv) {
  const int64_t many = INT64_C(1000000000);
  struct plan plan = {.min_n = 1};
  for (int i = 1; i < argc; i += 2) {
    const char *flag = argv[i], *value = argv[i + 1];
    if (value == NULL) usage("'%s' is unknown or lacks its value", flag);
    if (strcmp(flag, "--events") == 0) plan.events = value;
    else if (strcmp(flag, "--threads") == 0) plan.threads = count_of(flag, value, 1, MAX_THREADS);
    else if (strcmp(flag, "--bytes") == 0) plan.bytes = count_of(flag, value, CHUNK_BYTES, MAX_BYTES);
    else if (strcmp(flag, "--warmup-n") == 0) plan.warmup_n = count_of(flag, value, 0, many);
    else if (strcmp(flag, "--min-n") == 0) plan.min_n = count_of(flag, value, 1, many);
    else if (strcmp(flag, "--warmup-s") == 0) plan.warmup_ns = seconds_of(flag, value);
    else if (strcmp(flag, "--min-s") == 0) plan.min_ns = seconds_of(flag, value);
    else usage("unknown argument '%s'", flag);
  }
  if (plan.events == NULL) usage("--events is needed");
  return plan;
}

/* Settles what was left open: the largest number of threads, and a buffer that no cache holds. */
static void settle(struct plan *plan, const struct machine *machine) {
  if (plan->threads == 0) plan->threads = machine->cpus < MAX_THREADS ? machine->cpus : MAX_THREADS;
  if (plan->bytes == 0)
    plan->bytes = CACHES * machine->cache_bytes > DEFAULT_BYTES ? CACHES * machine->cache_bytes : DEFAULT_BYTES;
  if (machine->available_bytes >= 0 && plan->bytes > machine->available_bytes / SHARE)
    plan->bytes = machine->available_bytes / SHARE;
  plan->bytes = plan->bytes < CHUNK_BYTES ? CHUNK_BYTES : plan->bytes / CHUNK_BYTES * CHUNK_BYTES;
}

/* -------------------------------------------------------------------------------------------------------- tasks */

static const struct kernel *best(enum kind kind) {
  for (size_t i = 0; i < n_kernels; i++)
    if (kernels[i].kind == kind && kernels[i].here()) return &kernels[i];
  fail("unsupported", "no kernel for %s runs on this processor", names[kind]);
}

struct reading {
  const struct kernel *kernel;
  uint64_t *words;
};

enum { CHUNK_WORDS = CHUNK_BYTES / sizeof(uint64_t) };

static uint64_t fill_chunk(const struct task *task, int64_t number) {
  uint64_t *words = ((const struct reading *)task->what)->words + number * CHUNK_WORDS;
  for (size_t i = 0; i < CHUNK_WORDS; i++) words[i] = 1;
  return 0;
}

static uint64_t read_chunk(const struct task *task, int64_t number) {
  const struct reading *reading = task->what;
  return reading->kernel->read(reading->words + number * CHUNK_WORDS, CHUNK_WORDS) * sizeof(uint64_t);
}

static uint64_t do_block(const struct task *task, int64_t number) {
  (void)number;
  return ((const struct kernel *)task->what)->block();
}

/* --------------------------------------------------------------------------------------------------- repetitions */

static void put_repetition(enum kind kind, int64_t threads, int64_t i, bool lead, const struct spell *spell) {
  for (int end = 0; end < 2; end++) {
    ev_begin(end ? spell->end : spell->begin, end ? "roof.end" : "roof.begin");
    ev_key_string("what", names[kind]);
    ev_key_number("threads", threads);
    ev_key_number("i", i);
    if (lead) ev_key_number("lead", 1);
    if (end) ev_key_number(kind == READ ? "bytes" : "madds", (int64_t)spell->done);
    ev_end();
  }
}

/* Returns how long it took. */
static int64_t repeat(struct team *team, const struct task *task, enum kind kind, int64_t threads, int64_t i,
                      bool lead) {
  const struct spell spell = team_do(team, task);
  put_repetition(kind, threads, i, lead, &spell);
  ev_pace(spell.end, 2 * (spell.end - spell.begin));
  return spell.end - spell.begin;
}

/* Repetitions that grow until they are long enough; they come before those that count, and say so. */
static int64_t lead_in(struct team *team, struct task *task, enum kind kind, int64_t threads) {
  for (int64_t i = 0;; i++) {
    const int64_t took = repeat(team, task, kind, threads, i, true);
    if (took >= REPETITION_NS) return i + 1;
    const double more = 1.25 * (double)REPETITION_NS / (double)(took > 0 ? took : 1);
    task->passes = (int64_t)((double)task->passes * (more > 16 ? 16 : more)) + 1;
  }
}

static void warm_up(struct team *team, struct task *task, const struct plan *plan) {
  const int64_t begin = ev_now();
  ev_mark(begin, "warmup.begin");
  int64_t i = lead_in(team, task, FP32, plan->threads);
  for (; i < plan->warmup_n || ev_now() - begin < plan->warmup_ns; i++)
    repeat(team, task, FP32, plan->threads, i, true);
}

static void measure_point(struct team *team, struct task *task, enum kind kind, int64_t threads, int64_t min_n,
                          int64_t min_ns) {
  lead_in(team, task, kind, threads);
  const int64_t begin = ev_now();
  for (int64_t i = 0; i < min_n || ev_now() - begin < min_ns; i++) repeat(team, task, kind, threads, i, false);
}

static struct team *gather(int64_t threads) {
  struct team *team = team_gather((int)threads);
  if (team == NULL) fail("runtime", "the system does not give %lld threads: %s", (long long)threads, strerror(errno));
  return team;
}

/* The buffer is another for each number of threads, so that each reads what it has touched first: a machine of
 * several nodes keeps that near it. */
static void measure_threads(int64_t threads, const struct plan *plan, int64_t min_ns) {
  struct team *team = gather(threads);
  void *memory = mmap(NULL, (size_t)plan->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    fail("memory", "no memory for the %lld bytes that are to be read: %s", (long long)plan->bytes, strerror(errno));
  madvise(memory, (size_t)plan->bytes, MADV_HUGEPAGE); /* a ceiling: not to be spent on looking pages up */
  const struct reading reading = {best(READ), memory};
  struct task task = {fill_chunk, &reading, plan->bytes / CHUNK_BYTES, 1, false};
  ev_flush(); /* this is where memory runs out */
  team_do(team, &task);
  task = (struct task){read_chunk, &reading, plan->bytes / CHUNK_BYTES, 1, true};
  measure_point(team, &task, READ, threads, plan->min_n, min_ns);
  munmap(memory, (size_t)plan->bytes);
  for (enum kind kind = FP32; kind < KINDS; kind++) {
    task = (struct task){do_block, best(kind), threads, 1, true};
    measure_point(team, &task, kind, threads, plan->min_n, min_ns);
  }
  team_dismiss(team);
}

/* 1 to 16, then doubled, and the most. */
static int thread_counts(int64_t most, int64_t *counts) {
  int n = 0;
  for (int64_t k = 1; k < most; k = k < ALL_COUNTS ? k + 1 : 2 * k) counts[n++] = k;
  counts[n++] = most;
  return n;
}

/* ---------------------------------------------------------------------------------------------------- what it is */

static void put_engine(const struct plan *plan, const struct machine *machine) {
  ev_mark_begin(ev_now(), "engine");
  ev_key_string("version", VERSION);
  ev_key_number("threads", plan->threads);
  ev_key_number("cpus", machine->cpus);
  ev_key_number("read_bytes", plan->bytes);
  ev_key("cache_bytes");
  if (machine->cache_bytes >= 0) ev_number(machine->cache_bytes);
  else ev_text("null");
  ev_key_string("read_isa", best(READ)->isa);
  ev_key_string("fp32_isa", best(FP32)->isa);
  ev_key_string("int8_isa", best(INT8)->isa);
  ev_end();
  ev_mark_begin(ev_now(), "providers");
  ev_key_string("unknown", "a roofline runs no model");
  ev_end();
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--try") == 0) return 0;
  struct plan plan = read_arguments(argc, argv);
  if (!ev_open(plan.events)) usage("cannot open '%s' for the events: %s", plan.events, strerror(errno));
  const struct machine machine = look_at_machine();
  settle(&plan, &machine);
  put_engine(&plan, &machine);
  int64_t counts[MOST_COUNTS];
  const int n = thread_counts(plan.threads, counts);
  struct team *team = gather(plan.threads);
  struct task task = {do_block, best(FP32), plan.threads, 1, true};
  warm_up(team, &task, &plan);
  team_dismiss(team);
  ev_mark(ev_now(), "measure.begin");
  for (int i = 0; i < n; i++) measure_threads(counts[i], &plan, plan.min_ns / (n * KINDS));
  ev_mark(ev_now(), "measure.end");
  ev_begin(ev_now(), "done");
  ev_end();
  ev_flush();
  return 0;
}
