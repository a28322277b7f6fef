/* One job, from the lock to the last line of status. Read `carry_out` from top to bottom: it is the life of a run. */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int64_t MS = 1000000;
static const int64_t KILL_GRACE_NS = 1000000000; /* SIGTERM, and a second later SIGKILL */
static const int64_t LEAD_NS = 50000000; /* so that every sensor has been read once before the engine starts */
static const off_t ROOM_BYTES = 65536; /* for the last events and the status, when the engine or the trace fills the disk */
static const rlim_t MAX_OUTPUT_BYTES = 1u << 30; /* an engine that fills the disk is ended by SIGXFSZ */

typedef struct {
    const char *dir, *state, *phase, *why;
    const Plan *plan;
    char boot[64];
    pid_t engine;
    int exit_code, signal;
    bool undone;
    int lock, alive; /* held: the device's lock, and the sign that this agent lives */
    int room;        /* a file without a name, let go of once the engine has ended */
} Job;

static volatile sig_atomic_t asked_to_stop;

static void on_stop(int signal_number) {
    (void)signal_number;
    asked_to_stop = 1;
}

static bool write_status(const Job *job) {
    char path[PATH_MAX], line[1024], exit_text[16] = "null", signal_text[16] = "null";
    if (job->exit_code >= 0) snprintf(exit_text, sizeof exit_text, "%d", job->exit_code);
    if (job->signal > 0) snprintf(signal_text, sizeof signal_text, "%d", job->signal);
    snprintf(path, sizeof path, "%s/status", job->dir);
    snprintf(line, sizeof line,
             "{\"state\":\"%s\",\"phase\":\"%s\",\"run_id\":\"%s\",\"t\":%lld,\"boot_id\":\"%s\",\"agent_pid\":%d,"
             "\"engine_pid\":%d,\"exit\":%s,\"signal\":%s,\"why\":\"%s\",\"undone\":%s}\n",
             job->state, job->phase, job->plan->run_id, (long long)now_ns(), job->boot, (int)getpid(), (int)job->engine,
             exit_text, signal_text, job->why ? job->why : "", job->undone ? "true" : "false");
    bool fine = write_whole(path, line);
    if (!fine) say("status: %s", strerror(errno));
    return fine;
}

static void event_clocks(const char *name, const char *more) {
    event(name, "\"boottime_ns\":%lld,\"realtime_ns\":%lld%s", (long long)clock_ns(CLOCK_BOOTTIME),
          (long long)clock_ns(CLOCK_REALTIME), more);
}

/* How many processes the kernel has killed for want of memory since it started; -1 where it does not say. */
static long long oom_kills(void) {
    static char text[65536];
    if (read_file("/proc/vmstat", text, sizeof text) < 0) return -1;
    const char *found = strstr(text, "\noom_kill ");
    return found ? atoll(found + 10) : -1;
}

static int64_t engine_status_kb(const char *text, const char *key) {
    const char *found = strstr(text, key);
    return found ? atoll(found + strlen(key)) : 0;
}

/* The engine's files in /proc, held open: opening them anew for each sample costs as much as reading them. */
typedef struct {
    int status, stat;
} EngineFiles;

static EngineFiles open_engine_files(pid_t pid) {
    char path[64];
    EngineFiles files;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    files.status = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    files.stat = open(path, O_RDONLY | O_CLOEXEC);
    return files;
}

