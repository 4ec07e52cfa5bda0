/* System calls without a library, the steps of a new process, and the default signal handling that
 * every script gets.
 */
#include <asm/unistd.h>
#include <errno.h>

/* The steps up to the exec, in their order; keeper/spawn/exec_failure.py has the same list. */
enum step {
    ARGUMENTS = 1, SESSION, TERMINAL, CGROUP, DIRECTORY, DESCRIPTORS, LIMIT, GROUPS, GROUP, USER,
    CAPABILITIES, USER_CHECK, PRIVILEGES, SIGNALS, ENTER, EXEC
};

enum { SCRIPT = 63, SIGNALS_END = 64, NONE = -1, FAILED = 127 };

/* --- System calls without a library; ADR 0015 tells what a library costs ----------------------- */

#if defined(__x86_64__) && !defined(HOSTED)
static long kernel(long number, long a, long b, long c, long d)
{
    long result;
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__) && !defined(HOSTED)
static long kernel(long number, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = 0;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory");
    return x0;
}
#else
#ifndef HOSTED
#define HOSTED
#endif
#include <unistd.h>
static long kernel(long number, long a, long b, long c, long d)
{
    long result = syscall(number, a, b, c, d, 0L);
    return result < 0 ? -errno : result;
}
#endif

/* The fifth argument is always 0: prctl fails if an unused argument is not 0. */
#define CALL0(name) kernel(__NR_##name, 0, 0, 0, 0)
#define CALL1(name, a) kernel(__NR_##name, (long)(a), 0, 0, 0)
#define CALL2(name, a, b) kernel(__NR_##name, (long)(a), (long)(b), 0, 0)
#define CALL3(name, a, b, c) kernel(__NR_##name, (long)(a), (long)(b), (long)(c), 0)
#define CALL4(name, a, b, c, d) kernel(__NR_##name, (long)(a), (long)(b), (long)(c), (long)(d))

/* --- Signals ------------------------------------------------------------------------------------ */

/* Ignored and blocked signals stay so across an exec. The keeper ignores two signals, and its own
 * parent may have ignored more. So reset every signal. The kernel answers EINVAL for SIGKILL and
 * SIGSTOP, which is not an error here. */
static long default_signals(void)
{
    static const struct {
        void *handler;
        unsigned long flags, restorer, mask;
    } by_default = {0, 0, 0, 0};
    static const unsigned long nothing = 0;

    for (int i = 1; i <= SIGNALS_END; i++)
        CALL4(rt_sigaction, i, &by_default, 0, sizeof nothing);
    return CALL4(rt_sigprocmask, 2 /* SIG_SETMASK */, &nothing, 0, sizeof nothing);
}
