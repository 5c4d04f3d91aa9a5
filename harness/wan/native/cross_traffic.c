/* Load beside the system under test: one program sends, one receives, and both say what they did.
 *
 *     cross_traffic receive udp|tcp ADDRESS PORT
 *     cross_traffic send WAIT_S SECONDS ADDRESS PORT udp PATTERN BITS_PER_S BYTES ON_S OFF_S SEED
 *     cross_traffic send WAIT_S SECONDS ADDRESS PORT tcp CONTROL BITS_PER_S FLOWS
 *
 * PATTERN is constant, poisson or on-off; BYTES is the size of the IP packet; 0 SECONDS is until SIGTERM; 0 BITS_PER_S
 * is no cap (tcp). Five times a second, and at the end, each prints a line of JSON: seconds since its first packet,
 * packets_out (of IP, for tcp as the kernel counts them, acknowledgements included), bytes_in, bytes_out (of IP for udp,
 * of payload for tcp), offered_bytes (what the pattern asked for until now), flows. The last line has "end": true.
 * Exit codes: 0 ended, 1 failed, 3 this kernel lacks the congestion control.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <math.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
#define REPORT_NS (NS / 5)
enum { MOST_FLOWS = 64, CHUNK = 1 << 16, LARGEST = 65535, BUFFER = 4 << 20, NO_CONTROL = 3, CATCH_UP = 64 };

static volatile sig_atomic_t stopped;
static struct {
    int64_t first_ns, last_ns;
    uint64_t packets_out, bytes_in, bytes_out, offered;
    int flows;
} count;
static int streams[MOST_FLOWS];
static int64_t report_ns;
static char block[CHUNK];

static void on_signal(int number) { (void)number; stopped = 1; }

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS + now.tv_nsec;
}

static void sleep_until(int64_t when_ns) {
    struct timespec when = {.tv_sec = when_ns / NS, .tv_nsec = when_ns % NS};
    while (!stopped && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR) continue;
}

static void fail(const char *what) {
    fprintf(stderr, "cross traffic: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t segments_out(int stream) {
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(stream, IPPROTO_TCP, TCP_INFO, &info, &size)) return 0;
    return info.tcpi_segs_out;
}

static void report(int end) {
    uint64_t packets = count.packets_out;
    for (int i = 0; i < MOST_FLOWS; i++)
        if (streams[i] > 0) packets += segments_out(streams[i]);
    double span = count.first_ns ? (double)(count.last_ns - count.first_ns) / NS : 0.0;
    printf("{\"seconds\": %.6f, \"packets_out\": %" PRIu64 ", \"bytes_in\": %" PRIu64 ", \"bytes_out\": %" PRIu64
           ", \"offered_bytes\": %" PRIu64 ", \"flows\": %d, \"end\": %s}\n",
           span, packets, count.bytes_in, count.bytes_out, count.offered, count.flows, end ? "true" : "false");
    fflush(stdout);
}

static void report_if_due(int64_t now) {
    if (now < report_ns) return;
    report_ns = now + REPORT_NS;
    report(0);
}

static void touched(int64_t now) {
    if (!count.first_ns) count.first_ns = now;
    count.last_ns = now;
}

static struct addrinfo *resolved(const char *address, const char *port, int kind) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = kind}, *found;
    int code = getaddrinfo(address, port, &hints, &found);
    if (code) {
        fprintf(stderr, "cross traffic: %s %s: %s\n", address, port, gai_strerror(code));
        exit(1);
    }
    return found;
}

static int headers(const struct addrinfo *peer) { return (peer->ai_family == AF_INET6 ? 40 : 20) + 8; }

static int opened(const struct addrinfo *peer) {
    int descriptor = socket(peer->ai_family, peer->ai_socktype | SOCK_CLOEXEC, 0);
    if (descriptor < 0) fail("socket");
    return descriptor;
}

static void receive_udp(const struct addrinfo *self) {
    int descriptor = opened(self), room = BUFFER;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    if (bind(descriptor, self->ai_addr, self->ai_addrlen)) fail("bind");
    report(0);
    while (!stopped) {
        struct pollfd ready = {.fd = descriptor, .events = POLLIN};
        if (poll(&ready, 1, 200) > 0) {
            ssize_t size;
            int64_t now = now_ns();
            while ((size = recv(descriptor, block, sizeof block, MSG_DONTWAIT)) >= 0) {
                count.bytes_in += size + headers(self);
                touched(now);
            }
        }
        report_if_due(now_ns());
    }
}

static void receive_tcp(const struct addrinfo *self) {
    int listener = opened(self), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, self->ai_addr, self->ai_addrlen) || listen(listener, MOST_FLOWS)) fail("listen");
    report(0);
    while (!stopped) {
        struct pollfd ready[MOST_FLOWS + 1] = {{.fd = listener, .events = POLLIN}};
        for (int i = 0; i < MOST_FLOWS; i++) ready[i + 1] = (struct pollfd){.fd = streams[i] > 0 ? streams[i] : -1, .events = POLLIN};
        if (poll(ready, MOST_FLOWS + 1, 200) > 0) {
            if (ready[0].revents & POLLIN) {
                int stream = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), place = 0;
                while (place < MOST_FLOWS && streams[place] > 0) place++;
                if (stream >= 0 && place < MOST_FLOWS) {
                    streams[place] = stream;
                    count.flows++;
                } else if (stream >= 0) close(stream);
            }
            for (int i = 0; i < MOST_FLOWS; i++) {
                if (!ready[i + 1].revents) continue;
                ssize_t size = recv(streams[i], block, sizeof block, 0);
                if (size > 0) {
                    count.bytes_in += size;
                    touched(now_ns());
                } else if (size == 0 || errno != EAGAIN) {
                    count.packets_out += segments_out(streams[i]);
                    close(streams[i]);
                    streams[i] = 0;
                }
            }
        }
        report_if_due(now_ns());
    }
}

static uint64_t random_state;

static double uniform(void) {
    uint64_t mixed = (random_state += 0x9E3779B97F4A7C15ULL);
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBULL;
    return ((mixed ^ (mixed >> 31)) >> 11) * 0x1.0p-53;
}

static void send_udp(const struct addrinfo *peer, int64_t end_ns, char **say) {
    int poisson = !strcmp(say[0], "poisson"), on_off = !strcmp(say[0], "on-off"), bytes = atoi(say[2]);
    double rate = atof(say[1]), gap_ns = bytes * 8.0 / rate * NS, on_ns = atof(say[3]) * NS, off_ns = atof(say[4]) * NS;
    random_state = strtoull(say[5], NULL, 10);
    int descriptor = opened(peer), payload = bytes - headers(peer), room = BUFFER;
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    if (payload < 1 || payload > LARGEST) {
        fprintf(stderr, "cross traffic: no packet of %d bytes\n", bytes);
        exit(1);
    }
    if (connect(descriptor, peer->ai_addr, peer->ai_addrlen)) fail("connect");
    count.flows = 1;
    int64_t begin_ns = now_ns();
    double due_ns = begin_ns, dark_ns = on_off ? begin_ns + on_ns : INFINITY;
    while (!stopped && (!end_ns || due_ns < end_ns)) {
        int64_t now = now_ns();
        report_if_due(now);
        if (due_ns > now) {
            int64_t wake = due_ns < report_ns ? (int64_t)due_ns : report_ns;
            sleep_until(wake);
            continue;
        }
        count.offered += bytes;
        /* What is far behind was offered and is not sent: a burst that makes up for lost time is no pattern. */
        if (now - due_ns < CATCH_UP * gap_ns || now - due_ns < NS / 50) {
            if (send(descriptor, block, payload, MSG_DONTWAIT) == payload) {
                count.packets_out++;
                count.bytes_out += bytes;
            }
            touched(now);
        }
        due_ns += poisson ? -gap_ns * log(1.0 - uniform()) : gap_ns;
        if (due_ns >= dark_ns) {
            due_ns = dark_ns + off_ns;
            dark_ns = due_ns + on_ns;
        }
    }
}

