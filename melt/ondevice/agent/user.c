/* An agent that was started as root, because what it is to hold needs that, is root for those values alone: its own files
 * are the user's, and so is the engine. Otherwise the user could not remove a job, and an engine would run in another state
 * (other limits, other groups) than one whose run needs nothing held.
 *
 * The kernel's own calls: a library's change the ids of all threads. */
#include "agent.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool take_groups(const User *user) { return syscall(SYS_setgroups, (size_t)user->n_groups, user->groups) == 0; }

/* From now on this thread, and those it starts, make and open files as the user. False with errno. */
bool files_as_user(const User *user) {
    if (!user->given) return true;
    if (geteuid() != 0) {
        errno = EPERM;
        return geteuid() == user->uid;
    }
    if (!take_groups(user)) return false;
    syscall(SYS_setfsgid, user->gid);
    syscall(SYS_setfsuid, user->uid); /* it says nothing of its success: ask */
    errno = EPERM;
    return (uid_t)syscall(SYS_setfsuid, -1) == user->uid;
}

/* What is held is read and written as root again, where the agent is root: by this thread alone. */
void files_as_root(void) {
    if (geteuid() != 0) return;
    syscall(SYS_setfsgid, getegid());
    syscall(SYS_setfsuid, 0);
}

/* For good: before an exec. False with errno. */
bool drop_to_user(const User *user) {
    if (!user->given || geteuid() != 0) return true;
    return take_groups(user) && syscall(SYS_setresgid, user->gid, user->gid, user->gid) == 0 &&
           syscall(SYS_setresuid, user->uid, user->uid, user->uid) == 0;
}
