/* The verbs of the agent. */
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

static const int64_t MOST_MS = 7LL * 86400 * 1000;

/* A program started without stdin, stdout or stderr would get their numbers for its own files, and lose them to a dup2. */
static void hold_standard_files(void) {
    for (int fd; (fd = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0;)
        if (fd > STDERR_FILENO) {
            close(fd);
            return;
        }
}

static int undo(const char *lock_path, const char *jobs_dir, char **whole) {
    int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        say("lock: %s: %s", lock_path, strerror(errno));
        return EXIT_FAILED;
    }
    struct stat owner; /* a lock that root makes must not shut out the user whose folder it is in */
    if (geteuid() == 0 && !stat(jobs_dir, &owner) && fchown(fd, owner.st_uid, owner.st_gid)) say("%s: %s", lock_path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        say("%s: a job holds the device", lock_path);
        return EXIT_LOCKED;
    }
    if (!state_lock(whole)) {
        say("a job of another work folder holds values of the device");
        return EXIT_LOCKED;
    }
    int left = state_restore_leftovers(jobs_dir, "", whole);
    if (left) say("%d undo journals could not be finished", left);
    return left ? EXIT_FAILED : EXIT_FINE;
}

int main(int argc, char **argv) {
    hold_standard_files();
    const char *verb = argc > 1 ? argv[1] : "";
    if (!strcmp(verb, "version") && argc == 2) return printf("melt-agent %s\n", MELT_AGENT_VERSION) < 0;
    if (!strcmp(verb, "start") && argc == 3) return job_start(argv[2]);
    if (!strcmp(verb, "watch") && argc == 3) return job_watch(argv[2]);
    if (!strcmp(verb, "stop") && argc == 4) return job_stop(argv[2], (int64_t)atoll(argv[3]) * 1000000);
    if (!strcmp(verb, "undo") && argc >= 4) return undo(argv[2], argv[3], argv + 4);
    if (!strcmp(verb, "probe")) return probe(argc - 2, argv + 2);
    if (!strcmp(verb, "list") && argc >= 3) return list_folder(argv[2], argc - 3, argv + 3);
    if (!strcmp(verb, "take") && argc == 7) return blob_take(argv[2], argv[3], argv[4], strtoull(argv[5], NULL, 10), strtoull(argv[6], NULL, 10));
    if (!strcmp(verb, "hash") && argc >= 4) return hash_files(argv[2], argc - 3, argv + 3);
    if (!strcmp(verb, "user") && argc == 2) return printf("%ld\n", (long)geteuid()) < 0;
    int64_t ms, on_ms, off_ms;
    if (!strcmp(verb, "rest") && argc == 3 && number(argv[2], 1, MOST_MS, &ms)) return rest(ms);
    if (!strcmp(verb, "burn") && argc == 5 && number(argv[2], 1, MOST_MS, &ms) && number(argv[3], 1, MOST_MS, &on_ms) &&
        number(argv[4], 0, MOST_MS, &off_ms))
        return burn(ms, on_ms, off_ms);
    if (!strcmp(verb, "clock") && argc == 2) return tell_clock();
    say("usage: melt-agent start JOB | watch JOB | stop JOB LIMIT_MS | undo LOCK JOBS [WHOLE…] | probe TIMEOUT_MS GLOB… | "
        "list FOLDER [USED…] | take FOLDER SHA256 PART BEGIN TOTAL | hash FOLDER NAME… | rest MS | burn MS ON_MS OFF_MS | "
        "clock | user | version");
    return EXIT_USAGE;
}
