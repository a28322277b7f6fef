/* Sensors at absolute deadlines into trace.csv.
 *
 * One thread reads all files: twenty threads would cost more than the reading. A read can hang for ever (some boards'
 * hwmon and thermal files do), so the job's main loop looks at how long the thread has been inside one read; when it is too
 * long, that sensor is given up and a fresh thread goes on with the others. The stuck one ends by itself if it ever
 * comes back. Commands have a thread each, for they are few and slow.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, THREAD_STACK = 256 * 1024, ONE_READ = 2048 };

typedef struct {
    int fds[MAX_FILES];
    int64_t due_ns;
    bool given_up;
} FileState;

static const Plan *plan;
static FileState files[MAX_SENSORS];
static pthread_mutex_t trace_mutex = PTHREAD_MUTEX_INITIALIZER;
static int trace_fd = -1;
static char buffer[BUFFER];
static size_t buffered;
static off_t trace_bytes; /* written, in whole rows */
static bool trace_closed; /* at the end of the job, or when the disk is full */
static int64_t flushed_ns;

/* Held while the file thread goes into and comes out of a read, and while it is replaced: `files` belongs to the current
 * thread, which is the one whose number `generation` is. */
static pthread_mutex_t hand_over = PTHREAD_MUTEX_INITIALIZER;
static atomic_int generation;
static int reading = -1; /* the sensor that it is inside of */
static int64_t reading_since_ns;
static atomic_bool stopping;
static atomic_llong missed, samples;
static atomic_int hung;
static atomic_int ceiling_sensor = -1;
static double ceiling_values[MAX_SENSORS];

static void flush_locked(void) {
    size_t done = 0;
    while (done < buffered && !trace_closed) {
        ssize_t n = write(trace_fd, buffer + done, buffered - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            say("trace.csv: %s; %zu bytes of samples are lost", strerror(errno), buffered - done);
            while (done && buffer[done - 1] != '\n') done--; /* a row cut short would run into the next one */
            if (ftruncate(trace_fd, trace_bytes + (off_t)done)) say("trace.csv: %s", strerror(errno));
            trace_closed = true; /* what is left of the disk is for the events and the status */
            break;
        }
        done += (size_t)n;
    }
    trace_bytes += (off_t)done;
    buffered = 0;
    flushed_ns = now_ns();
}

/* Writing decimal digits by hand halves the agent's cost: three numbers a row, a thousand rows a second. */
static size_t put_number(char *out, int64_t value) {
    char digits[24];
    size_t n = 0, used = 0;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    if (value < 0) out[used++] = '-';
    do digits[n++] = (char)('0' + rest % 10);
    while (rest /= 10);
    while (n) out[used++] = digits[--n];
    return used;
}

/* A text without the line ends and NULs at its end. */
static size_t without_end(const char *raw, size_t n) {
    while (n && (raw[n - 1] == '\n' || raw[n - 1] == '\0')) n--;
    return n;
}

/* The text as read, on one line: a backslash before a backslash, \n for a line end, \xHH for what is not printable. */
static size_t put_raw(char *out, const char *raw, size_t n) {
    size_t used = 0;
    out[used++] = '"';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)raw[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            out[used++] = (char)c;
        } else if (c == '"') {
            out[used++] = '"';
            out[used++] = '"';
        } else if (c == '\\') {
            out[used++] = '\\';
            out[used++] = '\\';
        } else if (c == '\n') {
            out[used++] = '\\';
            out[used++] = 'n';
        } else {
            static const char digit[] = "0123456789abcdef";
            out[used++] = '\\';
            out[used++] = 'x';
            out[used++] = digit[c >> 4];
            out[used++] = digit[c & 15];
        }
    }
    out[used++] = '"';
    return used;
}

void sampler_row(const char *sensor, int64_t due_ns, int64_t t_ns, int64_t read_ns, const char *error,
                 const char *raw, size_t n) {
    size_t need = 4 * n + 256;
    pthread_mutex_lock(&trace_mutex);
    if (trace_closed) {
        pthread_mutex_unlock(&trace_mutex);
        return;
    }
    if (buffered + need > BUFFER) flush_locked();
    char *out = buffer + buffered;
    size_t used = put_number(out, due_ns);
    out[used++] = ',';
    used += put_number(out + used, t_ns);
    out[used++] = ',';
    used += put_number(out + used, read_ns);
    out[used++] = ',';
    size_t name = strlen(sensor);
    memcpy(out + used, sensor, name);
    used += name;
    out[used++] = ',';
    if (error) {
        size_t length = strlen(error);
        memcpy(out + used, error, length);
        used += length;
    }
    out[used++] = ',';
    if (!error) used += put_raw(out + used, raw, n);
    out[used++] = '\n';
    buffered += used;
    atomic_fetch_add(&samples, 1);
    pthread_mutex_unlock(&trace_mutex);
}

