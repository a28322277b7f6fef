#define _GNU_SOURCE
#include "machine.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CPUS = 4096, LEVELS = 10 };

/* The first line of a file; false where it cannot be read. */
static bool first_line(const char *path, char *line, int room) {
  FILE *file = fopen(path, "re");
  bool read = file != NULL && fgets(line, room, file) != NULL;
  if (file != NULL) fclose(file);
  return read;
}

static int64_t available_bytes(void) {
  char line[256];
  long long kb = -1;
  FILE *file = fopen("/proc/meminfo", "re");
  while (file != NULL && kb < 0 && fgets(line, sizeof line, file) != NULL) sscanf(line, "MemAvailable: %lld", &kb);
  if (file != NULL) fclose(file);
  return kb < 0 ? -1 : kb * 1024;
}

/* Whether a list such as 0-3,8 holds one of the CPUs below `cpu`: then its cache was counted there. */
static bool counted(const char *list, int cpu, const cpu_set_t *ours, size_t size) {
  for (const char *p = list; *p >= '0' && *p <= '9';) {
    char *end;
    const long from = strtol(p, &end, 10), to = *end == '-' ? strtol(end + 1, &end, 10) : from;
    for (long i = from; i <= to && i < cpu; i++)
      if (CPU_ISSET_S((size_t)i, size, ours)) return true;
    p = *end == ',' ? end + 1 : end;
  }
  return false;
}

/* What the cache of the highest level adds that this CPU has, 0 where it was counted, -1 where nothing is known. */
static int64_t last_cache_bytes(int cpu, const cpu_set_t *ours, size_t size) {
  int64_t bytes = -1;
  long highest = 0;
  for (int i = 0; i < LEVELS; i++) {
    char path[128], line[4096], *unit;
    const char *const format = "/sys/devices/system/cpu/cpu%d/cache/index%d/%s";
    snprintf(path, sizeof path, format, cpu, i, "level");
    if (!first_line(path, line, sizeof line)) break;
    const long level = strtol(line, NULL, 10);
    snprintf(path, sizeof path, format, cpu, i, "size");
    if (level <= highest || !first_line(path, line, sizeof line)) continue;
    const long long number = strtoll(line, &unit, 10);
    highest = level;
    bytes = number << (*unit == 'K' ? 10 : *unit == 'M' ? 20 : 0);
    snprintf(path, sizeof path, format, cpu, i, "shared_cpu_list");
    if (first_line(path, line, sizeof line) && counted(line, cpu, ours, size)) bytes = 0;
  }
  return bytes;
}

struct machine look_at_machine(void) {
  struct machine found = {1, available_bytes(), -1};
  cpu_set_t *ours = CPU_ALLOC(CPUS);
  const size_t size = CPU_ALLOC_SIZE(CPUS);
  if (ours == NULL || sched_getaffinity(0, size, ours) != 0) return found;
  found.cpus = CPU_COUNT_S(size, ours);
  for (int cpu = 0; cpu < CPUS; cpu++) {
    if (!CPU_ISSET_S((size_t)cpu, size, ours)) continue;
    const int64_t bytes = last_cache_bytes(cpu, ours, size);
    if (bytes >= 0) found.cache_bytes = (found.cache_bytes < 0 ? 0 : found.cache_bytes) + bytes;
  }
  CPU_FREE(ours);
  return found;
}
