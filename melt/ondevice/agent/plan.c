/* The plan: one instruction a line, words separated by one space, each word percent-encoded where it holds a space,
 * a percent sign, a line end or a byte outside printable ASCII. An unknown instruction is an error: half a plan is
 * not carried out. */
#include "agent.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PLAN = 1 << 20, MAX_CPUS = 1024, MAX_HOLD_WORDS = 48, MAX_HOLD_BYTES = 8192 };

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in place; false on a broken escape or an encoded NUL, which no path or argument can hold. */
bool decode_word(char *word) {
    char *to = word;
    for (char *from = word; *from; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        int high = from[1] ? hex(from[1]) : -1, low = high >= 0 && from[2] ? hex(from[2]) : -1;
        if (high < 0 || low < 0 || (high == 0 && low == 0)) return false;
        *to++ = (char)(high * 16 + low);
        from += 2;
    }
    *to = '\0';
    return true;
}

size_t encode_word(char *out, size_t room, const char *word) {
    size_t used = 0;
    for (; *word && used + 4 < room; word++) {
        unsigned char c = (unsigned char)*word;
        if (c > 0x20 && c < 0x7f && c != '%') out[used++] = (char)c;
        else used += (size_t)sprintf(out + used, "%%%02x", c);
    }
    out[used] = '\0';
    return used;
}

bool number(const char *text, int64_t low, int64_t high, int64_t *out) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < low || value > high) return false;
    *out = value;
    return true;
}

static char **words_copy(char **words, int n) {
    char **copy = calloc((size_t)n + 1, sizeof *copy);
    for (int i = 0; copy && i < n; i++) copy[i] = strdup(words[i]);
    return copy;
}

/* A file is named by the way that leads to it, and that never goes back up: out of a board's own folder, for one. */
static bool goes_up(const char *path) {
    for (const char *part = path; (part = strstr(part, "/..")); part += 3)
        if (part[3] == '/' || !part[3]) return true;
    return false;
}

static Sensor *sensor_named(Plan *plan, const char *name) {
    for (int i = 0; i < plan->n_sensors; i++)
        if (!strcmp(plan->sensors[i].name, name)) return &plan->sensors[i];
    return NULL;
}

/* Names stand unquoted in the trace and in events. */
static bool is_name(const char *text, size_t room) {
    size_t n = strlen(text);
    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._-", *c)) return false;
    return n > 0 && n < room;
}

/* sample NAME PERIOD_US TIMEOUT_MS [root-]file|reopen PATH [PATH…]   or   … command ARGV… */
static bool parse_sample(Plan *plan, char **w, int n) {
    if (n < 6 || plan->n_sensors == MAX_SENSORS || !is_name(w[1], NAME_LEN) || sensor_named(plan, w[1])) return false;
    Sensor *s = &plan->sensors[plan->n_sensors];
    int64_t period_us, timeout_ms;
    if (!number(w[2], 1000, 3600LL * 1000000, &period_us) || !number(w[3], 1, 600000, &timeout_ms)) return false;
    strcpy(s->name, w[1]);
    s->period_ns = period_us * 1000;
    s->timeout_ns = timeout_ms * 1000000;
    s->is_command = !strcmp(w[4], "command");
    s->as_root = !strncmp(w[4], "root-", 5);
    const char *kind = w[4] + (s->as_root ? 5 : 0);
    s->reopen = !strcmp(kind, "reopen");
    if (s->is_command) {
        if (period_us < 200000) return false; /* a process a sample: never faster than every 200 ms */
        s->argv = words_copy(w + 5, n - 5);
    } else {
        if (n - 5 > MAX_FILES || (!s->reopen && strcmp(kind, "file"))) return false;
        for (s->n_paths = 0; s->n_paths < n - 5; s->n_paths++) s->paths[s->n_paths] = strdup(w[5 + s->n_paths]);
    }
    plan->n_sensors++;
    return true;
}

