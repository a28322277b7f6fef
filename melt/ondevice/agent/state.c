/* Values held on the device, and put back: the undo journal.
 *
 * A value is a file's, or one that a command tells and another sets. The journal (`undo`: the boot's id; then for a file PATH
 * OLD-VALUE [SHOWN], for commands `run` NAME OLD-VALUE N_RESTORE N_READ WORDS…, a line each, words encoded as in a plan) is on disk before
 * the first value is touched. Put back in reverse order, it becomes `undo.done`; what could not be put back stays in it.
 * A journal that a crash left behind is finished by the next job on the device. After a reboot the kernel has forgotten
 * what was written under /sys and /proc, and those lines are closed unused; what a command set may have been kept.
 *
 * Values hang together: a clock's floor cannot be put above its ceiling, and a power mode brings its own of both. So all of
 * them are looked at again, and written again where they are not what they are to be. What counts is what is read back.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { MAX_JOURNAL = 1 << 20, MAX_LINE_WORDS = 64, PASSES = 3 };
static const int64_t FILE_NS = 2000000000LL, COMMAND_NS = 10000000000LL;

typedef struct {
    const char *name, *value; /* the file, or what the commands are called; and what it is to be */
    const char *shown;        /* what events call it; NULL: its name */
    char **put, **read;       /* argv; NULL for a file */
    bool left_alone;          /* refused, not readable, or hangs */
    bool tried;               /* whether it was set, whatever came of that */
    char why[768];            /* what was said of the last try */
} Value;

static Value held[MAX_SETS];
static int n_held, locked = -1;

static void trim(char *text) {
    size_t n = strlen(text);
    while (n && strchr("\n\r ", text[n - 1])) text[--n] = '\0';
}

static const char *last_line(char *text) {
    trim(text);
    const char *end = strrchr(text, '\n');
    return end ? end + 1 : text;
}

static bool failed(Value *v, int error) {
    snprintf(v->why, sizeof v->why, "%s", error == HANGS ? "it hangs" : strerror(error));
    v->left_alone |= error == HANGS; /* once is enough */
    return false;
}

/* `text` is what it has said at last: more than half of MAX_VALUE, if it has said more. */
static bool command(Value *v, char **argv, bool complaints, char text[MAX_VALUE], size_t *n) {
    int code;
    const Command asked = {.argv = argv, .limit_ns = COMMAND_NS, .complaints = complaints, .last = true};
    const char *error = bounded_command(&asked, text, MAX_VALUE - 1, n, &code);
    text[*n] = '\0';
    if (!error) return true;
    if (code < 0) snprintf(v->why, sizeof v->why, "%s: %s", argv[0], !strcmp(error, "hangs") ? "it hangs" : "it was ended");
    else if (code == 127) snprintf(v->why, sizeof v->why, "%s: it is not there", argv[0]);
    else snprintf(v->why, sizeof v->why, "%s: exit code %d: %s", argv[0], code, last_line(text));
    v->left_alone |= !strcmp(error, "hangs");
    return false;
}

/* What the value is now; false, and `why`, when it cannot be known. */
static bool value_read(Value *v, char now[MAX_VALUE]) {
    char text[MAX_VALUE];
    size_t n;
    if (v->read) {
        if (!command(v, v->read, false, text, &n)) return false;
        if (strlen(text) != n) return failed(v, EILSEQ); /* a NUL is in no word */
        const char *line = last_line(text);
        if (line == text && n >= MAX_VALUE / 2) return failed(v, EFBIG); /* its begin may be cut off */
        memmove(now, line, strlen(line) + 1);
        return true;
    }
    int error = bounded_read(v->name, now, MAX_VALUE - 1, &n, FILE_NS);
    if (!error && n == MAX_VALUE - 1) error = EFBIG; /* it could not be put back whole */
    if (error) return failed(v, error);
    trim(now);
    return true;
}

static void value_put(Value *v) {
    char text[MAX_VALUE + 1];
    size_t said;
    v->why[0] = '\0';
    v->tried = true;
    if (v->put) {
        command(v, v->put, true, text, &said);
    } else {
        int n = snprintf(text, sizeof text, "%s\n", v->value);
        int error = n >= (int)sizeof text ? EFBIG : bounded_write(v->name, text, FILE_NS);
        if (error) failed(v, error);
    }
}

static bool is_as_wanted(Value *v) {
    char now[MAX_VALUE];
    return value_read(v, now) && !strcmp(now, v->value);
}

/* Tells what the value is now, beside what it is to be, and whether it was set. */
static bool value_tell(const char *name, Value *v) {
    char p[1024], a[1024], g[1024], w[4096], got[MAX_VALUE] = "";
    bool known = !v->left_alone && value_read(v, got), fine = known && !strcmp(got, v->value);
    const char *shown = v->shown ? v->shown : v->name;
    escape_json(p, sizeof p, shown, strlen(shown));
    escape_json(a, sizeof a, v->value, strlen(v->value));
    escape_json(g, sizeof g, known ? got : "", known ? strlen(got) : 0);
    escape_json(w, sizeof w, v->why, fine ? 0 : strlen(v->why));
    event(name, "\"path\":\"%s\",\"asked\":\"%s\",\"got\":\"%s\",\"ok\":%s,\"tried\":%s,\"error\":\"%s\"", p, a, g,
          fine ? "true" : "false", v->tried ? "true" : "false", w);
    return fine;
}