static bool read_again(int fd, char *text, size_t room) {
    ssize_t n = pread(fd, text, room - 1, 0); /* ESRCH once the process is gone */
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* Samples the engine's memory and CPU time; false when it is over the plan's limit. */
static bool sample_engine(const Plan *plan, EngineFiles files, int64_t due_ns) {
    char text[8192];
    int64_t began = now_ns();
    if (!read_again(files.status, text, sizeof text) || !strstr(text, "VmHWM:")) return true; /* it has just ended */
    int64_t hwm = engine_status_kb(text, "VmHWM:"), anonymous = engine_status_kb(text, "RssAnon:");
    int64_t file = engine_status_kb(text, "RssFile:"), shared = engine_status_kb(text, "RssShmem:");
    int64_t swap = engine_status_kb(text, "VmSwap:");
    long long faults = 0, user = 0, system = 0;
    if (read_again(files.stat, text, sizeof text)) {
        const char *after = strrchr(text, ')'); /* the name may hold anything */
        if (after) sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %lld %*u %lld %lld", &faults, &user, &system);
    }
    int64_t ended = now_ns();
    char row[256];
    int n = snprintf(row, sizeof row, "hwm_kb %lld anon_kb %lld file_kb %lld shmem_kb %lld swap_kb %lld majflt %lld cpu_ticks %lld hz %ld",
                     (long long)hwm, (long long)anonymous, (long long)file, (long long)shared, (long long)swap, faults,
                     user + system, sysconf(_SC_CLK_TCK));
    sampler_row("engine", due_ns, began + (ended - began) / 2, ended - began, NULL, row, (size_t)n);
    return !plan->memory_max_bytes || (uint64_t)(anonymous + shared + swap) * 1024 <= plan->memory_max_bytes;
}

/* Looks at every thread of the engine: the affinity asked for must be the one that all of them have. */
static void verify_affinity(const Plan *plan, pid_t pid) {
    cpu_set_t asked, got;
    if (!plan->cpus || !cpus_parse(plan->cpus, &asked)) return;
    char path[64], list[256] = "";
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    int threads = 0, other = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        pid_t thread = atoi(entry->d_name);
        if (thread <= 0 || sched_getaffinity(thread, sizeof got, &got)) continue;
        threads++;
        if (CPU_EQUAL(&asked, &got)) continue;
        other++;
        size_t used = 0;
        for (int cpu = 0; cpu < CPU_SETSIZE && used < sizeof list - 8; cpu++)
            if (CPU_ISSET(cpu, &got)) used += (size_t)snprintf(list + used, sizeof list - used, used ? ",%d" : "%d", cpu);
    }
    if (dir) closedir(dir);
    if (threads)
        event("agent.affinity", "\"asked\":\"%s\",\"got\":\"%s\",\"threads\":%d,\"ok\":%s", plan->cpus,
              other ? list : plan->cpus, threads, other ? "false" : "true");
}

static int open_output(const char *name) { return open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644); }

/* In the child, between fork and exec. Tells the parent what failed through `report`, which exec closes. */
static void become_engine(const Plan *plan, pid_t agent, int report) {
    struct rlimit size = {MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES}, core = {0, 0};
    sigset_t none;
    cpu_set_t cpus;
    const char *step = "start";
    setpgid(0, 0);
    if (!drop_to_user(&plan->user)) goto failed;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a killed agent leaves no engine behind; becoming a user would lose it */
    if (getppid() != agent) _exit(126); /* it was killed before that */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    setrlimit(RLIMIT_FSIZE, &size);
    setrlimit(RLIMIT_CORE, &core);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), out = open_output("stdout"), err = open_output("stderr");
    if (null < 0 || out < 0 || err < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) goto failed;
    step = "affinity";
    if (plan->cpus && (!cpus_parse(plan->cpus, &cpus) || sched_setaffinity(0, sizeof cpus, &cpus))) goto failed;
    for (char **pair = plan->env; pair && *pair; pair++) putenv(*pair);
    step = plan->engine[0];
    execv(plan->engine[0], plan->engine);
failed:;
    char text[512];
    int n = snprintf(text, sizeof text, "%s: %s", step, strerror(errno));
    if (write(report, text, (size_t)(n < (int)sizeof text ? n : (int)sizeof text - 1)) < 0) _exit(126);
    _exit(127);
}

static bool start_engine(Job *job) {
    int report[2];
    if (pipe2(report, O_CLOEXEC)) return false;
    pid_t agent = getpid(), child = fork();
    if (child == 0) become_engine(job->plan, agent, report[1]);
    close(report[1]);
    char text[512];
    ssize_t n = child > 0 ? read(report[0], text, sizeof text - 1) : -1;
    close(report[0]);
    if (n == 0) {
        job->engine = child;
        event("agent.engine.start", "\"pid\":%d", (int)child);
        return true;
    }
    if (child > 0) waitpid(child, NULL, 0);
    char safe[2048] = "fork failed";
    if (n > 0) escape_json(safe, sizeof safe, text, (size_t)n);
    event("error", "\"kind\":\"start\",\"message\":\"%s\"", safe);
    job->exit_code = 127;
    return false;
}

