/* Copies stdin to many sockets. Each piece that read() returns is written to every socket.
 * Usage: fan_out CONNECTIONS < data
 * Prints the loopback port on which it listens, and starts once all CONNECTIONS are accepted. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    int connections = atoi(argv[1]);
    int *sockets = calloc(connections, sizeof *sockets);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    static char piece[1 << 16];
    ssize_t got;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024))
        return 1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (int i = 0; i < connections; i++)
        sockets[i] = accept(listener, NULL, NULL);
    while ((got = read(0, piece, sizeof piece)) > 0)
        for (int i = 0; i < connections; i++)
            for (ssize_t at = 0, sent; at < got; at += sent)
                if ((sent = write(sockets[i], piece + at, got - at)) <= 0)
                    return 1;
    return 0;
}