/* ------------------------------------------------------------------------------------------------------------ the journal */

typedef struct {
    char *text;
    size_t used;
    bool full;
} Journal;

static void add_text(Journal *j, const char *text, char after) {
    if (j->full || j->used + 3 * strlen(text) + 8 > MAX_JOURNAL) {
        j->full = true;
        return;
    }
    j->used += encode_word(j->text + j->used, MAX_JOURNAL - j->used, text);
    j->text[j->used++] = after;
    j->text[j->used] = '\0';
}

static int count(char **words) {
    int n = 0;
    while (words[n]) n++;
    return n;
}

/* One line: what puts the value of `v` back to `old`. */
static void add_line(Journal *j, const Value *v, char **restore, const char *old) {
    if (!v->read) {
        add_text(j, v->name, ' ');
        add_text(j, old, v->shown ? ' ' : '\n');
        if (v->shown) add_text(j, v->shown, '\n');
        return;
    }
    char numbers[2][16];
    snprintf(numbers[0], sizeof numbers[0], "%d", count(restore));
    snprintf(numbers[1], sizeof numbers[1], "%d", count(v->read));
    const char *head[] = {"run", v->name, old, numbers[0], numbers[1]};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++) add_text(j, head[i], ' ');
    for (char **word = restore; *word; word++) add_text(j, strcmp(*word, "{old}") ? *word : old, ' ');
    for (char **word = v->read; *word; word++) add_text(j, *word, word[1] ? ' ' : '\n');
}

static bool begin_journal(Journal *j, const char *boot) {
    *j = (Journal){.text = malloc(MAX_JOURNAL)};
    if (j->text) j->used = (size_t)snprintf(j->text, MAX_JOURNAL, "boot_id %s\n", boot);
    return j->text != NULL;
}

/* On disk with its folder's entry: a device that loses power now must find it. */
static bool write_journal(Journal *j, const char *job_dir) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/undo", job_dir);
    errno = ENOSPC;
    bool fine = !j->full && write_whole(path, j->text);
    int dir = fine ? open(job_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir >= 0) {
        fsync(dir);
        close(dir);
    }
    free(j->text);
    return fine;
}

/* A line's words, decoded; false where it is none that we wrote. `v` then points into the line. */
static bool parse_journal_line(char *line, Value *v, char *words[MAX_LINE_WORDS]) {
    int n = 0;
    for (char *word; n < MAX_LINE_WORDS && (word = strsep(&line, " "));)
        if (!decode_word(words[n++] = word)) return false;
    if (line || n < 2) return false;
    if (n <= 3 && words[0][0] == '/') {
        *v = (Value){.name = words[0], .value = words[1], .shown = n == 3 ? words[2] : NULL};
        return true;
    }
    int64_t n_restore, n_read;
    if (n < 7 || n > MAX_LINE_WORDS - 2 || strcmp(words[0], "run") || !number(words[3], 1, n, &n_restore) ||
        !number(words[4], 1, n, &n_read) || 5 + n_restore + n_read != n)
        return false;
    *v = (Value){.name = words[1], .value = words[2]};
    memmove(words + 5 + n_restore + 1, words + 5 + n_restore, sizeof *words * (size_t)n_read);
    words[5 + n_restore] = words[5 + n_restore + 1 + n_read] = NULL;
    v->put = words + 5;
    v->read = v->put + n_restore + 1;
    return true;
}

/* --------------------------------------------------------------------------------------------------------- set and put back */

bool state_apply(const Plan *plan, const char *job_dir) {
    char old[MAX_VALUE], boot[64];
    bool as_is[MAX_SETS] = {false}, any = false;
    Journal journal;
    if (!plan->n_sets) return true;
    boot_id(boot);
    if (!begin_journal(&journal, boot)) return false;
    n_held = plan->n_sets;
    for (int i = 0; i < n_held; i++) {
        const Setting *s = &plan->sets[i];
        Value *v = &held[i];
        *v = (Value){.name = s->name, .value = s->value, .shown = s->shown, .put = s->set, .read = s->read, .left_alone = s->why};
        if (s->why) snprintf(v->why, sizeof v->why, "%s", s->why);
        else if (!value_read(v, old)) v->left_alone = true; /* what cannot be put back is not changed */
        else if (s->read && !strcmp(old, s->value)) as_is[i] = true;
        else add_line(&journal, v, s->restore, old);
    }
    if (!write_journal(&journal, job_dir)) {
        say("undo: %s; nothing was changed on the device", strerror(errno));
        return false;
    }
    for (int i = 0; i < n_held; i++)
        if (!held[i].left_alone && !as_is[i]) value_put(&held[i]), any = true;
    for (int i = 0; any && i < n_held; i++)
        if (!held[i].left_alone && !held[i].read && !is_as_wanted(&held[i])) value_put(&held[i]);
    for (int i = 0; i < n_held; i++) value_tell("agent.set", &held[i]);
    return true;
}