static pid_t parent_of(pid_t pid) {
    char path[64], text[1024];
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    const char *after = read_file(path, text, sizeof text) > 0 ? strrchr(text, ')') : NULL;
    return after && sscanf(after + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

/* Ends every process below this one: as a subreaper the agent inherits those whose parents are gone, one generation a
 * round. Not every kernel lists a process's children, so all are looked at; usually there is none and none is. */
static void kill_descendants(void) {
    for (int64_t limit = now_ns() + KILL_GRACE_NS; now_ns() < limit; usleep(2000)) {
        pid_t ended;
        while ((ended = waitpid(-1, NULL, WNOHANG)) > 0) { }
        if (ended < 0) return;
        DIR *dir = opendir("/proc");
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
            pid_t pid = atoi(entry->d_name);
            if (pid > 0 && parent_of(pid) == getpid()) kill(pid, SIGKILL);
        }
        if (dir) closedir(dir);
    }
}

/* To the engine's group, and to the engine should it have left that group. */
static void signal_engine(const Job *job, int signal_number) {
    if (kill(-job->engine, signal_number) || getpgid(job->engine) != job->engine) kill(job->engine, signal_number);
}

/* Waits for the engine while watching time, memory, heat and requests to stop. */
static void watch_engine(Job *job) {
    const Plan *plan = job->plan;
    int64_t began = now_ns(), limit = began + plan->wall_ns, kill_at = INT64_MAX, memory_due = began;
    int64_t affinity_due = began + 20 * MS; /* early for a short run, and again once the engine has made its threads */
    long long kills_before = oom_kills();
    const EngineFiles files = open_engine_files(job->engine);
    int status = 0;
    struct rusage use = {0};
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    for (;;) {
        pid_t ended = wait4(job->engine, &status, WNOHANG, &use);
        if (ended == job->engine || (ended < 0 && errno == ECHILD)) break;
        int64_t t = now_ns();
        sampler_watch(t);
        double value;
        const char *hot = sampler_ceiling(&value);
        const char *why = NULL;
        if (plan->memory_period_ns && t >= memory_due) {
            if (!sample_engine(plan, files, memory_due)) why = "memory";
            while (memory_due <= t) memory_due += plan->memory_period_ns;
        }
        if (t >= affinity_due) {
            verify_affinity(plan, job->engine);
            affinity_due = t + (t - began < 200 * MS ? 250 * MS : 5000 * MS);
        }
        if (asked_to_stop) why = "stop";
        if (hot) why = "ceiling";
        if (t >= limit) why = "wall";
        if (why && !job->why) {
            job->why = why;
            if (hot && !strcmp(why, "ceiling"))
                event("agent.kill", "\"why\":\"ceiling\",\"sensor\":\"%s\",\"value\":%.0f", hot, value);
            else event("agent.kill", "\"why\":\"%s\"", why);
            signal_engine(job, SIGTERM);
            kill_at = t + KILL_GRACE_NS;
        }
        if (t >= kill_at) {
            signal_engine(job, SIGKILL);
            kill_at = t + KILL_GRACE_NS;
        }
        int64_t wake = t + 100 * MS;
        if (plan->memory_period_ns && memory_due < wake) wake = memory_due;
        if (!job->why && limit < wake) wake = limit;
        if (kill_at < wake) wake = kill_at;
        if (affinity_due < wake) wake = affinity_due;
        int64_t left = wake > t ? wake - t : 0;
        struct timespec pause = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
        sigtimedwait(&children, NULL, &pause); /* SIGCHLD ends the pause at once; SIGTERM through its handler too */
    }
    kill(-job->engine, SIGKILL); /* what the engine left in its group */
    close(job->room);
    if (WIFEXITED(status)) job->exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) job->signal = WTERMSIG(status);
    long long kills = oom_kills();
    char exit_text[16] = "null", signal_text[16] = "null";
    if (job->exit_code >= 0) snprintf(exit_text, sizeof exit_text, "%d", job->exit_code);
    if (job->signal > 0) snprintf(signal_text, sizeof signal_text, "%d", job->signal);
    event("agent.engine.end",
          "\"exit\":%s,\"signal\":%s,\"maxrss_kb\":%ld,\"majflt\":%ld,\"utime_ns\":%lld,\"stime_ns\":%lld,\"oom_kills\":%lld",
          exit_text, signal_text, use.ru_maxrss, use.ru_majflt,
          (long long)use.ru_utime.tv_sec * 1000000000 + use.ru_utime.tv_usec * 1000LL,
          (long long)use.ru_stime.tv_sec * 1000000000 + use.ru_stime.tv_usec * 1000LL,
          kills < 0 || kills_before < 0 ? -1 : kills - kills_before);
}

