/* Begins a script's process in the keeper's own memory, for the time until its exec: one exec, and
 * the keeper does not wait for it.
 *
 * A shared object that the keeper loads, for scripts of the keeper's own user. `begin_1` makes a
 * process (clone) that has the keeper's memory and a stack of its own, and everything else for
 * itself: descriptors, directory, signals. It changes what a script has otherwise and execs; the
 * keeper meanwhile goes on. So until its exec it must write nothing that the keeper could see but
 * its own stack: no library (whose errno is the keeper's), no variable, nothing on the heap. And
 * what it reads has to stay as it is until `status` is closed, by its exec or its end.
 *
 * With another user this would be a process of that user in the keeper's memory; launcher.c is for
 * that. Why so: docs/adr/0017-scripts-begin-in-the-keepers-memory.md.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

#include "kernel.h"

#ifdef HOSTED
#error "there is no way here to call the kernel without a library"
#endif

/* What is to begin; keeper/spawn/cloning.py has the same list. Strings and lists end with a zero. */
struct request {
    int streams[3];           /* become 0, 1 and 2 */
    int script;               /* becomes 63 */
    int keeper;               /* process id of who begins it */
    int status;               /* gets stage and errno, two 32-bit numbers, of what failed */
    int directory;            /* the working directory; an O_PATH descriptor serves */
    int cgroup;               /* an open cgroup.procs, or -1 */
    int changes_limit;        /* whether the two limits count */
    unsigned long files[2];   /* soft and hard limit of descriptors */
    char **programs;          /* tried in turn, as a PATH is gone through */
    char **words;             /* of the program, its name first */
    char **environment;
};

static _Noreturn void fail(const struct request *asked, enum stage stage, long error)
{
    int report[2] = {(int)stage, (int)error};
    CALL3(write, asked->status, report, sizeof report);
    for (;;)
        CALL1(exit_group, FAILED);
}

static void need(const struct request *asked, enum stage stage, long result)
{
    if (result < 0)
        fail(asked, stage, -result);
}

/* Until its exec nobody could tell whose it is: what tells a script apart is in its environment, and
 * this still has the keeper's. So it does not outlive the keeper as that, or as a script that the
 * next keeper did not find. Afterwards it does, until it is found. */
static void die_with(const struct request *asked, int signal)
{
    need(asked, SESSION, CALL2(prctl, PR_SET_PDEATHSIG, signal));
    if (CALL0(getppid) != asked->keeper) /* it died before the kernel was asked */
        CALL1(exit_group, FAILED);
}

/* What stands in the way counts, rather than that a program is not in most directories. */
static long run(const struct request *asked)
{
    long error = -ENOENT;
    for (char **program = asked->programs; *program; program++) {
        long result = CALL3(execve, *program, asked->words, asked->environment);
        if (error == -ENOENT && (result != -ENOTDIR || !asked->programs[1]))
            error = result;
    }
    return error;
}

/* The new process. */
static int become(void *given)
{
    const struct request *asked = given;

    die_with(asked, SIGKILL);
    need(asked, SESSION, CALL0(setsid));
    if (asked->cgroup != NONE)
        need(asked, CGROUP, CALL3(write, asked->cgroup, "0", 1));
    need(asked, DIRECTORY, CALL1(fchdir, asked->directory));
    CALL1(umask, 077);
    if (asked->changes_limit)
        need(asked, LIMIT, CALL4(prlimit64, 0, RLIMIT_NOFILE, asked->files, 0));
    for (int i = 0; i < 3; i++)
        need(asked, DESCRIPTORS, CALL3(dup3, asked->streams[i], i, 0));
    need(asked, DESCRIPTORS, CALL3(dup3, asked->script, SCRIPT, 0));
    /* What the keeper itself inherited unawares; its own are closed by the exec in any case, which
     * has to do before Linux 5.11. */
    CALL3(close_range, 3, SCRIPT - 1, CLOSE_RANGE_CLOEXEC);
    CALL3(close_range, SCRIPT + 1, UINT_MAX, CLOSE_RANGE_CLOEXEC);
    /* From here on a signal ends it, or stops it, as it would the script. Until here all of them
     * wait: the handlers are the keeper's, and would write to its memory. */
    need(asked, SIGNALS, default_signals());
    die_with(asked, 0);
    fail(asked, EXEC, -run(asked));
}

/* Begin a process; return its id, or the errno below zero. The number is of the layout of struct
 * request: a library and a keeper that were not built together do not find each other.
 *
 * stack: the end of its stack, aligned to 16 bytes; it needs little of it.
 */
__attribute__((visibility("default"))) long begin_1(const struct request *asked, void *stack)
{
    static const unsigned long all = ~0UL;
    unsigned long before;

    CALL4(rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof before);
    /* The library's clone does what no C can: it returns on another stack. It writes to nothing
     * but that. */
    long pid = clone(become, stack, CLONE_VM | SIGCHLD, (void *)asked);
    long result = pid < 0 ? -errno : pid;
    CALL4(rt_sigprocmask, SIG_SETMASK, &before, 0, sizeof before);
    return result;
}
