/* melt's agent: carries out one job on the device by itself. The parts, each with one thing to do:
 *
 *   main.c      the verbs: start, watch, stop, undo, probe, list, take, hash, rest, burn, clock, user, version
 *   plan.c      the job's `plan` file, one instruction a line
 *   job.c       the job from lock to status: idle window, engine, limits, end
 *   sampler.c   sensors at absolute deadlines into trace.csv
 *   state.c     values set on the device and put back (the undo journal)
 *   bounded.c   files and commands that may hang, each with a time limit
 *   user.c      an agent that runs as root for what it sets, and as the user for all else
 *   probe.c     reads files once, each with a time limit
 *   steady.c    the verbs that do next to nothing, or one thing evenly: rest, burn, clock
 *   blobs.c     files under the name of their hash: brought in parts, hashed, listed
 *   sha256.c    that hash
 *   text.c      escaping, JSON lines, files written whole
 *
 * Nothing is allocated without a bound, no shell is started, and every clock is CLOCK_MONOTONIC.
 */
#ifndef MELT_AGENT_H
#define MELT_AGENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MELT_AGENT_VERSION "1"

enum { MAX_SENSORS = 256, MAX_FILES = 16, MAX_WORDS = 8192, MAX_SETS = 1024, MAX_GROUPS = 64, MAX_RAW = 16384, NAME_LEN = 65, MAX_VALUE = 4096 };

/* Exit codes, told apart by the host. */
enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_LOCKED = 75, EXIT_CORRUPT = 76, EXIT_DENIED = 77 };

typedef struct {
    char name[NAME_LEN];
    int64_t period_ns;
    int64_t timeout_ns;
    bool is_command, reopen, as_root;
    char *paths[MAX_FILES]; /* files, read one right after the other */
    int n_paths;
    char **argv;            /* or a command, NULL-terminated */
    bool has_ceiling;
    double ceiling;
} Sensor;

/* A value to hold: a file's, or one that commands ask for, set and put back. */
typedef struct {
    char *name, *value;         /* the file, or what the commands are called; and what it is to be */
    char **set, **restore, **read; /* argv; NULL for a file. In `restore` the word {old} is what it was */
    char *shown;                /* what events call it, if not by its name */
    char *why;                  /* why it cannot even be tried; else NULL */
} Setting;

/* Whom the engine runs as, and the job's files belong to, where the agent is root. */
typedef struct {
    bool given;
    uid_t uid;
    gid_t gid, groups[MAX_GROUPS];
    int n_groups;
} User;

typedef struct {
    char run_id[128];
    char *lock_path;
    int64_t wall_ns, idle_ns, memory_period_ns;
    uint64_t memory_max_bytes; /* 0: no limit */
    char *cpus;                /* "0,2-3" or NULL */
    User user;
    Sensor sensors[MAX_SENSORS];
    int n_sensors;
    Setting sets[MAX_SETS];
    int n_sets;
    char **whole;  /* folders, of which the first that is there is locked while values are held; NULL: none */
    char **engine; /* argv, NULL-terminated */
    char **env;    /* K=V, NULL-terminated */
} Plan;

/* text.c */
int64_t now_ns(void);
int64_t clock_ns(int clock_id);
void sleep_until_ns(int64_t deadline_ns);
size_t escape_json(char *out, size_t room, const char *bytes, size_t n);
void event(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
void event_open(const char *job_dir);
void event_sync(void);
bool write_whole(const char *path, const char *text);
ssize_t read_file(const char *path, char *buffer, size_t room);
void boot_id(char out[64]);
const char *error_word(int error_number);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* plan.c: false after having said, on stderr, which line is wrong */
bool plan_read(const char *path, Plan *plan);
bool number(const char *text, int64_t low, int64_t high, int64_t *out);
bool cpus_parse(const char *text, void *cpu_set);
bool decode_word(char *word);
size_t encode_word(char *out, size_t room, const char *word);

/* sampler.c */
typedef struct {
    int64_t missed, samples;
    int hung;
} SamplerCounts;
bool sampler_begin(const Plan *plan, const char *job_dir, int64_t start_ns);
void sampler_watch(int64_t t_ns); /* called often: replaces a thread that hangs in a read */
const char *sampler_ceiling(double *value);
void sampler_row(const char *sensor, int64_t due_ns, int64_t t_ns, int64_t read_ns, const char *error,
                 const char *raw, size_t n);
SamplerCounts sampler_end(void);

/* state.c */
bool state_apply(const Plan *plan, const char *job_dir);
void state_held(void);
bool state_restore(const char *job_dir);
int state_restore_leftovers(const char *jobs_dir, const char *except_job, char **whole);
bool state_lock(char **whole);
void state_unlock(void);

/* bounded.c */
enum { HANGS = -1 }; /* in the place of an errno */
typedef struct {
    char **argv;
    int64_t limit_ns;
    const User *user; /* NULL: as the agent itself */
    bool complaints;  /* whether stderr is taken too */
    bool last;        /* of more than there is room for the end is kept, not the begin */
} Command;
int bounded_read(const char *path, char *data, size_t room, size_t *n, int64_t limit_ns);
int bounded_write(const char *path, const char *line, int64_t limit_ns);
const char *bounded_command(const Command *command, char *data, size_t room, size_t *length, int *code);

/* user.c */
bool files_as_user(const User *user);
void files_as_root(void);
bool drop_to_user(const User *user);

/* probe.c */
int probe(int argc, char **argv);

/* steady.c */
int rest(int64_t length_ms);
int burn(int64_t length_ms, int64_t on_ms, int64_t off_ms);
int tell_clock(void);

/* sha256.c */
typedef struct {
    uint32_t h[8];
    uint64_t n_bytes;
    unsigned char rest[64]; /* what of n_bytes is not yet a whole block */
} Sha256;
void sha256_begin(Sha256 *s);
void sha256_add(Sha256 *s, const void *bytes, size_t n);
void sha256_end(Sha256 *s, char hex[65]);
void sha256_state(const Sha256 *s, char hex[65]);

/* blobs.c */
int blob_take(const char *folder, const char *digest, const char *part, uint64_t begin, uint64_t total);
int hash_files(const char *folder, int n, char **names);
int list_folder(const char *path, int n_used, char **used);

/* job.c */
int job_start(const char *job_dir);
int job_watch(const char *job_dir);
int job_stop(const char *job_dir, int64_t limit_ns);

#endif
