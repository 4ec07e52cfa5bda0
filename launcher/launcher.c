/* Becomes a script's interpreter: what stands between the keeper's vfork and the script.
 *
 * usage: launcher --status=FD [option...] -- PROGRAM [ARGUMENT...]
 *
 *   --status=FD           where it writes why it failed: stage and errno, two 32-bit numbers;
 *                         closed by the exec, so the end of the file without a byte is success
 *   --cgroup=FD           an open cgroup.procs of the cgroup to enter
 *   --directory=FD        the working directory; an O_PATH descriptor serves
 *   --limit=N:SOFT:HARD   resource limit N; may be repeated
 *   --user=UID:GID:GROUPS user and group for good, supplementary groups (1,2,3 or none), and no
 *                         capability left
 *   --no-new-privileges   set-uid programs have no effect from here on
 *   --terminal            descriptor 0 becomes the controlling terminal
 *   --path=DIRECTORIES    where a PROGRAM without a slash is looked for, as in PATH
 *
 * Always: a session of its own, umask 077, default signals and none blocked, and of all
 * descriptors only 0, 1, 2 and 63, the script's, go on. It reads nothing but its arguments, uses
 * no heap and no library, and hands the environment on unread. An argument that it does not know,
 * or that stands there twice, is an error: it never runs a script with less than what was asked.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/limits.h>
#include <linux/prctl.h>
#include <sys/ioctl.h>

#include "kernel.h"

enum { GROUPS_MOST = 65536, LIMITS_MOST = 16 };
static const unsigned long ID_END = 0xffffffffUL; /* (uid_t)-1 means "leave it" to the kernel */

/* --- How it ends without a script -------------------------------------------------------------- */

static int status = NONE;

static _Noreturn void fail(enum stage stage, long error)
{
    int report[2] = {(int)stage, (int)error};
    if (status != NONE)
        CALL3(write, status, report, sizeof report);
    for (;;)
        CALL1(exit_group, FAILED);
}

static void need(enum stage stage, long result)
{
    if (result < 0)
        fail(stage, -result);
}

/* --- Arguments --------------------------------------------------------------------------------- */

struct limit { unsigned long resource, soft_hard[2]; };

static struct {
    int cgroup, directory;
    int limits, groups;
    int changes_user, no_new_privileges, terminal;
    unsigned uid, gid;
    const char *path;
    char **words;
} asked = {.cgroup = NONE, .directory = NONE};

static struct limit limits[LIMITS_MOST];
static unsigned groups[GROUPS_MOST];

/* Return what follows a prefix, NULL if the text does not begin with it. */
static const char *after(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return 0;
    return text;
}

/* Read a decimal number below or at the most; it must end with the given character. */
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

static void once(int already)
{
    if (already)
        fail(ARGUMENTS, EEXIST);
}

static void descriptor(int *into, const char *text)
{
    once(*into != NONE);
    int value = (int)number(&text, 0, INT_MAX);
    /* Those of the script itself would go on to it. */
    if (value <= 2 || value == SCRIPT)
        fail(ARGUMENTS, EBADF);
    *into = value;
}

static void read_limit(const char *text)
{
    if (asked.limits == LIMITS_MOST)
        fail(ARGUMENTS, E2BIG);
    struct limit *limit = &limits[asked.limits++];
    limit->resource = number(&text, ':', LIMITS_MOST - 1);
    limit->soft_hard[0] = number(&text, ':', ULONG_MAX);
    limit->soft_hard[1] = number(&text, 0, ULONG_MAX);
}

static void read_user(const char *text)
{
    once(asked.changes_user);
    asked.changes_user = 1;
    asked.uid = (unsigned)number(&text, ':', ID_END - 1);
    asked.gid = (unsigned)number(&text, ':', ID_END - 1);
    if (asked.uid == 0) /* it is there to leave root, and could not see that there is no way back */
        fail(ARGUMENTS, EPERM);
    while (*text) {
        const char *end = text;
        while (*end && *end != ',')
            end++;
        if (asked.groups == GROUPS_MOST)
            fail(ARGUMENTS, E2BIG);
        groups[asked.groups++] = (unsigned)number(&text, *end, ID_END - 1);
        if (*end && !*text) /* a comma is followed by a number */
            fail(ARGUMENTS, EINVAL);
    }
}

static void flag(int *into)
{
    once(*into);
    *into = 1;
}

