/* probe TIMEOUT_MS GLOB… : expands the globs and reads every file once, each with a time limit; one JSON line a file.
 *
 * A file that hangs costs its time limit, and nothing else. */
#include "agent.h"

#include <dirent.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_PATHS = 4096, MAX_DATA = 65536 };

static char *paths[MAX_PATHS];
static int n_paths;

static void add_path(const char *path) {
    for (int i = 0; i < n_paths; i++)
        if (!strcmp(paths[i], path)) return;
    if (n_paths < MAX_PATHS) paths[n_paths++] = strdup(path);
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

/* Expands one component of the pattern at a time. glob(3) would do, but in a static program it drags in the user database. */
static void expand(const char *done, const char *pattern) {
    while (*pattern == '/') pattern++;
    size_t length = strcspn(pattern, "/");
    const char *rest = pattern + length;
    char part[NAME_MAX + 1], path[PATH_MAX];
    if (!length || length > NAME_MAX) return;
    memcpy(part, pattern, length);
    part[length] = '\0';
    if (!strpbrk(part, "*?[")) {
        struct stat status;
        if (snprintf(path, sizeof path, "%s/%s", done, part) >= (int)sizeof path || stat(path, &status)) return;
        if (*rest) expand(path, rest);
        else add_path(path);
        return;
    }
    struct dirent **entries;
    int n = scandir(*done ? done : "/", &entries, NULL, by_name);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        if (name[0] != '.' && !fnmatch(part, name, 0) &&
            snprintf(path, sizeof path, "%s/%s", done, name) < (int)sizeof path) {
            if (*rest) expand(path, rest);
            else add_path(path);
        }
        free(entries[i]);
    }
    if (n >= 0) free(entries);
}

static void print_read(const char *path, const char *data, size_t n, int64_t took_ns, const char *error) {
    static char escaped[6 * MAX_DATA + 8];
    char name[6 * PATH_MAX + 8];
    escape_json(name, sizeof name, path, strlen(path));
    if (error) {
        printf("{\"path\":\"%s\",\"ns\":%lld,\"error\":\"%s\"}\n", name, (long long)took_ns, error);
        return;
    }
    escape_json(escaped, sizeof escaped, data, n);
    printf("{\"path\":\"%s\",\"ns\":%lld,\"data\":\"%s\"}\n", name, (long long)took_ns, escaped);
}

int probe(int argc, char **argv) {
    int timeout_ms = argc > 1 ? atoi(argv[0]) : 0;
    if (timeout_ms < 1 || timeout_ms > 60000) {
        say("usage: melt-agent probe TIMEOUT_MS GLOB…");
        return EXIT_USAGE;
    }
    for (int i = 1; i < argc; i++) {
        struct stat status;
        if (!stat(argv[i], &status)) add_path(argv[i]); /* a plain name, even one that looks like a pattern */
        else expand("", argv[i]);
    }
    for (int i = 0; i < n_paths; i++) {
        static char data[MAX_DATA + 1];
        size_t n;
        int64_t began = now_ns();
        int error = bounded_read(paths[i], data, MAX_DATA, &n, (int64_t)timeout_ms * 1000000);
        print_read(paths[i], data, n, now_ns() - began, error == HANGS ? "hangs" : error && !n ? error_word(error) : NULL);
    }
    fflush(stdout);
    return EXIT_FINE;
}
