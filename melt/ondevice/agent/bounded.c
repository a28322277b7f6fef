/* Files and commands of a device that may hang: each is given so long, and no longer.
 *
 * A read or a write that hangs costs its time limit and a thread, and nothing else: the thread ends by itself if the
 * kernel ever lets go of it. A command that hangs is ended, with all that it started in its process group. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int64_t LOOK_NS = 100000000; /* how often a command that says nothing is looked at */
static const int64_t LAST_WORDS_NS = 1000000000; /* how long an ended one's output may stay open */

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool done, left; /* `left`: nobody waits any more, and the thread frees this */
    int error;
    size_t room, used;
    char *path;
    const char *value; /* to be written; NULL: the file is read */
    char data[];       /* room + 1 bytes, and `value` lies there too */
} Task;

static void task_free(Task *task) {
    pthread_mutex_destroy(&task->mutex);
    pthread_cond_destroy(&task->changed);
    free(task->path);
    free(task);
}

static int read_into(Task *task) {
    int error = 0, fd = open(task->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    while (task->used < task->room) {
        ssize_t n = read(fd, task->data + task->used, task->room - task->used);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) error = errno;
        if (n <= 0) break;
        task->used += (size_t)n;
    }
    close(fd);
    return error;
}

/* sysfs takes a value in one write; a regular file (a test's, a board's that is only software) is rewritten in place. */
static int write_from(const Task *task) {
    int fd = open(task->path, O_WRONLY | O_CLOEXEC | O_TRUNC | O_NOCTTY);
    if (fd < 0) return errno;
    ssize_t n = write(fd, task->value, task->room);
    int error = n == (ssize_t)task->room ? 0 : n < 0 ? errno : EIO;
    if (close(fd) && !error) error = errno;
    return error;
}

static void *task_thread(void *argument) {
    Task *task = argument;
    files_as_root();
    int error = task->value ? write_from(task) : read_into(task);
    pthread_mutex_lock(&task->mutex);
    task->error = error;
    task->done = true;
    bool left = task->left;
    pthread_cond_signal(&task->changed);
    pthread_mutex_unlock(&task->mutex);
    if (left) task_free(task);
    return NULL;
}

static Task *task_new(const char *path, size_t room) {
    Task *task = calloc(1, sizeof *task + room + 1);
    if (!task || !(task->path = strdup(path))) {
        free(task);
        return NULL;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&task->mutex, NULL);
    pthread_cond_init(&task->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    task->room = room;
    return task;
}

/* Waits for a task: its error, or HANGS, and then it belongs to its thread. */
static int task_wait(Task *task, int64_t limit_ns) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    int error = pthread_create(&thread, &attributes, task_thread, task);
    pthread_attr_destroy(&attributes);
    if (error) return error;
    int64_t end = now_ns() + limit_ns;
    struct timespec until = {.tv_sec = end / 1000000000, .tv_nsec = end % 1000000000};
    pthread_mutex_lock(&task->mutex);
    int waited = 0;
    while (!task->done && waited != ETIMEDOUT) waited = pthread_cond_timedwait(&task->changed, &task->mutex, &until);
    bool done = task->done;
    error = done ? task->error : HANGS;
    task->left = !done;
    pthread_mutex_unlock(&task->mutex);
    return error;
}

/* Reads a file from its begin, up to `room` bytes and a NUL after them: 0, an errno, or HANGS. */
int bounded_read(const char *path, char *data, size_t room, size_t *n, int64_t limit_ns) {
    *n = 0;
    Task *task = task_new(path, room);
    if (!task) return ENOMEM;
    int error = task_wait(task, limit_ns);
    if (error == HANGS) return error;
    memcpy(data, task->data, task->used);
    data[*n = task->used] = '\0';
    task_free(task);
    return error;
}

int bounded_write(const char *path, const char *line, int64_t limit_ns) {
    size_t n = strlen(line);
    Task *task = task_new(path, n);
    if (!task) return ENOMEM;
    memcpy(task->data, line, n);
    task->value = task->data;
    int error = task_wait(task, limit_ns);
    if (error != HANGS) task_free(task);
    return error;
}

/* In the child, between fork and exec. */
static void become_command(const Command *command, int out) {
    if (command->user) drop_to_user(command->user);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, 0);
    dup2(out, 1);
    dup2(command->complaints ? out : null, 2);
    execvp(command->argv[0], command->argv);
    _exit(127);
}

static bool has_ended(pid_t child) {
    siginfo_t end = {0};
    return waitid(P_PID, (id_t)child, &end, WEXITED | WNOHANG | WNOWAIT) || end.si_pid;
}

/* Runs a command to its end: its output up to `room` bytes, and NULL, or a word for what went wrong. What it leaves behind
 * with its output open is not waited for. */
const char *bounded_command(const Command *command, char *data, size_t room, size_t *length, int *code) {
    int out[2];
    *length = 0;
    *code = -1;
    if (pipe2(out, O_CLOEXEC)) return "io";
    int64_t limit = now_ns() + command->limit_ns;
    bool ended = false;
    pid_t child = fork();
    if (child == 0) become_command(command, out[1]);
    close(out[1]);
    const char *error = child < 0 ? "io" : NULL;
    while (!error) {
        int64_t t = now_ns(), left = limit - t;
        if (left <= 0) {
            error = ended ? NULL : "hangs";
            break;
        }
        if (!ended && has_ended(child)) {
            ended = true;
            if (left > LAST_WORDS_NS) limit = t + (left = LAST_WORDS_NS);
        }
        struct pollfd p = {.fd = out[0], .events = POLLIN};
        if (poll(&p, 1, (int)((!ended && left > LOOK_NS ? LOOK_NS : left) / 1000000) + 1) <= 0) continue;
        if (*length >= room && command->last) memmove(data, data + room / 2, *length = room - room / 2);
        char dropped[512];
        bool full = *length >= room;
        ssize_t n = full ? read(out[0], dropped, sizeof dropped) : read(out[0], data + *length, room - *length);
        if (n <= 0) break;
        if (!full) *length += (size_t)n;
    }
    close(out[0]);
    if (child < 0) return error;
    int status = 0, found = 0;
    siginfo_t end = {0};
    while (!error && (found = waitid(P_PID, (id_t)child, &end, WEXITED | WNOHANG | WNOWAIT)) == 0 && !end.si_pid) {
        if (now_ns() > limit) error = "hangs"; /* output closed, process still there */
        else usleep(1000);
    }
    if (found) return "io"; /* the job's end took it */
    kill(-child, SIGKILL);  /* with what it left behind */
    if (error) kill(child, SIGKILL);
    waitpid(child, &status, 0);
    if (error) return error;
    if (WIFEXITED(status)) *code = WEXITSTATUS(status);
    return *code == 0 ? NULL : *code == 127 ? "missing" : "failed";
}
