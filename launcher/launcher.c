/* Sets up a script's process after the keeper's vfork, and execs the script's interpreter.
 *
 * usage: launcher --status=FD [option...] -- PROGRAM [ARGUMENT...]
 *
 *   --status=FD           a pipe; if a step fails, it gets the step and the errno, two 32-bit
 *                         numbers; the exec closes it, so end of file without a byte means success
 *   --cgroup=FD           the open file cgroup.procs of the cgroup to enter
 *   --directory=FD        the directory to enter before the user changes; O_PATH is enough
 *   --enter=PATH          the directory to enter after the user has changed; a relative path begins
 *                         at the directory of --directory
 *   --limit=N:SOFT:HARD   resource limit N; may be repeated
 *   --nice=N              add N, 0 to 19, to the nice value after the user has changed
 *   --user=UID:GID:GROUPS change user, group and supplementary groups (1,2,3 or none) for good, and
 *                         drop all capabilities
 *   --no-new-privileges   set-uid programs have no effect from here on
 *   --terminal            descriptor 0 becomes the controlling terminal
 *   --path=DIRECTORIES    where to look up a PROGRAM without a slash, as in PATH
 *
 * The launcher always starts a session, sets the umask to 077, and resets and unblocks all signals.
 * It closes all descriptors except 0, 1, 2, 63 (the script) and the status pipe, which the exec
 * closes. It reads only its arguments, uses no heap and no library, and passes the environment on
 * unread. An unknown or repeated argument is an error, so a script never runs with less isolation
 * than requested.
 *
 * Two steps take for ever if a file system does not answer: entering PATH, and the exec. They come
 * last, after the other descriptors are closed. So a process that hangs there does not keep the
 * pipes of other scripts open.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/limits.h>
#include <linux/prctl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "kernel.h"

enum { GROUPS_MOST = 65536, LIMITS_MOST = 16, NICE_MOST = 19 };
static const unsigned long ID_END = 0xffffffffUL; /* to the kernel (uid_t)-1 means no change */

/* --- Failure ------------------------------------------------------------------------------------ */

static int status = NONE;

static _Noreturn void fail(enum step step, long error)
{
    int report[2] = {(int)step, (int)error};
    if (status != NONE)
        CALL3(write, status, report, sizeof report);
    for (;;)
        CALL1(exit_group, FAILED);
}

static void require(enum step step, long result)
{
    if (result < 0)
        fail(step, -result);
}

/* --- Arguments --------------------------------------------------------------------------------- */

struct limit { unsigned long resource, soft_hard[2]; };

static struct {
    int cgroup, directory;
    int limits, groups, nice;
    int changes_user, no_new_privileges, terminal;
    unsigned uid, gid;
    const char *enter, *path;
    char **argv;
} options = {.cgroup = NONE, .directory = NONE, .nice = NONE};

static struct limit limits[LIMITS_MOST];
static unsigned groups[GROUPS_MOST];

/* Return the text after a prefix, NULL if the text does not begin with the prefix. */
static const char *after(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return 0;
    return text;
}

/* Read a decimal number of at most `most`; the character `end` must follow. Move `text` past both,
 * but not past the end of the string. */
static unsigned long number(const char **text, char end, unsigned long most)
{
    const char *at = *text;
    unsigned long value = 0;
    if (*at < '0' || *at > '9')
        fail(ARGUMENTS, EINVAL);
    for (; *at >= '0' && *at <= '9'; at++) {
        unsigned long digit = (unsigned long)(*at - '0');
        if (value > (most - digit) / 10)
            fail(ARGUMENTS, ERANGE);
        value = value * 10 + digit;
    }
    if (*at != end)
        fail(ARGUMENTS, EINVAL);
    *text = end ? at + 1 : at;
    return value;
}

static void reject_repeated(int already)
{
    if (already)
        fail(ARGUMENTS, EEXIST);
}

static void descriptor(int *into, const char *text)
{
    reject_repeated(*into != NONE);
    int value = (int)number(&text, 0, INT_MAX);
    /* The script keeps the descriptors 0, 1, 2 and 63, so no option may name one of them. */
    if (value <= 2 || value == SCRIPT)
        fail(ARGUMENTS, EBADF);
    *into = value;
}

static void text(const char **into, const char *value)
{
    reject_repeated(*into != 0);
    *into = value;
}

static void read_limit(const char *text)
{
    if (options.limits == LIMITS_MOST)
        fail(ARGUMENTS, E2BIG);
    struct limit *limit = &limits[options.limits++];
    limit->resource = number(&text, ':', LIMITS_MOST - 1);
    limit->soft_hard[0] = number(&text, ':', ULONG_MAX);
    limit->soft_hard[1] = number(&text, 0, ULONG_MAX);
}