static void check_ceiling(int index, const char *raw) {
    const Sensor *s = &plan->sensors[index];
    if (!s->has_ceiling) return;
    char *end;
    double value = strtod(raw, &end);
    if (end == raw || !isfinite(value) || value < s->ceiling || atomic_load(&ceiling_sensor) >= 0) return;
    int none = -1;
    ceiling_values[index] = value; /* written by this sensor's own thread alone, before the index is published */
    atomic_compare_exchange_strong(&ceiling_sensor, &none, index);
}

const char *sampler_ceiling(double *value) {
    int index = atomic_load(&ceiling_sensor);
    if (index < 0) return NULL;
    *value = ceiling_values[index];
    return plan->sensors[index].name;
}

/* The next deadline on the sensor's own grid that is not yet past; those skipped are counted. */
static int64_t next_due(int64_t due_ns, int64_t period_ns, int64_t t_ns) {
    due_ns += period_ns;
    if (due_ns < t_ns) {
        int64_t late = (t_ns - due_ns) / period_ns;
        if (late > 0) {
            atomic_fetch_add(&missed, late);
            due_ns += late * period_ns;
        }
    }
    return due_ns;
}

/* Many files of /proc give one page a read, whatever is asked for; those of sysfs that matter are far shorter than one. */
static ssize_t read_all(int fd, char *raw, size_t room) {
    size_t used = 0;
    ssize_t n = pread(fd, raw, room, 0);
    if (n < 0 && errno == ESPIPE) return read(fd, raw, room);
    if (n < ONE_READ) return n;
    for (used = (size_t)n; used < room && (n = pread(fd, raw + used, room - used, (off_t)used)) > 0;) used += (size_t)n;
    return (ssize_t)used;
}

/* As root where the sensor says so and the agent was started so; everything else that this thread opens is the user's. */
static int open_sensor(const char *path, bool as_root) {
    if (as_root) files_as_root();
    int fd = open(path, O_RDONLY | O_CLOEXEC), error = errno;
    if (as_root && !files_as_user(&plan->user)) {
        if (fd >= 0) close(fd);
        return -1;
    }
    errno = error;
    return fd;
}

/* Reads one file from its begin. A held file that fails may only be stale: it is opened anew once. */
static ssize_t read_held(const char *path, bool as_root, int *fd, char *raw, size_t room) {
    bool held = *fd >= 0;
    for (;;) {
        if (*fd < 0) *fd = open_sensor(path, as_root);
        ssize_t n = *fd < 0 ? -1 : read_all(*fd, raw, room);
        if (n >= 0) return n;
        int error = errno;
        if (*fd >= 0) close(*fd);
        *fd = -1;
        errno = error;
        if (!held) return -1;
        held = false;
    }
}

/* Reads the files of one sensor; false when this thread was given up meanwhile and has to end. */
static bool read_sensor(int index, int my_generation) {
    const Sensor *s = &plan->sensors[index];
    FileState *f = &files[index];
    char raw[MAX_RAW + 1];
    int fds[MAX_FILES];
    int64_t due_ns = f->due_ns, began = now_ns();
    memcpy(fds, f->fds, sizeof fds);
    pthread_mutex_lock(&hand_over);
    reading_since_ns = began;
    reading = index;
    pthread_mutex_unlock(&hand_over);
    size_t used = 0;
    int error = 0;
    for (int i = 0; i < s->n_paths && !error; i++) {
        if (i && used < MAX_RAW) raw[used++] = '\n';
        ssize_t n = read_held(s->paths[i], s->as_root, &fds[i], raw + used, MAX_RAW - used);
        if (n < 0) error = errno;
        else used += without_end(raw + used, (size_t)n);
    }
    int64_t ended = now_ns();
    pthread_mutex_lock(&hand_over);
    bool wanted = atomic_load(&generation) == my_generation;
    if (wanted) reading = -1;
    pthread_mutex_unlock(&hand_over);
    for (int i = 0; i < s->n_paths; i++)
        if (fds[i] >= 0 && (s->reopen || !wanted)) {
            close(fds[i]);
            fds[i] = -1;
        }
    if (!wanted) return false;
    memcpy(f->fds, fds, sizeof fds);
    f->due_ns = next_due(due_ns, s->period_ns, ended);
    if (error) {
        sampler_row(s->name, due_ns, began, ended - began, error_word(error), NULL, 0);
    } else {
        raw[used] = '\0';
        sampler_row(s->name, due_ns, began + (ended - began) / 2, ended - began, NULL, raw, used);
        check_ceiling(index, raw);
    }
    return true;
}

