/* Values set on the device, and put back: the undo journal.
 *
 * The journal (`undo`: the boot's id, then PATH OLD-VALUE a line, words encoded as in a plan) is on disk before the first value is
 * touched. Put back in reverse order, it becomes `undo.done`. A journal that a crash left behind is finished by the
 * next job on the device; after a reboot the kernel has forgotten what we set under /sys and /proc, and the journal is closed unused.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_JOURNAL = 1 << 20 };

static void trim(char *text) {
    size_t n = strlen(text);
    while (n && (text[n - 1] == '\n' || text[n - 1] == ' ')) text[--n] = '\0';
}

static bool read_value(const char *path, char value[MAX_VALUE]) {
    ssize_t n = read_file(path, value, MAX_VALUE);
    if (n == MAX_VALUE - 1) errno = EFBIG; /* it could not be put back whole */
    if (n < 0 || n == MAX_VALUE - 1) return false;
    trim(value);
    return true;
}

/* sysfs takes a value in one write; a regular file (a test's, a FUSE board's) is rewritten in place. */
static int write_value(const char *path, const char *value) {
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
    if (fd < 0) return errno;
    char line[MAX_VALUE + 1];
    int n = snprintf(line, sizeof line, "%s\n", value);
    int error = n >= (int)sizeof line ? EFBIG : write(fd, line, (size_t)n) == n ? 0 : errno;
    if (close(fd) && !error) error = errno;
    return error;
}

static void event_value(const char *name, const char *path, const char *asked, const char *got, int error) {
    char p[1024], a[1024], g[1024];
    escape_json(p, sizeof p, path, strlen(path));
    escape_json(a, sizeof a, asked, strlen(asked));
    escape_json(g, sizeof g, got, strlen(got));
    event(name, "\"path\":\"%s\",\"asked\":\"%s\",\"got\":\"%s\",\"ok\":%s,\"error\":\"%s\"", p, a, g,
          !error && !strcmp(asked, got) ? "true" : "false", error ? strerror(error) : "");
}

bool state_apply(const Plan *plan, const char *job_dir) {
    if (!plan->n_sets) return true;
    char path[PATH_MAX], *journal = malloc(MAX_JOURNAL), value[MAX_VALUE];
    if (!journal) return false;
    char boot[64];
    boot_id(boot);
    size_t used = (size_t)snprintf(journal, MAX_JOURNAL, "boot_id %s\n", boot);
    bool readable[MAX_SETS], fits = true;
    for (int i = 0; i < plan->n_sets && fits; i++) {
        readable[i] = read_value(plan->sets[i].path, value);
        if (!readable[i]) {
            event_value("agent.set", plan->sets[i].path, plan->sets[i].value, "", errno);
            continue;
        }
        used += encode_word(journal + used, MAX_JOURNAL - used, plan->sets[i].path);
        journal[used++] = ' ';
        used += encode_word(journal + used, MAX_JOURNAL - used, value);
        journal[used++] = '\n';
        fits = used <= MAX_JOURNAL - 4 * MAX_VALUE - 4 * PATH_MAX;
    }
    journal[used] = '\0';
    snprintf(path, sizeof path, "%s/undo", job_dir);
    errno = ENOSPC;
    bool fine = fits && write_whole(path, journal);
    free(journal);
    if (!fine) {
        say("undo: %s; nothing was changed on the device", strerror(errno));
        return false;
    }
    for (int i = 0; i < plan->n_sets; i++) {
        if (!readable[i]) continue;
        int error = write_value(plan->sets[i].path, plan->sets[i].value);
        if (!read_value(plan->sets[i].path, value)) value[0] = '\0';
        event_value("agent.set", plan->sets[i].path, plan->sets[i].value, value, error);
    }
    return true;
}

/* True when nothing is left to put back. */
bool state_restore(const char *job_dir) {
    char path[PATH_MAX], done[PATH_MAX], value[MAX_VALUE];
    snprintf(path, sizeof path, "%s/undo", job_dir);
    snprintf(done, sizeof done, "%s/undo.done", job_dir);
    char *text = malloc(MAX_JOURNAL);
    if (!text) return false;
    if (read_file(path, text, MAX_JOURNAL) < 0) {
        bool none = errno == ENOENT || errno == ENOTDIR;
        free(text);
        return none;
    }
    char *lines[MAX_SETS + 1], boot[64];
    int n = 0;
    boot_id(boot);
    bool same_boot = false;
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) && n <= MAX_SETS;) {
        if (!strncmp(line, "boot_id ", 8)) same_boot = !strcmp(line + 8, boot);
        else if (*line) lines[n++] = line;
    }
    bool fine = true;
    while (n--) {
        char *target = strsep(&lines[n], " "), *old = lines[n];
        if (!old || !decode_word(target) || !decode_word(old)) {
            fine = false;
            continue;
        }
        bool forgotten = !same_boot && (!strncmp(target, "/sys/", 5) || !strncmp(target, "/proc/", 6));
        if (forgotten) continue;
        int error = write_value(target, old);
        if (!read_value(target, value)) value[0] = '\0';
        event_value("agent.restore", target, old, value, error);
        fine = fine && !error && !strcmp(old, value);
    }
    free(text);
    return fine && rename(path, done) == 0;
}

/* Finishes what crashed jobs left behind; the caller holds the device lock. Returns how many could not be finished. */
int state_restore_leftovers(const char *jobs_dir, const char *except_job) {
    DIR *dir = opendir(jobs_dir);
    if (!dir) return 0;
    int left = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || !strcmp(entry->d_name, except_job)) continue;
        char job[PATH_MAX];
        if (snprintf(job, sizeof job, "%s/%s", jobs_dir, entry->d_name) < (int)sizeof job && !state_restore(job)) left++;
    }
    closedir(dir);
    return left;
}