/* At the end of the engine: whether each value is still what it was set to. */
void state_held(void) {
    for (int i = 0; i < n_held; i++) {
        if (held[i].left_alone) continue; /* that was told when it was tried */
        held[i].why[0] = '\0';
        value_tell("agent.held", &held[i]);
    }
}

/* Puts back in reverse order, and looks again. Those that are not back are left in `values`; how many they are. */
static int put_back(Value *values, int n) {
    for (int pass = 0, changed = 1; pass < PASSES && changed; pass++) {
        changed = 0;
        for (int i = n; i--;)
            if (!values[i].left_alone && (!pass || !is_as_wanted(&values[i])) && !values[i].left_alone) value_put(&values[i]), changed++;
    }
    int left = 0;
    bool back[MAX_SETS];
    for (int i = n; i--;) back[i] = value_tell("agent.restore", &values[i]);
    for (int i = 0; i < n; i++)
        if (!back[i]) values[left++] = values[i];
    return left;
}

/* True when nothing is left to put back. */
bool state_restore(const char *job_dir) {
    static char *words[MAX_SETS][MAX_LINE_WORDS];
    static Value values[MAX_SETS];
    char path[PATH_MAX], done[PATH_MAX], boot[64], old_boot[64] = "";
    snprintf(path, sizeof path, "%s/undo", job_dir);
    snprintf(done, sizeof done, "%s/undo.done", job_dir);
    char *text = malloc(MAX_JOURNAL);
    if (!text) return false;
    if (read_file(path, text, MAX_JOURNAL) < 0) {
        bool none = errno == ENOENT || errno == ENOTDIR;
        free(text);
        return none;
    }
    int n = 0;
    boot_id(boot);
    bool readable = true;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        if (!strncmp(line, "boot_id ", 8)) {
            snprintf(old_boot, sizeof old_boot, "%s", line + 8);
            continue;
        }
        if (!*line) continue;
        if (n == MAX_SETS || !parse_journal_line(line, &values[n], words[n])) {
            readable = false;
            continue;
        }
        const char *target = values[n].name;
        bool kernels = !values[n].read && (!strncmp(target, "/sys/", 5) || !strncmp(target, "/proc/", 6));
        if (!kernels || !strcmp(boot, old_boot)) n++; /* else the kernel has forgotten it */
    }
    int left = put_back(values, n);
    bool fine = !left && readable && rename(path, done) == 0;
    Journal journal;
    if (left && left < n && readable && begin_journal(&journal, old_boot)) {
        /* what is back is not put back a second time, when somebody may have chosen another value */
        for (int i = 0; i < left; i++) add_line(&journal, &values[i], values[i].put, values[i].value);
        if (!write_journal(&journal, job_dir)) say("undo: %s", strerror(errno));
    }
    free(text);
    return fine;
}

/* Two work folders are two jobs of one device, and the later one would take what the first holds for what was there before.
 * So the first of these folders of the device that is there is locked by whoever holds values; it dies with its holder.
 * False when another has it. Where none can be locked, nobody is told apart. */
bool state_lock(char **whole) {
    for (int tries = 0; whole && *whole && locked < 0; whole++) {
        int fd = open(*whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) continue;
        while (flock(fd, LOCK_EX | LOCK_NB)) {
            bool taken = errno == EWOULDBLOCK;
            if (taken && tries++ < 10) { /* somebody may only have looked whether there is something to put back */
                usleep(20000);
                continue;
            }
            close(fd);
            fd = -1;
            if (taken) return false;
            break;
        }
        if (fd >= 0) locked = fd;
    }
    return true;
}

void state_unlock(void) {
    if (locked >= 0) close(locked);
    locked = -1;
}

static int newest_first(const struct dirent **a, const struct dirent **b) { return strcmp((*b)->d_name, (*a)->d_name); }

/* Finishes what crashed jobs left behind, the last one first: what it found may be what an earlier one held. The caller holds
 * the work folder's lock. Returns how many could not be finished. */
int state_restore_leftovers(const char *jobs_dir, const char *except_job, char **whole) {
    struct dirent **entries;
    bool ours = locked >= 0;
    int left = 0, n = scandir(jobs_dir, &entries, NULL, newest_first);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        char job[PATH_MAX], undo[PATH_MAX];
        bool fits = snprintf(job, sizeof job, "%s/%s", jobs_dir, name) < (int)sizeof job &&
                    snprintf(undo, sizeof undo, "%s/undo", job) < (int)sizeof undo;
        bool none = name[0] == '.' || !strcmp(name, except_job) || !fits || (access(undo, F_OK) && (errno == ENOENT || errno == ENOTDIR));
        if (!none && (!state_lock(whole) || !state_restore(job))) left++;
        free(entries[i]);
    }
    if (n >= 0) free(entries);
    if (!ours) state_unlock();
    return left;
}