static void *file_thread(void *argument) {
    int my_generation = (int)(intptr_t)argument;
    while (!atomic_load(&stopping)) {
        int64_t soonest = INT64_MAX;
        for (int i = 0; i < plan->n_sensors; i++)
            if (!plan->sensors[i].is_command && !files[i].given_up && files[i].due_ns < soonest) soonest = files[i].due_ns;
        if (soonest == INT64_MAX) break;
        sleep_until_ns(soonest);
        for (int i = 0; i < plan->n_sensors; i++) {
            FileState *f = &files[i];
            if (plan->sensors[i].is_command || f->given_up || f->due_ns > soonest) continue;
            if (!read_sensor(i, my_generation)) return NULL;
        }
    }
    return NULL;
}

static void *command_thread(void *argument) {
    int index = (int)(intptr_t)argument;
    const Sensor *s = &plan->sensors[index];
    const Command command = {.argv = s->argv, .limit_ns = s->timeout_ns, .user = &plan->user};
    int64_t due = files[index].due_ns;
    char *raw = malloc(MAX_RAW + 1);
    while (raw && !atomic_load(&stopping)) {
        sleep_until_ns(due);
        if (atomic_load(&stopping)) break;
        size_t n;
        int code;
        int64_t began = now_ns();
        const char *error = bounded_command(&command, raw, MAX_RAW, &n, &code);
        int64_t took = now_ns() - began;
        raw[n] = '\0';
        if (atomic_load(&stopping)) break;
        sampler_row(s->name, due, error ? began : began + took / 2, took, error, raw, without_end(raw, n));
        if (!error) check_ceiling(index, raw);
        due = next_due(due, s->period_ns, now_ns());
    }
    free(raw);
    return NULL;
}

static bool spawn(void *(*body)(void *), int argument) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool fine = pthread_create(&thread, &attributes, body, (void *)(intptr_t)argument) == 0;
    pthread_attr_destroy(&attributes);
    return fine;
}

bool sampler_begin(const Plan *the_plan, const char *job_dir, int64_t start_ns) {
    plan = the_plan;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/trace.csv", job_dir);
    trace_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0644);
    if (trace_fd < 0) return false;
    static const char header[] = "due_ns,t_ns,read_ns,sensor,error,value\n";
    if (write(trace_fd, header, sizeof header - 1) != sizeof header - 1) return false;
    trace_bytes = sizeof header - 1;
    flushed_ns = now_ns();
    bool any_file = false;
    for (int i = 0; i < plan->n_sensors; i++) {
        files[i] = (FileState){.due_ns = start_ns};
        memset(files[i].fds, -1, sizeof files[i].fds);
        any_file |= !plan->sensors[i].is_command;
    }
    for (int i = 0; i < plan->n_sensors; i++)
        if (plan->sensors[i].is_command && !spawn(command_thread, i)) return false;
    return !any_file || spawn(file_thread, atomic_load(&generation));
}

void sampler_watch(int64_t t_ns) {
    pthread_mutex_lock(&hand_over);
    int index = reading;
    int64_t since = reading_since_ns;
    bool stuck = index >= 0 && t_ns - since > plan->sensors[index].timeout_ns;
    if (stuck) {
        files[index].given_up = true; /* the stuck thread owns its descriptors from now on */
        atomic_fetch_add(&generation, 1);
        reading = -1;
    }
    pthread_mutex_unlock(&hand_over);
    if (stuck) {
        atomic_fetch_add(&hung, 1);
        sampler_row(plan->sensors[index].name, files[index].due_ns, since, t_ns - since, "hangs", NULL, 0);
        event("agent.sensor", "\"sensor\":\"%s\",\"error\":\"hangs\"", plan->sensors[index].name);
        spawn(file_thread, atomic_load(&generation));
    }
    pthread_mutex_lock(&trace_mutex);
    if (buffered && t_ns - flushed_ns > 500000000) flush_locked();
    pthread_mutex_unlock(&trace_mutex);
}

SamplerCounts sampler_end(void) {
    atomic_store(&stopping, true);
    pthread_mutex_lock(&trace_mutex);
    flush_locked();
    trace_closed = true;
    fsync(trace_fd);
    pthread_mutex_unlock(&trace_mutex);
    return (SamplerCounts){atomic_load(&missed), atomic_load(&samples), atomic_load(&hung)};
}