static void send_tcp(const struct addrinfo *peer, int64_t end_ns, char **say) {
    uint64_t rate = strtoull(say[1], NULL, 10);
    int flows = atoi(say[2]);
    uint64_t pace = rate / 8 / (flows ? flows : 1);
    for (int i = 0; i < flows && i < MOST_FLOWS; i++) {
        int stream = opened(peer), unsent = 1 << 17;
        if (setsockopt(stream, IPPROTO_TCP, TCP_CONGESTION, say[0], strlen(say[0]))) {
            fprintf(stderr, "cross traffic: this kernel has no TCP congestion control %s\n", say[0]);
            exit(NO_CONTROL);
        }
        if (rate && setsockopt(stream, SOL_SOCKET, SO_MAX_PACING_RATE, &pace, sizeof pace)) fail("pacing");
        setsockopt(stream, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
        while (connect(stream, peer->ai_addr, peer->ai_addrlen)) {
            if (stopped || (end_ns && now_ns() > end_ns)) return;
            if (errno != ECONNREFUSED && errno != ETIMEDOUT && errno != EINTR) fail("connect");
            sleep_until(now_ns() + NS / 5);
            close(stream);
            stream = opened(peer);
            setsockopt(stream, IPPROTO_TCP, TCP_CONGESTION, say[0], strlen(say[0]));
            if (rate) setsockopt(stream, SOL_SOCKET, SO_MAX_PACING_RATE, &pace, sizeof pace);
        }
        fcntl(stream, F_SETFL, O_NONBLOCK);
        streams[i] = stream;
        count.flows++;
    }
    while (!stopped && (!end_ns || now_ns() < end_ns)) {
        struct pollfd ready[MOST_FLOWS];
        int open_flows = 0;
        for (int i = 0; i < MOST_FLOWS; i++) {
            ready[i] = (struct pollfd){.fd = streams[i] > 0 ? streams[i] : -1, .events = POLLOUT};
            open_flows += streams[i] > 0;
        }
        if (!open_flows) return;
        if (poll(ready, MOST_FLOWS, 100) > 0) {
            int64_t now = now_ns();
            for (int i = 0; i < MOST_FLOWS; i++) {
                if (!ready[i].revents) continue;
                ssize_t size = send(streams[i], block, sizeof block, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (size > 0) {
                    count.bytes_out += size;
                    touched(now);
                } else if (size < 0 && errno != EAGAIN) {
                    count.packets_out += segments_out(streams[i]);
                    close(streams[i]);
                    streams[i] = 0;
                }
            }
        }
        report_if_due(now_ns());
    }
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    if (argc == 5 && !strcmp(argv[1], "receive")) {
        int tcp = !strcmp(argv[2], "tcp");
        struct addrinfo *self = resolved(argv[3], argv[4], tcp ? SOCK_STREAM : SOCK_DGRAM);
        (tcp ? receive_tcp : receive_udp)(self);
    } else if (argc >= 10 && !strcmp(argv[1], "send")) {
        int tcp = !strcmp(argv[6], "tcp");
        if ((tcp && argc != 10) || (!tcp && argc != 13)) goto usage;
        struct addrinfo *peer = resolved(argv[4], argv[5], tcp ? SOCK_STREAM : SOCK_DGRAM);
        int64_t begin_ns = now_ns() + (int64_t)(atof(argv[2]) * NS);
        int64_t end_ns = atof(argv[3]) > 0 ? begin_ns + (int64_t)(atof(argv[3]) * NS) : 0;
        report(0);
        sleep_until(begin_ns);
        if (!stopped) (tcp ? send_tcp : send_udp)(peer, end_ns, argv + 7);
    } else {
    usage:
        fprintf(stderr, "cross traffic: see the head of cross_traffic.c\n");
        return 2;
    }
    report(1);
    return 0;
}