static void idle_window(Job *job) {
    if (!job->plan->idle_ns) return;
    event("agent.idle.begin", NULL);
    int64_t end = now_ns() + job->plan->idle_ns;
    for (int64_t t; (t = now_ns()) < end && !asked_to_stop;) {
        sampler_watch(t);
        sleep_until_ns(t + 100 * MS < end ? t + 100 * MS : end);
    }
    event("agent.idle.end", NULL);
}

static void carry_out(Job *job) {
    job->state = "running";
    job->phase = "state";
    write_status(job);
    char boot[96];
    snprintf(boot, sizeof boot, ",\"boot_id\":\"%s\"", job->boot);
    event_clocks("agent.begin", boot);
    int64_t cpu_before = clock_ns(CLOCK_PROCESS_CPUTIME_ID), began = now_ns();
    bool ready = state_apply(job->plan, job->dir);
    if (!ready) event("error", "\"kind\":\"start\",\"message\":\"the undo journal could not be written\"");
    if (ready && !sampler_begin(job->plan, job->dir, now_ns() + 5 * MS)) {
        event("error", "\"kind\":\"start\",\"message\":\"the sampler could not start\"");
        ready = false;
    }
    if (ready) {
        job->phase = "idle";
        write_status(job);
        idle_window(job);
        sleep_until_ns(now_ns() + LEAD_NS);
        job->phase = "engine";
        if (!asked_to_stop && start_engine(job)) {
            write_status(job);
            watch_engine(job);
        } else if (asked_to_stop) {
            job->why = "stop";
            event("agent.kill", "\"why\":\"stop\"");
        }
    } else {
        job->exit_code = 127;
    }
    SamplerCounts counts = sampler_end();
    int64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_before, wall = now_ns() - began;
    kill_descendants();
    if (ready) state_held(); /* what somebody else changed meanwhile, before it is put back */
    job->phase = "undo";
    job->undone = state_restore(job->dir);
    char more[256];
    snprintf(more, sizeof more, ",\"cpu_ns\":%lld,\"wall_ns\":%lld,\"missed\":%lld,\"samples\":%lld,\"hung\":%d,\"undone\":%s",
             (long long)cpu, (long long)wall, (long long)counts.missed, (long long)counts.samples, counts.hung,
             job->undone ? "true" : "false");
    event_clocks("agent.end", more);
    event_sync();
    job->state = "done";
    job->phase = "done";
    state_unlock();
    close(job->lock); /* who reads that this job is done may start the next; a thread that hangs may hold the rest for long */
    write_status(job);
    close(job->alive);
}

