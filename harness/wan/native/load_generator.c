/* Offers UDP load from one network namespace and counts it in another: what a WAN core carries is the difference.
 *
 *     load_generator send ADDRESS PORT BYTES PACKETS_PER_S SECONDS      0 packets per second: as many as it can
 *     load_generator receive ADDRESS PORT                               until its standard input ends
 *
 * BYTES is the size of the IP packet. Both print one line of JSON when they end: packets, bytes (of IP), seconds from
 * the first to the last packet, cpu_s (this process's own). The receiver prints "ready" first. Packets are handed to
 * the kernel in batches, or a system call for each would be the bottleneck that is measured.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, PACED_BATCH = 16, LARGEST = 65535, BUFFER = 64 << 20, DRAIN_MS = 20 };
#define NS 1000000000LL

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS + now.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "load generator: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int resolved(const char *address, const char *port, struct addrinfo **found) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM};
    int code = getaddrinfo(address, port, &hints, found);
    if (code) {
        fprintf(stderr, "load generator: %s %s: %s\n", address, port, gai_strerror(code));
        exit(1);
    }
    int descriptor = socket((*found)->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) fail("socket");
    int room = BUFFER;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    return descriptor;
}

static int headers(const struct addrinfo *peer) {
    return (peer->ai_family == AF_INET6 ? 40 : 20) + 8;
}

static void report(uint64_t packets, uint64_t bytes, int64_t span_ns) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"packets\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"seconds\": %.6f, \"cpu_s\": %.6f}\n", packets, bytes,
           (double)span_ns / NS, cpu);
}

static void send_load(struct addrinfo *peer, int descriptor, int size, double rate, double seconds) {
    static uint8_t payload[LARGEST];
    int length = size - headers(peer);
    if (length < 0 || length > LARGEST) {
        fprintf(stderr, "load generator: packets of %d bytes cannot be\n", size);
        exit(1);
    }
    if (connect(descriptor, peer->ai_addr, peer->ai_addrlen) < 0) fail("connect");
    struct iovec piece = {payload, length};
    struct mmsghdr batch[BATCH] = {0};
    for (int i = 0; i < BATCH; i++) batch[i].msg_hdr = (struct msghdr){.msg_iov = &piece, .msg_iovlen = 1};
    uint64_t sent = 0;
    int64_t start = now_ns(), end = start + (int64_t)(seconds * NS), now;
    while ((now = now_ns()) < end) {
        int due = BATCH;
        if (rate > 0) {
            double wanted = (now - start) / (double)NS * rate + 1;
            due = wanted - sent > PACED_BATCH ? PACED_BATCH : (int)(wanted - sent);
            if (due <= 0) {
                int64_t next = start + (int64_t)(sent / rate * NS) + 1;
                struct timespec until = {next / NS, next % NS};
                clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
                continue;
            }
        }
        int taken = sendmmsg(descriptor, batch, due, 0);
        if (taken > 0) sent += taken;
        else if (errno != ECONNREFUSED && errno != ENOBUFS && errno != EAGAIN && errno != EINTR) fail("send");
    }
    report(sent, sent * size, now_ns() - start);
}

static void count_load(struct addrinfo *self, int descriptor) {
    static uint8_t scrap[BATCH][64];
    struct iovec pieces[BATCH];
    struct mmsghdr batch[BATCH] = {0};
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){scrap[i], sizeof scrap[i]};
        batch[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    }
    if (bind(descriptor, self->ai_addr, self->ai_addrlen) < 0) fail("bind");
    puts("ready");
    fflush(stdout);
    uint64_t packets = 0, bytes = 0;
    int64_t first = 0, last = 0;
    struct pollfd watched[2] = {{.fd = descriptor, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    for (int ending = 0;;) {
        /* What is in the socket when the input ends is counted still. */
        int ready = poll(watched, ending ? 1 : 2, ending ? DRAIN_MS : -1);
        if (ready == 0 && ending) break;
        if (watched[1].revents) ending = 1;
        if (!(watched[0].revents & POLLIN)) continue;
        /* Truncated on purpose: MSG_TRUNC gives the length without the copy. */
        int got = recvmmsg(descriptor, batch, BATCH, MSG_TRUNC | MSG_DONTWAIT, NULL);
        if (got <= 0) continue;
        last = now_ns();
        if (!packets) first = last;
        packets += got;
        for (int i = 0; i < got; i++) bytes += batch[i].msg_len + headers(self);
    }
    report(packets, bytes, last - first);
}

int main(int count, char **words) {
    struct addrinfo *peer;
    prctl(PR_SET_TIMERSLACK, 1UL);
    if (count == 7 && !strcmp(words[1], "send")) {
        int descriptor = resolved(words[2], words[3], &peer);
        send_load(peer, descriptor, atoi(words[4]), atof(words[5]), atof(words[6]));
    } else if (count == 4 && !strcmp(words[1], "receive")) {
        int descriptor = resolved(words[2], words[3], &peer);
        count_load(peer, descriptor);
    } else {
        fputs("usage: load_generator send ADDRESS PORT BYTES PACKETS_PER_S SECONDS | receive ADDRESS PORT\n", stderr);
        return 2;
    }
    return 0;
}
