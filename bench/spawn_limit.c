/* The machine's own limit: runs `bash -c 'echo hello'` with posix_spawn and reads the output.
 * Usage: spawn_limit COUNT AT_ONCE
 * Runs COUNT scripts, at most AT_ONCE at a time. Prints how many were completed per second. */
#define _GNU_SOURCE
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

extern char **environ;

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 1000;
    int at_once = argc > 2 ? atoi(argv[2]) : 8;
    char *words[] = {"bash", "-c", "echo hello", NULL};
    struct pollfd *slots = calloc(at_once, sizeof *slots);
    pid_t *pids = calloc(at_once, sizeof *pids);
    int started = 0, done = 0;
    struct timespec begin, end;

    for (int i = 0; i < at_once; i++)
        slots[i].fd = -1;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (done < count) {
        for (int i = 0; i < at_once && started < count; i++) {
            if (slots[i].fd >= 0)
                continue;
            int ends[2];
            posix_spawn_file_actions_t actions;
            if (pipe2(ends, O_CLOEXEC))
                return 1;
            posix_spawn_file_actions_init(&actions);
            posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
            if (posix_spawn(&pids[i], "/bin/bash", &actions, NULL, words, environ))
                return 1;
            posix_spawn_file_actions_destroy(&actions);
            close(ends[1]);
            slots[i] = (struct pollfd){.fd = ends[0], .events = POLLIN};
            started++;
        }
        poll(slots, at_once, -1);
        for (int i = 0; i < at_once; i++) {
            char buffer[4096];
            if (slots[i].fd < 0 || !slots[i].revents)
                continue;
            if (read(slots[i].fd, buffer, sizeof buffer) > 0)
                continue;
            close(slots[i].fd);
            slots[i].fd = -1;
            waitpid(pids[i], NULL, 0);
            done++;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.1f\n", count / ((end.tv_sec - begin.tv_sec) + (end.tv_nsec - begin.tv_nsec) / 1e9));
    return 0;
}
