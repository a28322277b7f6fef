/* Two barriers hold a team together; between them nobody waits for anybody. */
#define _GNU_SOURCE
#include "team.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { LINE = 128, STACK = 256 << 10 };

struct member {
  struct team *team;
  int number;
  pthread_t thread;
  struct spell spell;
  /* its part of the task */
  int64_t first, units;
  int64_t next __attribute__((aligned(LINE))); /* taken by others too: on a line of the cache of its own */
} __attribute__((aligned(LINE)));

struct team {
  int threads;
  const struct task *task; /* null: go home */
  pthread_barrier_t begin, end;
  struct member members[];
};

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void work(struct member *self) {
  struct team *team = self->team;
  const struct task *task = team->task;
  const int helped = task->shared ? team->threads : 1;
  uint64_t done = 0;
  const int64_t begin = now_ns();
  for (int i = 0; i < helped; i++) {
    struct member *owner = &team->members[(self->number + i) % team->threads];
    const int64_t limit = owner->units * task->passes;
    for (int64_t k; (k = __atomic_fetch_add(&owner->next, 1, __ATOMIC_RELAXED)) < limit;)
      done += task->unit(task, owner->first + k % owner->units);
  }
  self->spell = (struct spell){begin, now_ns(), done};
}

static void *live(void *member) {
  struct team *team = ((struct member *)member)->team;
  for (;;) {
    pthread_barrier_wait(&team->begin);
    if (team->task == NULL) return NULL;
    work(member);
    pthread_barrier_wait(&team->end);
  }
}

struct team *team_gather(int threads) {
  const size_t size = sizeof(struct team) + (size_t)threads * sizeof(struct member);
  struct team *team = aligned_alloc(LINE, (size + LINE - 1) / LINE * LINE);
  pthread_attr_t attributes;
  int error = team == NULL ? ENOMEM : pthread_attr_init(&attributes);
  if (error == 0) {
    pthread_attr_setstacksize(&attributes, STACK);
    team->threads = threads;
    pthread_barrier_init(&team->begin, NULL, (unsigned)threads);
    pthread_barrier_init(&team->end, NULL, (unsigned)threads);
    team->members[0] = (struct member){.team = team};
    for (int i = 1; i < threads && error == 0; i++) {
      team->members[i] = (struct member){.team = team, .number = i};
      error = pthread_create(&team->members[i].thread, &attributes, live, &team->members[i]);
    }
    pthread_attr_destroy(&attributes);
  }
  errno = error;
  return error == 0 ? team : NULL;
}

struct spell team_do(struct team *team, const struct task *task) {
  team->task = task;
  for (int i = 0; i < team->threads; i++) {
    struct member *member = &team->members[i];
    member->first = task->units * i / team->threads;
    member->units = task->units * (i + 1) / team->threads - member->first;
    member->next = 0;
  }
  pthread_barrier_wait(&team->begin);
  work(&team->members[0]);
  pthread_barrier_wait(&team->end);
  struct spell all = team->members[0].spell;
  for (int i = 1; i < team->threads; i++) {
    const struct spell one = team->members[i].spell;
    if (one.begin < all.begin) all.begin = one.begin;
    if (one.end > all.end) all.end = one.end;
    all.done += one.done;
  }
  return all;
}

void team_dismiss(struct team *team) {
  team->task = NULL;
  pthread_barrier_wait(&team->begin);
  for (int i = 1; i < team->threads; i++) pthread_join(team->members[i].thread, NULL);
  pthread_barrier_destroy(&team->begin);
  pthread_barrier_destroy(&team->end);
  free(team);
}
