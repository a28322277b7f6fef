/* Verbs that do next to nothing, or one thing evenly: what idle power and the two clocks are measured with.
 *
 * rest MS : sleeps. An engine for measuring a device that does nothing.
 * burn MS ON_MS OFF_MS : keeps one core busy for ON_MS, then sleeps OFF_MS, and so on from the start's own grid; a
 *     pulse is a step in the events that MELT_EVENTS names.
 * clock : for every byte of stdin one line with CLOCK_MONOTONIC in ns, at once; a host maps its clock by it. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t MS = 1000000;

int rest(int64_t length_ms) {
    sleep_until_ns(now_ns() + length_ms * MS);
    return EXIT_FINE;
}

static bool tell_step(int fd, const char *name, int64_t number) {
    char line[96];
    int n = snprintf(line, sizeof line, "{\"t\":%lld,\"ev\":\"%s\",\"i\":%lld}\n", (long long)now_ns(), name, (long long)number);
    return fd < 0 || write(fd, line, (size_t)n) == n;
}

int burn(int64_t length_ms, int64_t on_ms, int64_t off_ms) {
    const char *path = getenv("MELT_EVENTS");
    int fd = path && *path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (path && *path && fd < 0) return say("%s: %s", path, strerror(errno)), EXIT_FAILED;
    int64_t start = now_ns(), end = start + length_ms * MS;
    volatile uint64_t x = 1; /* Knuth's generator: every bit of it keeps changing, so the power stays the same */
    for (int64_t i = 0, on; (on = start + i * (on_ms + off_ms) * MS) < end; i++) {
        int64_t off = on + on_ms * MS < end ? on + on_ms * MS : end;
        sleep_until_ns(on);
        if (!tell_step(fd, "step.begin", i)) return say("%s: %s", path, strerror(errno)), EXIT_FAILED;
        while (now_ns() < off)
            for (int n = 0; n < 1000; n++) x = x * 6364136223846793005u + 1442695040888963407u;
        if (!tell_step(fd, "step.end", i)) return say("%s: %s", path, strerror(errno)), EXIT_FAILED;
    }
    sleep_until_ns(end);
    return EXIT_FINE;
}

int tell_clock(void) {
    char asked[64], lines[64 * 24];
    for (ssize_t n; (n = read(STDIN_FILENO, asked, sizeof asked)) != 0;) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return say("clock: %s", strerror(errno)), EXIT_FAILED;
        size_t used = 0;
        for (ssize_t i = 0; i < n; i++) used += (size_t)snprintf(lines + used, 24, "%lld\n", (long long)now_ns());
        for (size_t done = 0; done < used;) {
            ssize_t put = write(STDOUT_FILENO, lines + done, used - done);
            if (put < 0 && errno != EINTR) return EXIT_FAILED; /* nobody listens any more */
            if (put > 0) done += (size_t)put;
        }
    }
    return EXIT_FINE;
}
