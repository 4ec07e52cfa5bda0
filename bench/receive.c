/* Opens many connections to a loopback port, and reads all of them in one loop. The benchmark reads
 * the service and its limit with this program, so the readers take the same CPU time in both cases.
 * Usage: receive PORT CONNECTIONS < request; the request may be empty.
 * Prints `ready` once all connections are open and, if there is a request, each has received a part
 * of its answer. When all connections have ended, prints the number of bytes received and the time
 * of CLOCK_MONOTONIC in seconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 18];

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int port = atoi(argv[1]), connections = atoi(argv[2]);
    static char request[1 << 16];
    size_t length = fread(request, 1, sizeof request, stdin);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    char *heard = calloc(connections, 1);
    int *sockets = calloc(connections, sizeof *sockets);
    int poll = epoll_create1(0), quiet = length ? connections : 0, open = connections;
    long long total = 0;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(sockets[i], (struct sockaddr *)&address, sizeof address))
            return 1;
        if (length && write(sockets[i], request, length) != (ssize_t)length)
            return 1;
        epoll_ctl(poll, EPOLL_CTL_ADD, sockets[i], &event);
    }
    if (!quiet)
        puts("ready"), fflush(stdout);
    while (open) {
        struct epoll_event events[256];
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int number = events[i].data.u32;
            ssize_t got = read(sockets[number], buffer, sizeof buffer);
            if (got <= 0) {
                close(sockets[number]);
                open--;
                continue;
            }
            total += got;
            if (!heard[number] && quiet) {
                heard[number] = 1;
                if (--quiet == 0)
                    puts("ready"), fflush(stdout);
            }
        }
    }
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    printf("%lld %.6f\n", total, at.tv_sec + at.tv_nsec / 1e9);
    return 0;
}
