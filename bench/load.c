/* Sends one HTTP request again and again on persistent connections. It uses as little CPU time as
 * possible, because it shares the machine with the measured service.
 * Usage: load PORT CONNECTIONS COUNT SECONDS STATUS < request
 * Ends after COUNT answers or SECONDS, whichever comes first; 0 means no such limit. Prints the
 * number of answers and the elapsed seconds. Fails if an answer has a status other than STATUS or
 * has no Content-Length. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_BYTES 65536

struct connection {
    int socket;
    size_t got;
    char answer[ANSWER_BYTES + 1];
};

static char *request;
static size_t request_bytes;
static const char *status;

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void fail(const char *what, const char *detail)
{
    fprintf(stderr, "cannot go on: %s: %.300s\n", what, detail);
    exit(1);
}

static void read_request(void)
{
    size_t room = 0, got;
    do {
        room += 1 << 20;
        request = realloc(request, room);
        got = fread(request + request_bytes, 1, room - request_bytes, stdin);
        request_bytes += got;
    } while (got > 0);
}

static void connect_to(struct connection *connection, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection->socket, (struct sockaddr *)&address, sizeof address))
        fail("no connection", "refused");
    setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Sends a whole request. This does not block for long: requests fit into the socket's buffer. */
static void ask(struct connection *connection)
{
    connection->got = 0;
    for (size_t at = 0; at < request_bytes;) {
        ssize_t sent = write(connection->socket, request + at, request_bytes - at);
        if (sent <= 0)
            fail("not sent", "the connection broke");
        at += sent;
    }
}

/* Returns whether the answer is complete. */
static int answered(struct connection *connection)
{
    connection->answer[connection->got] = 0;
    char *end = strstr(connection->answer, "\r\n\r\n");
    if (!end)
        return 0;
    if (strncmp(connection->answer + 9, status, 3))
        fail("another answer", connection->answer);
    char *length = strcasestr(connection->answer, "content-length:");
    if (!length || length > end)
        fail("no length", connection->answer);
    return connection->got >= (size_t)(end + 4 - connection->answer) + strtoul(length + 15, NULL, 10);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        fail("usage", "load PORT CONNECTIONS COUNT SECONDS STATUS < request");
    int port = atoi(argv[1]), connections = atoi(argv[2]);
    long count = atol(argv[3]), sent = 0, done = 0;
    double seconds = atof(argv[4]);
    status = argv[5];
    read_request();
    int poll = epoll_create1(0);
    double began = now();
    for (int i = 0; i < connections && (!count || sent < count); i++, sent++) {
        struct connection *each = calloc(1, sizeof *each);
        connect_to(each, port);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = each};
        epoll_ctl(poll, EPOLL_CTL_ADD, each->socket, &event);
        ask(each);
    }
    while (done < sent) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll, events, 64, -1);
        int over = seconds > 0 && now() - began >= seconds;
        for (int i = 0; i < ready; i++) {
            struct connection *each = events[i].data.ptr;
            ssize_t got = read(each->socket, each->answer + each->got, ANSWER_BYTES - each->got);
            if (got <= 0)
                fail("no answer", "the connection broke, or the answer is too long");
            each->got += got;
            if (!answered(each))
                continue;
            done++;
            if (!over && (!count || sent < count)) {
                sent++;
                ask(each);
            }
        }
    }
    printf("%ld %.6f\n", done, now() - began);
    return 0;
}