static void read_nice(const char *text)
{
    reject_repeated(options.nice != NONE);
    options.nice = (int)number(&text, 0, NICE_MOST);
}

static void read_user(const char *text)
{
    reject_repeated(options.changes_user);
    options.changes_user = 1;
    options.uid = (unsigned)number(&text, ':', ID_END - 1);
    options.gid = (unsigned)number(&text, ':', ID_END - 1);
    if (options.uid == 0) /* change_user checks that root cannot be regained, and would fail */
        fail(ARGUMENTS, EPERM);
    while (*text) {
        const char *end = text;
        while (*end && *end != ',')
            end++;
        if (options.groups == GROUPS_MOST)
            fail(ARGUMENTS, E2BIG);
        groups[options.groups++] = (unsigned)number(&text, *end, ID_END - 1);
        if (*end && !*text) /* a comma is followed by a number */
            fail(ARGUMENTS, EINVAL);
    }
}

static void flag(int *into)
{
    reject_repeated(*into);
    *into = 1;
}

static void read_arguments(char **argv)
{
    const char *value;
    /* The status comes first, so that errors in the other arguments can be reported. */
    if (!argv[0] || !argv[1] || !(value = after(argv[1], "--status=")))
        fail(ARGUMENTS, EINVAL);
    int status_descriptor = NONE;
    descriptor(&status_descriptor, value);
    status = status_descriptor;
    for (argv += 2; *argv; argv++) {
        if ((value = after(*argv, "--cgroup=")))
            descriptor(&options.cgroup, value);
        else if ((value = after(*argv, "--directory=")))
            descriptor(&options.directory, value);
        else if ((value = after(*argv, "--limit=")))
            read_limit(value);
        else if ((value = after(*argv, "--nice=")))
            read_nice(value);
        else if ((value = after(*argv, "--user=")))
            read_user(value);
        else if ((value = after(*argv, "--enter=")))
            text(&options.enter, value);
        else if ((value = after(*argv, "--path=")))
            text(&options.path, value);
        else if ((value = after(*argv, "--no-new-privileges")) && !*value)
            flag(&options.no_new_privileges);
        else if ((value = after(*argv, "--terminal")) && !*value)
            flag(&options.terminal);
        else if ((value = after(*argv, "--")) && !*value)
            break;
        else
            fail(ARGUMENTS, EINVAL);
    }
    if (!argv[0] || !argv[1]) /* "--" or the program is missing */
        fail(ARGUMENTS, EINVAL);
    options.argv = argv + 1;
}

/* --- Descriptors -------------------------------------------------------------------------------- */

struct entry { unsigned long inode; long next; unsigned short bytes; unsigned char type; char name[]; };

/* Close a descriptor, unless the script or the report of a failure needs it. */
static void close_foreign(unsigned which)
{
    if (which > 2 && which != SCRIPT && which != (unsigned)status)
        CALL1(close, which);
}

/* Close the descriptors that /proc lists; return whether the whole list was read. The kernel
 * continues the list after the number that it returned last, so a close skips no descriptor. */
static int close_listed(void)
{
    static char list[4096] __attribute__((aligned(8)));
    long bytes, handle = CALL4(openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY, 0);
    if (handle < 0)
        return 0;
    while ((bytes = CALL3(getdents64, handle, list, sizeof list)) > 0)
        for (long at = 0; at < bytes; at += ((struct entry *)(list + at))->bytes) {
            const char *name = ((struct entry *)(list + at))->name;
            unsigned which = 0;
            while (*name >= '0' && *name <= '9')
                which = which * 10 + (unsigned)(*name++ - '0');
            if (!*name && which != (unsigned)handle)
                close_foreign(which);
        }
    CALL1(close, handle);
    return bytes == 0;
}

static int close_between(unsigned first, unsigned last)
{
    return first > last || CALL3(close_range, first, last, 0) == 0;
}

/* Close also descriptors that the keeper has inherited without close-on-exec. Linux before 5.9 has
 * no close_range; there, close what /proc lists. If /proc is missing too, close only the
 * descriptors of the launcher's options, and leave open those that the keeper has inherited. */
static void close_descriptors(void)
{
    unsigned low = SCRIPT, high = (unsigned)status;
    if (high < low) {
        low = (unsigned)status;
        high = SCRIPT;
    }
    require(DESCRIPTORS, CALL3(fcntl, status, F_SETFD, FD_CLOEXEC));
    if (close_between(3, low - 1) && close_between(low + 1, high - 1) &&
        close_between(high + 1, UINT_MAX))
        return;
    if (!close_listed()) {
        close_foreign((unsigned)options.cgroup);
        close_foreign((unsigned)options.directory);
    }
}

/* --- Setup -------------------------------------------------------------------------------------- */

static void start_session(void)
{
    require(SESSION, CALL0(setsid));
    if (options.terminal)
        require(TERMINAL, CALL3(ioctl, 0, TIOCSCTTY, 0));
}

