/* The folder of blobs: files under the name of their SHA-256, brought in parts; and folders of files, listed and hashed.
 *
 * take FOLDER SHA256 PART BYTES TOTAL : puts the file PART of the folder behind the BYTES that are there already, and
 *     at TOTAL makes the whole a blob if its hash is right. Answers {"bytes":N}: how much is there now.
 * hash FOLDER NAME… : reads files whole; a line a second meanwhile, then {"name":…,"sha256":…} or {"name":…,"error":…}.
 * list FOLDER [USED…] : marks files as used now; then the free space of the file system, and a line for each file.
 *
 * While a blob grows it is NAME.grown, and NAME.state has how far it is known and the hash's state there: what a
 * crash left behind that is cut off. A blob whose content was checked (by take, or by hash) carries one and the same time
 * stamp: whoever writes to it later changes that. */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 18 };

static const struct timespec CHECKED = {.tv_sec = 1000000000}; /* 2001-09-09T01:46:40Z, of no meaning */
static char chunk[CHUNK];

static bool is_digest(const char *name) { return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64; }

static bool is_plain(const char *name) { return *name && !strchr(name, '/') && strlen(name) <= NAME_MAX - 8; }

static int failed(const char *name) {
    say("%s: %s", name, strerror(errno));
    return EXIT_FAILED;
}

/* Takes up where an earlier part ended; a state that cannot be read is one that never was. */
static Sha256 read_state(int dir, const char *name, int grown) {
    Sha256 s;
    sha256_begin(&s);
    char text[128] = "", hex[65];
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    uint64_t bytes = 0;
    struct stat status;
    if (n <= 0 || sscanf(text, "%20" SCNu64 " %64s", &bytes, hex) != 2 || !is_digest(hex) || bytes % sizeof s.rest ||
        fstat(grown, &status) || (uint64_t)status.st_size < bytes)
        return s;
    for (int i = 0; i < 8; i++) sscanf(hex + 8 * i, "%8" SCNx32, &s.h[i]);
    s.n_bytes = bytes;
    return s;
}

static bool write_state(int dir, const char *name, const Sha256 *s) {
    char fresh[NAME_MAX + 1], text[128], hex[65];
    snprintf(fresh, sizeof fresh, "%s.new", name);
    sha256_state(s, hex);
    int n = snprintf(text, sizeof text, "%" PRIu64 " %s\n", s->n_bytes, hex);
    unlinkat(dir, fresh, 0); /* of one that died; and what somebody else put there is not written to */
    int fd = openat(dir, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) return false;
    bool fine = write(fd, text, (size_t)n) == n;
    return close(fd) == 0 && fine && renameat(dir, fresh, dir, name) == 0;
}

/* Adds a file to the hash and, where `out` is one, to the end of another. */
static bool add_file(int in, int out, Sha256 *s, void (*tell)(uint64_t)) {
    for (;;) {
        ssize_t n = read(in, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n == 0;
        sha256_add(s, chunk, (size_t)n);
        for (ssize_t done = 0; out >= 0 && done < n;) {
            ssize_t put = write(out, chunk + done, (size_t)(n - done));
            if (put < 0 && errno != EINTR) return false;
            if (put > 0) done += put;
        }
        if (tell) tell(s->n_bytes);
    }
}

static int finish(int dir, const char *digest, const char *grown_name, const char *state_name, int grown, Sha256 *s) {
    char hex[65];
    sha256_end(s, hex);
    if (strcmp(hex, digest)) {
        unlinkat(dir, grown_name, 0);
        unlinkat(dir, state_name, 0);
        say("%s: what arrived is not what was sent", digest);
        return EXIT_CORRUPT;
    }
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, CHECKED};
    if (fchmod(grown, 0755) || fsync(grown) || futimens(grown, times) || renameat(dir, grown_name, dir, digest)) return failed(digest);
    unlinkat(dir, state_name, 0);
    return EXIT_FINE;
}

