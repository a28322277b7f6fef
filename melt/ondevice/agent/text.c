/* Text in and out: escaping, JSON event lines, files written whole, the clocks. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int events_fd = -1;

int64_t clock_ns(int clock_id) {
    struct timespec t;
    clock_gettime(clock_id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

void sleep_until_ns(int64_t deadline_ns) {
    struct timespec t = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) { }
}

/* Bytes as the inside of a JSON string; every byte above 0x7e becomes the code point of the same number, so that
 * the host gets the very bytes back by encoding as Latin-1. */
size_t escape_json(char *out, size_t room, const char *bytes, size_t n) {
    size_t used = 0;
    for (size_t i = 0; i < n && used + 7 < room; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\') {
            out[used++] = '\\';
            out[used++] = (char)c;
        } else if (c == '\n') {
            out[used++] = '\\';
            out[used++] = 'n';
        } else if (c < 0x20 || c > 0x7e) {
            used += (size_t)sprintf(out + used, "\\u%04x", c);
        } else {
            out[used++] = (char)c;
        }
    }
    out[used] = '\0';
    return used;
}

void event_open(const char *job_dir) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/events.jsonl", job_dir);
    events_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* Whether the file ends within a line: an engine that died there must not swallow the agent's next one. */
static bool is_cut(void) {
    off_t size = lseek(events_fd, 0, SEEK_END);
    char last;
    return size > 0 && pread(events_fd, &last, 1, size - 1) == 1 && last != '\n';
}

/* One write a line: the engine appends to the same file. */
void event(const char *name, const char *format, ...) {
    char line[8192];
    int used = snprintf(line, sizeof line, "{\"t\":%lld,\"ev\":\"%s\"", (long long)now_ns(), name);
    if (format) {
        line[used++] = ',';
        va_list list;
        va_start(list, format);
        int more = vsnprintf(line + used, sizeof line - (size_t)used - 3, format, list);
        va_end(list);
        int room = (int)sizeof line - used - 4;
        used += more < room ? more : room;
    }
    line[used++] = '}';
    line[used++] = '\n';
    if (events_fd < 0) return;
    if (is_cut() && write(events_fd, "\n", 1) != 1) say("events.jsonl: %s", strerror(errno));
    if (write(events_fd, line, (size_t)used) != used) say("events.jsonl: %s", strerror(errno));
}

void event_sync(void) {
    if (events_fd >= 0) fsync(events_fd);
}

bool write_whole(const char *path, const char *text) {
    char temporary[PATH_MAX];
    snprintf(temporary, sizeof temporary, "%s.new", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return false;
    size_t n = strlen(text);
    bool fine = write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    fine = close(fd) == 0 && fine;
    return fine && rename(temporary, path) == 0;
}

ssize_t read_file(const char *path, char *buffer, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    size_t used = 0;
    while (used < room - 1) {
        ssize_t n = read(fd, buffer + used, room - 1 - used);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            int kept = errno;
            close(fd);
            errno = kept;
            return -1;
        }
        if (n == 0) break;
        used += (size_t)n;
    }
    close(fd);
    buffer[used] = '\0';
    return (ssize_t)used;
}

void boot_id(char out[64]) {
    if (read_file("/proc/sys/kernel/random/boot_id", out, 64) < 0) out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

/* The host's words for what stood in the place of an answer. */
const char *error_word(int error_number) {
    switch (error_number) {
        case ENOENT: case ENODEV: case ENXIO: return "missing";
        case EACCES: case EPERM: return "denied";
        case EAGAIN: return "io: EAGAIN";
        case EIO: return "io: EIO";
        case EINVAL: return "io: EINVAL";
        case ENODATA: return "io: ENODATA";
        case EBUSY: return "io: EBUSY";
        case ETIMEDOUT: return "io: ETIMEDOUT";
        case EISDIR: return "io: EISDIR";
        default: return "io";
    }
}

void say(const char *format, ...) {
    char line[2048];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line - 1, format, list);
    va_end(list);
    if (n > (int)sizeof line - 2) n = (int)sizeof line - 2;
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)n) < 0) { /* nobody is left to tell */ }
}
