/* Starts a script's process in the keeper's own memory, which it shares until its exec. This costs
 * one exec, and the keeper does not wait for it.
 *
 * It is a shared object that the keeper loads, for scripts of the keeper's own user. `begin_1`
 * makes a process (clone) that shares the keeper's memory but has its own stack, descriptors,
 * directory and signals. The process sets up what a script needs and execs, while the keeper goes
 * on. So until its exec it must write only to its own stack: it may call no library function (errno
 * is the keeper's), set no variable and use no heap. The keeper must not change what the process
 * reads until `status` is closed, by its exec or its end.
 *
 * A process of another user must not share the keeper's memory; launcher.c serves other users. See
 * docs/adr/0017-scripts-begin-in-the-keepers-memory.md.
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
#error "clone.c needs system calls without a library, which kernel.h lacks for this machine"
#endif

/* The process to start; keeper/spawn/cloning.py has the same fields. Lists end with a null
 * pointer. */
struct request {
    int streams[3];                     /* become 0, 1 and 2 */
    int script;                         /* becomes 63 */
    int keeper_pid;
    int status;                         /* gets the step that failed and the errno, as two ints */
    int directory;                      /* the working directory; may be an O_PATH descriptor */
    int cgroup;                         /* an open cgroup.procs, or -1 */
    int changes_limits;                 /* whether to set descriptor_limits */
    unsigned long descriptor_limits[2]; /* soft, hard */
    char **programs;                    /* paths, tried in turn, as execvp does with PATH */
    char **argv;
    char **environment;
};

static _Noreturn void fail(const struct request *request, enum step step, long error)
{
    int report[2] = {(int)step, (int)error};
    CALL3(write, request->status, report, sizeof report);
    for (;;)
        CALL1(exit_group, FAILED);
}

static void require(const struct request *request, enum step step, long result)
{
    if (result < 0)
        fail(request, step, -result);
}

/* A later keeper finds a script by its environment. Until its exec the process has the keeper's
 * environment and could not be found, so it dies with the keeper. After the exec it lives on until
 * it is found; `signal` is then 0. */
static void die_with(const struct request *request, int signal)
{
    require(request, SESSION, CALL2(prctl, PR_SET_PDEATHSIG, signal));
    if (CALL0(getppid) != request->keeper_pid) /* the keeper died before the option was set */
        CALL1(exit_group, FAILED);
}

/* Report the first error other than "not found", since most directories lack the program. */
static long run(const struct request *request)
{
    long error = -ENOENT;
    for (char **program = request->programs; *program; program++) {
        long result = CALL3(execve, *program, request->argv, request->environment);
        if (error == -ENOENT && (result != -ENOTDIR || !request->programs[1]))
            error = result;
    }
    return error;
}

/* The body of the new process. */
static int run_child(void *argument)
{
    const struct request *request = argument;

    die_with(request, SIGKILL);
    require(request, SESSION, CALL0(setsid));
    if (request->cgroup != NONE)
        require(request, CGROUP, CALL3(write, request->cgroup, "0", 1));
    require(request, DIRECTORY, CALL1(fchdir, request->directory));
    CALL1(umask, 077);
    if (request->changes_limits)
        require(request, LIMIT, CALL4(prlimit64, 0, RLIMIT_NOFILE, request->descriptor_limits, 0));
    for (int i = 0; i < 3; i++)
        require(request, DESCRIPTORS, CALL3(dup3, request->streams[i], i, 0));
    require(request, DESCRIPTORS, CALL3(dup3, request->script, SCRIPT, 0));
    /* Closes descriptors that the keeper inherited without close-on-exec. Its own have that flag.
     * Before Linux 5.11 these calls fail, and inherited descriptors stay open. */
    CALL3(close_range, 3, SCRIPT - 1, CLOSE_RANGE_CLOEXEC);
    CALL3(close_range, SCRIPT + 1, UINT_MAX, CLOSE_RANGE_CLOEXEC);
    /* From here on a signal ends or stops the process like the script. Until here all signals are
     * blocked: the handlers are the keeper's, and would write to its memory. */
    require(request, SIGNALS, default_signals());
    die_with(request, 0);
    fail(request, EXEC, -run(request));
}

/* Start a process; return its id or a negative errno. The number in the name is the version of
 * struct request, so that a keeper does not use a library of another version.
 *
 * stack: the end of the process's stack, aligned to 16 bytes; a few KiB are enough.
 */
__attribute__((visibility("default"))) long begin_1(const struct request *request, void *stack)
{
    static const unsigned long all = ~0UL;
    unsigned long before;

    CALL4(rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof before);
    /* The C library's clone, since no C code can return on another stack. It writes only to that
     * stack. */
    long pid = clone(run_child, stack, CLONE_VM | SIGCHLD, (void *)request);
    long result = pid < 0 ? -errno : pid;
    CALL4(rt_sigprocmask, SIG_SETMASK, &before, 0, sizeof before);
    return result;
}