int blob_take(const char *folder, const char *digest, const char *part, uint64_t begin, uint64_t total) {
    char grown_name[80], state_name[80];
    if (!is_digest(digest) || !is_plain(part)) return say("take: not a SHA-256, or not a plain name"), EXIT_USAGE;
    snprintf(grown_name, sizeof grown_name, "%s.grown", digest);
    snprintf(state_name, sizeof state_name, "%s.state", digest);
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || flock(dir, LOCK_EX)) return failed(folder); /* two hosts may bring the same blob */
    struct stat whole;
    if (!fstatat(dir, digest, &whole, AT_SYMLINK_NOFOLLOW) && S_ISREG(whole.st_mode) && (uint64_t)whole.st_size == total &&
        whole.st_mtim.tv_sec == CHECKED.tv_sec && !whole.st_mtim.tv_nsec && begin) { /* another host was faster */
        unlinkat(dir, part, 0);
        return printf("{\"bytes\":%" PRIu64 "}\n", total) < 0;
    }
    Sha256 s;
    sha256_begin(&s);
    int grown;
    if (!begin) {
        unlinkat(dir, state_name, 0); /* first: a state must never outlive what it is the state of */
        if (renameat(dir, part, dir, grown_name)) return failed(part);
        grown = openat(dir, grown_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (grown < 0 || !add_file(grown, -1, &s, NULL)) return failed(grown_name);
    } else {
        grown = openat(dir, grown_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (grown >= 0) s = read_state(dir, state_name, grown);
        if (s.n_bytes != begin) { /* the host goes on from where we are */
            unlinkat(dir, part, 0);
            return printf("{\"bytes\":%" PRIu64 "}\n", s.n_bytes) < 0;
        }
        int in = openat(dir, part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (in < 0 || ftruncate(grown, (off_t)begin) || lseek(grown, 0, SEEK_END) < 0 || !add_file(in, grown, &s, NULL)) {
            int code = failed(part);
            unlinkat(dir, part, 0);
            return code;
        }
        unlinkat(dir, part, 0);
    }
    if (s.n_bytes >= total) {
        int code = finish(dir, digest, grown_name, state_name, grown, &s);
        if (code) return code;
        return printf("{\"bytes\":%" PRIu64 "}\n", total) < 0;
    }
    if (fdatasync(grown) || !write_state(dir, state_name, &s)) return failed(state_name); /* the state must not outlive the bytes */
    return printf("{\"bytes\":%" PRIu64 "}\n", s.n_bytes) < 0;
}

static void tell_each_second(uint64_t bytes) {
    static int64_t told_ns;
    int64_t now = now_ns();
    if (now - told_ns < 1000000000) return;
    told_ns = now;
    printf("{\"bytes\":%" PRIu64 "}\n", bytes);
    fflush(stdout);
}

int hash_files(const char *folder, int n, char **names) {
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return failed(folder);
    for (int i = 0; i < n; i++) {
        if (!is_plain(names[i])) return say("hash: %.80s is not a plain name", names[i]), EXIT_USAGE;
        char hex[65] = "", name[6 * NAME_MAX + 8];
        Sha256 s;
        sha256_begin(&s);
        int fd = openat(dir, names[i], O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        bool read_whole = fd >= 0 && add_file(fd, -1, &s, tell_each_second);
        const char *error = read_whole ? NULL : error_word(errno);
        escape_json(name, sizeof name, names[i], strlen(names[i]));
        if (read_whole) sha256_end(&s, hex);
        bool right = !strcmp(hex, names[i]); /* a blob that is not what its name says loses its mark */
        const struct timespec times[2] = {{.tv_nsec = right ? UTIME_NOW : UTIME_OMIT}, right ? CHECKED : (struct timespec){.tv_nsec = UTIME_NOW}};
        if (read_whole && is_digest(names[i]) && futimens(fd, times)) { /* then it is looked at again the next time */ }
        if (fd >= 0) close(fd);
        if (error) printf("{\"name\":\"%s\",\"error\":\"%s\"}\n", name, error);
        else printf("{\"name\":\"%s\",\"sha256\":\"%s\"}\n", name, hex);
        fflush(stdout);
    }
    return EXIT_FINE;
}

int list_folder(const char *path, int n_used, char **used) {
    struct statvfs space;
    DIR *dir = opendir(path);
    if (!dir || statvfs(path, &space)) return failed(path);
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    for (int i = 0; i < n_used; i++)
        if (is_plain(used[i])) utimensat(dirfd(dir), used[i], times, AT_SYMLINK_NOFOLLOW); /* one that is not there is not there */
    printf("{\"free_bytes\":%" PRIu64 ",\"now_s\":%lld}\n", (uint64_t)space.f_bavail * space.f_frsize, (long long)time(NULL));
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct stat status;
        char name[6 * NAME_MAX + 8];
        if (fstatat(dirfd(dir), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) || !S_ISREG(status.st_mode)) continue;
        escape_json(name, sizeof name, entry->d_name, strlen(entry->d_name));
        bool checked = status.st_mtim.tv_sec == CHECKED.tv_sec && !status.st_mtim.tv_nsec;
        printf("{\"name\":\"%s\",\"bytes\":%lld,\"used_s\":%lld,\"changed_s\":%lld,\"checked\":%s}\n", name, (long long)status.st_size,
               (long long)status.st_atim.tv_sec, (long long)status.st_mtim.tv_sec, checked ? "true" : "false");
    }
    closedir(dir);
    return EXIT_FINE;
}