/* hold NAME VALUE N_SET N_RESTORE N_READ WORDS… : three commands, one after the other */
static bool parse_hold(Plan *plan, char **w, int n) {
    int64_t counts[3], words = 0;
    size_t bytes = 0;
    if (n < 9 || plan->n_sets == MAX_SETS || !is_name(w[1], NAME_LEN) || strlen(w[2]) >= NAME_LEN * 4) return false;
    for (int i = 0; i < 3; i++) {
        if (!number(w[3 + i], 1, MAX_HOLD_WORDS, &counts[i])) return false;
        words += counts[i];
    }
    for (int i = 6; i < n; i++) bytes += strlen(w[i]) + 1;
    if (words != n - 6 || words > MAX_HOLD_WORDS || bytes > MAX_HOLD_BYTES) return false;
    char **set = w + 6, **restore = set + counts[0], **read = restore + counts[1];
    plan->sets[plan->n_sets++] = (Setting){
        .name = strdup(w[1]),
        .value = strdup(w[2]),
        .set = words_copy(set, (int)counts[0]),
        .restore = words_copy(restore, (int)counts[1]),
        .read = words_copy(read, (int)counts[2]),
    };
    return true;
}

/* user UID GID [GROUP…] */
static bool parse_user(User *user, char **w, int n) {
    int64_t id;
    if (n < 3 || n - 3 > MAX_GROUPS || !number(w[1], 0, INT32_MAX, &id)) return false;
    user->uid = (uid_t)id;
    for (int i = 2; i < n; i++) {
        if (!number(w[i], 0, INT32_MAX, &id)) return false;
        if (i == 2) user->gid = (gid_t)id;
        else user->groups[user->n_groups++] = (gid_t)id;
    }
    return user->given = true;
}

static bool parse_line(Plan *plan, char **w, int n) {
    int64_t value;
    if (!strcmp(w[0], "melt-plan")) return n == 2 && !strcmp(w[1], "1");
    if (!strcmp(w[0], "run_id")) {
        if (n != 2 || !is_name(w[1], sizeof plan->run_id)) return false;
        strcpy(plan->run_id, w[1]);
        return true;
    }
    if (!strcmp(w[0], "lock")) return n == 2 && (plan->lock_path = strdup(w[1]));
    if (!strcmp(w[0], "whole")) return n >= 2 && !plan->whole && (plan->whole = words_copy(w + 1, n - 1));
    if (!strcmp(w[0], "wall_ms")) {
        if (n != 2 || !number(w[1], 1, 7LL * 86400 * 1000, &value)) return false;
        plan->wall_ns = value * 1000000;
        return true;
    }
    if (!strcmp(w[0], "idle_ms")) {
        if (n != 2 || !number(w[1], 0, 86400LL * 1000, &value)) return false;
        plan->idle_ns = value * 1000000;
        return true;
    }
    if (!strcmp(w[0], "memory_period_ms")) {
        if (n != 2 || !number(w[1], 0, 60000, &value)) return false;
        plan->memory_period_ns = value * 1000000;
        return true;
    }
    if (!strcmp(w[0], "memory_max_bytes")) {
        if (n != 2 || !number(w[1], 1, INT64_MAX, &value)) return false;
        plan->memory_max_bytes = (uint64_t)value;
        return true;
    }
    if (!strcmp(w[0], "cpus")) {
        cpu_set_t set;
        return n == 2 && strlen(w[1]) < MAX_CPUS && cpus_parse(w[1], &set) && (plan->cpus = strdup(w[1]));
    }
    if (!strcmp(w[0], "sample")) return parse_sample(plan, w, n);
    if (!strcmp(w[0], "ceiling")) {
        Sensor *s = n == 3 ? sensor_named(plan, w[1]) : NULL;
        char *end;
        if (!s) return false;
        s->ceiling = strtod(w[2], &end);
        return s->has_ceiling = end != w[2] && !*end && isfinite(s->ceiling);
    }
    if (!strcmp(w[0], "set")) { /* PATH VALUE [SHOWN] */
        if (n < 3 || n > 4 || plan->n_sets == MAX_SETS || w[1][0] != '/' || goes_up(w[1]) || strlen(w[1]) >= PATH_MAX || strlen(w[2]) >= MAX_VALUE - 1 ||
            (n == 4 && strlen(w[3]) >= PATH_MAX))
            return false;
        plan->sets[plan->n_sets++] = (Setting){.name = strdup(w[1]), .value = strdup(w[2]), .shown = n == 4 ? strdup(w[3]) : NULL};
        return true;
    }
    if (!strcmp(w[0], "refused")) { /* NAME VALUE WHY : what was to be held and cannot even be tried */
        if (n != 4 || plan->n_sets == MAX_SETS || strlen(w[1]) >= PATH_MAX || strlen(w[2]) >= MAX_VALUE - 1) return false;
        plan->sets[plan->n_sets++] = (Setting){.name = strdup(w[1]), .value = strdup(w[2]), .why = strdup(w[3])};
        return true;
    }
    if (!strcmp(w[0], "hold")) return parse_hold(plan, w, n);
    if (!strcmp(w[0], "user")) return !plan->user.given && parse_user(&plan->user, w, n);
    if (!strcmp(w[0], "env")) {
        for (int i = 1; i < n; i++)
            if (!strchr(w[i], '=')) return false;
        return (plan->env = words_copy(w + 1, n - 1)) != NULL;
    }
    if (!strcmp(w[0], "engine")) return n >= 2 && (plan->engine = words_copy(w + 1, n - 1)) != NULL;
    return false;
}