/* Holds disk space for what must be said at the end; -1 when there is none. */
static int hold_room(void) {
    int fd = open("room", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    unlink("room");
    if ((errno = posix_fallocate(fd, 0, ROOM_BYTES)) == ENOSPC) {
        close(fd);
        return -1;
    }
    return fd; /* a file system that cannot do it is trusted to have space */
}

/* Takes the device lock (-3: this very job holds it), or says who does. The lock dies with its holder; the text in it is only for people. */
static int take_lock(const Plan *plan) {
    int fd = open(plan->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        say("lock: %s: %s", plan->lock_path, strerror(errno));
        return -1;
    }
    for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB); tries++) {
        char owner[256] = "";
        ssize_t n = pread(fd, owner, sizeof owner - 1, 0);
        owner[n > 0 ? n : 0] = '\0';
        owner[strcspn(owner, "\n")] = '\0';
        bool is_this = !strcmp(owner, plan->run_id);
        if (!is_this && tries < 10) { /* it may have been taken just now, and bear no name or an old one */
            usleep(20000);
            continue;
        }
        close(fd);
        if (is_this) return -3;
        say("locked by %s", owner);
        return -2;
    }
    char text[192];
    int n = snprintf(text, sizeof text, "%s\n", plan->run_id);
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n) {
        say("lock: %s: %s", plan->lock_path, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

/* A file that the starter left open (a link's socket, a pipe's end) must not stay open for as long as the job lives. */
static void drop_inherited_files(void) {
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        int fd = atoi(entry->d_name);
        if (fd > STDERR_FILENO && fd != dirfd(dir)) close(fd);
    }
    if (dir) closedir(dir);
}

static bool sets_something(const Plan *plan) {
    for (int i = 0; i < plan->n_sets; i++)
        if (!plan->sets[i].why) return true;
    return false;
}

int job_start(const char *job_dir) {
    static Plan plan;
    char path[PATH_MAX], full[PATH_MAX];
    if (!realpath(job_dir, full) || chdir(full)) {
        say("%s: %s", job_dir, strerror(errno));
        return EXIT_USAGE;
    }
    if (strlen(full) > PATH_MAX - 64) {
        say("%s: %s", full, strerror(ENAMETOOLONG));
        return EXIT_USAGE;
    }
    drop_inherited_files();
    snprintf(path, sizeof path, "%s/plan", full);
    if (!plan_read(path, &plan)) return EXIT_USAGE;
    if (!files_as_user(&plan.user)) {
        say("user %d: %s", (int)plan.user.uid, strerror(errno));
        return EXIT_FAILED;
    }
    /* A host whose link was cut may ask twice: a job is carried out once. */
    snprintf(path, sizeof path, "%s/status", full);
    int lock = access(path, F_OK) == 0 ? -3 : take_lock(&plan);
    if (lock == -3 || (lock >= 0 && access(path, F_OK) == 0)) { /* or it ran and ended just before the lock was taken */
        say("already started");
        return EXIT_FINE;
    }
    if (lock < 0) return lock == -2 ? EXIT_LOCKED : EXIT_FAILED;
    if (sets_something(&plan) && !state_lock(plan.whole)) {
        say("locked by a job of another work folder, which holds values of the device");
        return EXIT_LOCKED;
    }
    snprintf(path, sizeof path, "%s/alive", full);
    int alive = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (alive < 0 || flock(alive, LOCK_EX | LOCK_NB)) {
        say("%s: %s", path, strerror(errno));
        return EXIT_FAILED;
    }
    int room = hold_room();
    if (room < 0) {
        say("%s: %s", full, strerror(errno));
        return EXIT_FAILED;
    }
    int ready[2];
    if (pipe2(ready, O_CLOEXEC)) return EXIT_FAILED;
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) return EXIT_FAILED;
    if (child > 0) {
        close(ready[1]);
        char done;
        return read(ready[0], &done, 1) == 1 ? EXIT_FINE : EXIT_FAILED;
    }
    setsid();
    if (fork() != 0) _exit(0); /* not a session leader: no terminal can be acquired */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "melt-agent");
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log = open("agent.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (null < 0 || log < 0) {
        say("agent.log: %s", strerror(errno));
        _exit(EXIT_FAILED);
    }
    struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_RESTART}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGHUP, &ignore, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    signal(SIGCHLD, SIG_DFL); /* ignored by whoever started us, it would lose the engine's exit code */
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_SETMASK, &children, NULL);
    event_open(full);
    char *slash = strrchr(full, '/');
    if (slash) {
        char jobs[PATH_MAX];
        snprintf(jobs, sizeof jobs, "%.*s", (int)(slash - full), full);
        int left = state_restore_leftovers(jobs, slash + 1, plan.whole);
        if (left) event("agent.leftover", "\"journals\":%d", left);
    }
    static Job job = {.exit_code = -1};
    job.lock = lock;
    job.alive = alive;
    job.room = room;
    job.dir = full;
    job.plan = &plan;
    boot_id(job.boot);
    job.state = "running";
    job.phase = "start";
    if (!write_status(&job)) _exit(EXIT_FAILED); /* a full disk: nobody could follow the job */
    if (write(ready[1], "1", 1) != 1) say("nobody waits for the start");
    close(ready[1]);
    dup2(null, 0);
    dup2(null, 1);
    dup2(log, 2);
    carry_out(&job);
    _exit(0); /* a thread may hang in a read for ever: do not wait for it */
}

