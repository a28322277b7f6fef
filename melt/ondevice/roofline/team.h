/* Threads that share out the units of a task. */
#ifndef MELT_ROOFLINE_TEAM_H
#define MELT_ROOFLINE_TEAM_H

#include <stdbool.h>
#include <stdint.h>

struct task {
  uint64_t (*unit)(const struct task *task, int64_t number); /* does a unit, and tells how much that was */
  const void *what;
  int64_t units;  /* numbered from 0; each member has an equal part of them as its own */
  int64_t passes; /* how often each is done */
  bool shared;    /* whether a member whose part is done helps the others: a slow core then holds up nobody */
};

struct spell {
  int64_t begin, end; /* CLOCK_MONOTONIC, ns: the first member's begin and the last one's end */
  uint64_t done;      /* what the units told, together */
};

struct team;

/* The caller and `threads` - 1 more. Null, with errno set, where the system does not give so many. */
struct team *team_gather(int threads);
struct spell team_do(struct team *team, const struct task *task);
void team_dismiss(struct team *team);

#endif