/* Call this while the process still has the keeper's user. The script's user may not enter the
 * cgroup, and a script may have taken away that user's access to the directory (chmod 0). */
static void enter_cgroup_and_directory(void)
{
    if (options.cgroup != NONE)
        require(CGROUP, CALL3(write, options.cgroup, "0", 1));
    if (options.directory != NONE)
        require(DIRECTORY, CALL1(fchdir, options.directory));
    CALL1(umask, 077);
}

static void set_limits(void)
{
    for (int i = 0; i < options.limits; i++)
        require(LIMIT, CALL4(prlimit64, 0, limits[i].resource, limits[i].soft_hard, 0));
}

/* The system call returns 20 minus the nice value, so that no result looks like an error. The kernel
 * takes a value above the highest one for the highest one. */
static void add_nice(void)
{
    long present = CALL2(getpriority, PRIO_PROCESS, 0);
    require(LIMIT, present);
    require(LIMIT, CALL3(setpriority, PRIO_PROCESS, 0, 20 - present + options.nice));
}

/* The groups come first, since only root may change them. Capabilities are dropped explicitly,
 * since securebits may keep them across setresuid. At the end, check that root cannot be
 * regained. */
static void change_user(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct none[2] = {{0}, {0}};
    unsigned real, effective, saved;

    require(GROUPS, CALL2(setgroups, options.groups, groups));
    require(GROUP, CALL3(setresgid, options.gid, options.gid, options.gid));
    require(USER, CALL3(setresuid, options.uid, options.uid, options.uid));
    require(CAPABILITIES, CALL2(capset, &header, none));
    require(USER_CHECK, CALL3(getresuid, &real, &effective, &saved));
    if (real != options.uid || effective != options.uid || saved != options.uid)
        fail(USER_CHECK, EPERM);
    require(USER_CHECK, CALL3(getresgid, &real, &effective, &saved));
    if (real != options.gid || effective != options.gid || saved != options.gid)
        fail(USER_CHECK, EPERM);
    if (CALL3(setresuid, 0, 0, 0) != -EPERM)
        fail(USER_CHECK, EPERM);
}

/* --- Exec -------------------------------------------------------------------------------------- */

static int has_slash(const char *text)
{
    while (*text)
        if (*text++ == '/')
            return 1;
    return 0;
}

/* Join a directory and a name in a buffer of PATH_MAX bytes; return 0 if the result is too long. An
 * empty directory means the working directory. */
static int join(char *into, const char *begin, const char *end, const char *name)
{
    char *at = into, *last = into + PATH_MAX - 1;
    while (begin < end && at < last)
        *at++ = *begin++;
    if (at > into && at[-1] != '/' && at < last)
        *at++ = '/';
    while (*name && at < last)
        *at++ = *name++;
    *at = 0;
    return begin == end && !*name;
}

/* Run the program from the first directory that has it. Return the first error other than "not
 * found", since most directories do not contain the program. */
static long run_from_path(char **environment)
{
    static char program[PATH_MAX];
    long error = -ENOENT;
    const char *begin = options.path;
    for (;;) {
        const char *end = begin;
        while (*end && *end != ':')
            end++;
        long result = -ENAMETOOLONG;
        if (join(program, begin, end, options.argv[0]))
            result = CALL3(execve, program, options.argv, environment);
        if (result != -ENOENT && result != -ENOTDIR && error == -ENOENT)
            error = result;
        if (!*end)
            return error;
        begin = end + 1;
    }
}

static _Noreturn void run(char **environment)
{
    long result;
    if (options.path && !has_slash(options.argv[0]))
        result = run_from_path(environment);
    else
        result = CALL3(execve, options.argv[0], options.argv, environment);
    fail(EXEC, -result);
}

static _Noreturn __attribute__((used)) void launch(char **arguments, char **environment)
{
    read_arguments(arguments);
    start_session();
    enter_cgroup_and_directory();
    close_descriptors();
    set_limits();
    if (options.changes_user)
        change_user();
    if (options.nice != NONE)
        add_nice();
    if (options.no_new_privileges)
        require(PRIVILEGES, CALL4(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0));
    require(SIGNALS, default_signals());
    if (options.enter)
        require(ENTER, CALL1(chdir, options.enter));
    run(environment);
}

#if defined(HOSTED)
int main(int count, char **arguments, char **environment)
{
    (void)count;
    launch(arguments, environment);
}
#else
static _Noreturn __attribute__((used)) void begin(long *stack)
{
    char **arguments = (char **)(stack + 1);
    launch(arguments, arguments + stack[0] + 1);
}

/* The kernel leaves the count of arguments, the arguments and the environment on the stack. */
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tbl begin\n");
#endif
#endif