static void read_arguments(char **words)
{
    const char *value;
    /* First of all, so that what is wrong with the others can be told. */
    if (!words[0] || !words[1] || !(value = after(words[1], "--status=")))
        fail(ARGUMENTS, EINVAL);
    int told = NONE;
    descriptor(&told, value);
    status = told;
    for (words += 2; *words; words++) {
        if ((value = after(*words, "--cgroup=")))
            descriptor(&asked.cgroup, value);
        else if ((value = after(*words, "--directory=")))
            descriptor(&asked.directory, value);
        else if ((value = after(*words, "--limit=")))
            read_limit(value);
        else if ((value = after(*words, "--user=")))
            read_user(value);
        else if ((value = after(*words, "--path="))) {
            once(asked.path != 0);
            asked.path = value;
        } else if ((value = after(*words, "--no-new-privileges")) && !*value)
            flag(&asked.no_new_privileges);
        else if ((value = after(*words, "--terminal")) && !*value)
            flag(&asked.terminal);
        else if ((value = after(*words, "--")) && !*value)
            break;
        else
            fail(ARGUMENTS, EINVAL);
    }
    if (!words[0] || !words[1]) /* there is no "--", or nothing behind it */
        fail(ARGUMENTS, EINVAL);
    asked.words = words + 1;
}

/* --- What changes ------------------------------------------------------------------------------ */

static void own_session(void)
{
    need(SESSION, CALL0(setsid));
    if (asked.terminal)
        need(TERMINAL, CALL3(ioctl, 0, TIOCSCTTY, 0));
}

/* While it is still the keeper's user: its cgroup is not the script user's to enter, and a
 * directory may have been closed to everyone since the keeper opened it as that user. */
static void place(void)
{
    if (asked.cgroup != NONE)
        need(CGROUP, CALL3(write, asked.cgroup, "0", 1));
    if (asked.directory != NONE)
        need(DIRECTORY, CALL1(fchdir, asked.directory));
    CALL1(umask, 077);
}

static void set_limits(void)
{
    for (int i = 0; i < asked.limits; i++)
        need(LIMIT, CALL4(prlimit64, 0, limits[i].resource, limits[i].soft_hard, 0));
}

/* Groups first, which only root may change; capabilities by name, since securebits could have
 * let them survive; and then a look whether anything of root is left. */
static void change_user(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct none[2] = {{0}, {0}};
    unsigned real, effective, saved;

    need(GROUPS, CALL2(setgroups, asked.groups, groups));
    need(GROUP, CALL3(setresgid, asked.gid, asked.gid, asked.gid));
    need(USER, CALL3(setresuid, asked.uid, asked.uid, asked.uid));
    need(CAPABILITIES, CALL2(capset, &header, none));
    need(WAY_BACK, CALL3(getresuid, &real, &effective, &saved));
    if (real != asked.uid || effective != asked.uid || saved != asked.uid)
        fail(WAY_BACK, EPERM);
    need(WAY_BACK, CALL3(getresgid, &real, &effective, &saved));
    if (real != asked.gid || effective != asked.gid || saved != asked.gid)
        fail(WAY_BACK, EPERM);
    if (CALL3(setresuid, 0, 0, 0) != -EPERM)
        fail(WAY_BACK, EPERM);
}

static void close_on_exec(int which)
{
    if (which != NONE)
        need(DESCRIPTORS, CALL3(fcntl, which, F_SETFD, FD_CLOEXEC));
}

/* Also what the keeper itself inherited unawares. Before Linux 5.11 only our own. */
static void keep_descriptors(void)
{
    if (CALL3(close_range, 3, SCRIPT - 1, CLOSE_RANGE_CLOEXEC) < 0 ||
        CALL3(close_range, SCRIPT + 1, UINT_MAX, CLOSE_RANGE_CLOEXEC) < 0) {
        close_on_exec(status);
        close_on_exec(asked.cgroup);
        close_on_exec(asked.directory);
    }
}

/* --- Exec -------------------------------------------------------------------------------------- */

static int has_slash(const char *text)
{
    while (*text)
        if (*text++ == '/')
            return 1;
    return 0;
}

/* Write a directory of a path and the name into a buffer; return 0 if they are too long. An empty
 * directory is the working directory. */
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

/* What stands in the way counts, rather than that a program is not in most directories. */
static long run_from_path(char **environment)
{
    static char program[PATH_MAX];
    long error = -ENOENT;
    const char *begin = asked.path;
    for (;;) {
        const char *end = begin;
        while (*end && *end != ':')
            end++;
        long result = -ENAMETOOLONG;
        if (join(program, begin, end, asked.words[0]))
            result = CALL3(execve, program, asked.words, environment);
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
    if (asked.path && !has_slash(asked.words[0]))
        result = run_from_path(environment);
    else
        result = CALL3(execve, asked.words[0], asked.words, environment);
    fail(EXEC, -result);
}

static _Noreturn __attribute__((used)) void launch(char **arguments, char **environment)
{
    read_arguments(arguments);
    own_session();
    place();
    set_limits();
    if (asked.changes_user)
        change_user();
    if (asked.no_new_privileges)
        need(PRIVILEGES, CALL4(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0));
    need(SIGNALS, default_signals());
    keep_descriptors();
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