bool plan_read(const char *path, Plan *plan) {
    memset(plan, 0, sizeof *plan);
    plan->memory_period_ns = 100000000;
    char *text = malloc(MAX_PLAN);
    ssize_t n = text ? read_file(path, text, MAX_PLAN) : -1;
    if (n < 0 || n >= MAX_PLAN - 1) {
        say("plan: cannot read %s: %s", path, n < 0 ? strerror(errno) : "larger than 1 MiB");
        free(text);
        return false;
    }
    int line_number = 0;
    bool fine = strlen(text) == (size_t)n; /* what follows a NUL would be left out unseen */
    for (char *rest = text, *line; fine && (line = strsep(&rest, "\n"));) {
        line_number++;
        char *words[MAX_WORDS];
        int count = 0;
        for (char *word; (word = strsep(&line, " "));) {
            if (count == MAX_WORDS || !decode_word(word)) {
                fine = false;
                break;
            }
            words[count++] = word;
        }
        if (!fine || count == 0 || words[0][0] == '\0' || words[0][0] == '#') continue;
        fine = parse_line(plan, words, count);
    }
    free(text);
    if (!fine) say("plan: line %d is not understood", line_number);
    else if (!plan->engine || !plan->lock_path || !plan->run_id[0] || !plan->wall_ns) {
        say("plan: run_id, lock, wall_ms and engine are required");
        fine = false;
    }
    return fine;
}

/* "0,2-3" into a cpu_set_t. */
bool cpus_parse(const char *text, void *cpu_set) {
    cpu_set_t *set = cpu_set;
    CPU_ZERO(set);
    if (text[strspn(text, "0123456789,-")]) return false;
    while (*text) {
        char *end;
        long first = strtol(text, &end, 10), last = first;
        if (end == text) return false;
        if (*end == '-') {
            text = end + 1;
            last = strtol(text, &end, 10);
            if (end == text) return false;
        }
        if (first < 0 || last < first || last >= CPU_SETSIZE) return false;
        for (long cpu = first; cpu <= last; cpu++) CPU_SET((int)cpu, set);
        if (*end != ',' && *end != '\0') return false;
        text = *end ? end + 1 : end;
    }
    return CPU_COUNT(set) > 0;
}