/* Whether the agent of this job lives: it holds a lock on `alive` for as long as it does. */
static bool is_alive(const char *job_dir) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/alive", job_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool alive = flock(fd, LOCK_SH | LOCK_NB) != 0; /* shared: two who ask at once do not take each other for the agent */
    close(fd);
    return alive;
}

/* Prints `status` whenever it changes, until the job is done or its agent is gone; an empty line every 2 s says that the watcher lives. */
int job_watch(const char *job_dir) {
    char path[PATH_MAX], text[2048], last[2048] = "";
    snprintf(path, sizeof path, "%s/status", job_dir);
    int notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (notify >= 0) inotify_add_watch(notify, job_dir, IN_MOVED_TO); /* without one it is looked at four times a second */
    if (access(job_dir, F_OK)) {
        say("%s: %s", job_dir, strerror(errno));
        return errno == ENOENT || errno == ENOTDIR ? EXIT_USAGE : EXIT_FAILED;
    }
    int64_t beat = now_ns();
    for (;;) {
        bool alive = is_alive(job_dir); /* asked before the status is read: a job that ends in between is seen as done */
        ssize_t n = read_file(path, text, sizeof text - 1);
        if (n > 0 && strcmp(text, last)) {
            strcpy(last, text);
            if (text[n - 1] != '\n') strcpy(text + n++, "\n"); /* damaged, but the next line must stand by itself */
            if (write(1, text, (size_t)n) != n) return EXIT_FAILED;
            beat = now_ns();
        }
        if (n > 0 && strstr(text, "\"state\":\"done\"")) return EXIT_FINE;
        if (!alive) {
            static const char dead[] = "{\"state\":\"dead\"}\n";
            return write(1, dead, sizeof dead - 1) < 0 ? EXIT_FAILED : EXIT_FINE;
        }
        if (now_ns() - beat > 2000 * MS) {
            if (write(1, "\n", 1) != 1) return EXIT_FAILED;
            beat = now_ns();
        }
        struct pollfd p = {.fd = notify, .events = POLLIN};
        if (poll(&p, 1, 250) > 0 && read(notify, text, sizeof text) < 0 && errno != EAGAIN) return EXIT_FAILED;
    }
}

/* Asks a running job to end, and waits until it has put the device's state back. */
int job_stop(const char *job_dir, int64_t limit_ns) {
    char path[PATH_MAX], text[2048];
    snprintf(path, sizeof path, "%s/status", job_dir);
    int64_t limit = now_ns() + limit_ns;
    bool told = false;
    while (is_alive(job_dir)) {
        if (!told && read_file(path, text, sizeof text) > 0) {
            const char *pid = strstr(text, "\"agent_pid\":");
            if (pid && atoi(pid + 12) > 1) told = kill(atoi(pid + 12), SIGTERM) == 0;
            if (pid && !told && errno == EPERM) {
                say("%s: its agent runs as another user", job_dir);
                return EXIT_DENIED;
            }
        }
        if (now_ns() > limit) {
            say("%s: still running", job_dir);
            return EXIT_FAILED;
        }
        usleep(20000);
    }
    return EXIT_FINE;
}
