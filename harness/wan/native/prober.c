/* Measures the WAN from one node: sends paced UDP streams to other nodes, answers theirs, and tells what came when.
 *
 * The plan comes on standard input, one word and its numbers a line:
 *
 *     token 305419896                     tells this measurement's packets from all others
 *     start 81234567890                   CLOCK_MONOTONIC ns at which all nodes of one host begin; 0: at once
 *     end 3500000                         microseconds after the start at which it ends
 *     bind 198.18.0.2 40404               a socket; at most one for each of IPv4 and IPv6
 *     peer 0 198.18.0.10 40404            its number, counting from 0, and where it is reached
 *     stream 3 0 120 20000000 0 36 1      number, peer, packets, interval in ns, first one at us, payload bytes, flags
 *
 * Flags: 1 wants echoes, 2 leaves at a random time within the first half of each interval (so that streams that cross
 * on a link do not march in step), 4 carries no UDP checksum, so that damaged payload arrives and is counted (IPv4).
 *
 * A packet names its stream, so that its sender is known whatever address a NAT gave it, and echoes go where a probe came
 * from. Numbers of streams are unique among all nodes.
 *
 * Prints one JSON object at the end. Arrays are base64 of little-endian 32-bit words, times in units of 100 ns:
 *
 *     {"boot": "4f2a...", "clock": "time:[4026531834]", when both agree, monotonic clocks can be compared
 *      "start_ns": 81234567890, "bound_ns": 81200000000,           when it began, since when it could receive
 *      "overflow": 0,                                              packets that its own sockets had no room for
 *      "late_p99_ns": 8000, "late_max_ns": 180000,                 how late packets left
 *      "sent": {"3": {"at": "...", "echoes": "...", "failed": 0}}, at: when each left, since the start; 2^32-1: did not
 *                                                                  echoes: sequence number and RTT of each
 *      "arrived": {"5": {"packets": "...", "damaged": 0}}}         sequence number and time since the start of each
 *
 * An arrival time is the kernel's own stamp, and an echo tells how long it was held, so that neither end's scheduling
 * counts. Ends with 0, or with 1 and a word on standard error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
#define UNIT_NS 100
#define NEVER INT64_MAX
#define MAGIC 0x4c485052u
#define UNSENT UINT32_MAX

enum { WANTS_ECHO = 1, SPREAD = 2, UNCHECKED = 4 };
enum { PROBE = 1, ECHO = 2 };
enum {
    MOST_STREAMS = 1 << 17,
    MOST_PACKETS = 1 << 22,
    LARGEST = 65507,
    BATCH = 64,
    ROOM = 16 << 20,
    /* A duplicating link may deliver more than was sent, but not without end. */
    MOST_COPIES = 4,
};

struct header {
    uint32_t magic, token, stream, sequence, packets;
    uint16_t kind, flags;
    uint64_t held_ns;
} __attribute__((packed));

struct words {
    uint32_t *at;
    size_t length, room;
};

struct peer {
    int socket;
    struct sockaddr_storage address;
    socklen_t size;
};

struct stream {
    uint32_t number, peer, packets, next, flags;
    size_t payload;
    int64_t interval, first, due;
    uint64_t random;
    uint32_t *sent_at;
    uint8_t *echoed;
    struct words echoes;
    uint32_t failed;
};

struct arrivals {
    struct words packets;
    uint32_t damaged;
};

static struct {
    uint32_t token;
    int64_t start, end, bound;
    int sockets[2], unchecked, families[2];
    size_t socket_count;
    struct peer *peers;
    size_t peer_count;
    struct stream *streams;
    size_t stream_count;
    int32_t *own;
    struct arrivals **arrived;
    uint32_t overflow_of[2];
    int64_t without_room;
    struct words lateness;
} prober = {.sockets = {-1, -1}, .unchecked = -1};

static __attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("prober: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *room_for(size_t count, size_t size) {
    void *made = calloc(count ? count : 1, size);
    if (!made) fail("out of memory");
    return made;
}

static void append(struct words *words, uint32_t value) {
    if (words->length == words->room) {
        words->room = words->room ? 2 * words->room : 64;
        words->at = realloc(words->at, words->room * sizeof *words->at);
        if (!words->at) fail("out of memory");
    }
    words->at[words->length++] = value;
}

static int64_t read_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * NS + now.tv_nsec;
}

static int64_t now_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

static uint32_t since_start(int64_t at) {
    int64_t units = (at - prober.start) / UNIT_NS;
    if (units < 0) return 0;
    return units >= UNSENT ? UNSENT - 1 : (uint32_t)units;
}

/* xorshift64* (Vigna 2016): spreads departures, nothing more. */
static uint64_t drawn(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

/* ---- the plan ---- */

static struct peer *peer_of(uint32_t number) {
    if (number >= prober.peer_count) fail("there is no peer %u", number);
    return &prober.peers[number];
}

static socklen_t resolved(const char *address, uint16_t port, struct sockaddr_storage *into) {
    struct sockaddr_in *four = (struct sockaddr_in *)into;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)into;
    memset(into, 0, sizeof *into);
    if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        return sizeof *four;
    }
    if (inet_pton(AF_INET6, address, &six->sin6_addr) != 1) fail("%s is no address", address);
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    return sizeof *six;
}

static int opened(int family) {
    int made = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, room = ROOM;
    if (made < 0) fail("socket: %s", strerror(errno));
    if (setsockopt(made, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room))
        setsockopt(made, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (setsockopt(made, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room))
        setsockopt(made, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (setsockopt(made, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on)) fail("SO_TIMESTAMPNS: %s", strerror(errno));
    setsockopt(made, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
    return made;
}

static void bind_to(const char *address, uint16_t port) {
    struct sockaddr_storage local;
    socklen_t size = resolved(address, port, &local);
    if (prober.socket_count == 2) fail("more than two sockets");
    int made = opened(local.ss_family), on = 1;
    if (local.ss_family == AF_INET6) setsockopt(made, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(made, (struct sockaddr *)&local, size)) fail("cannot listen at %s port %u: %s", address, port, strerror(errno));
    if (local.ss_family == AF_INET && prober.unchecked < 0) {
        prober.unchecked = opened(AF_INET);
        if (setsockopt(prober.unchecked, SOL_SOCKET, SO_NO_CHECK, &on, sizeof on))
            fail("SO_NO_CHECK: %s", strerror(errno));
    }
    prober.families[prober.socket_count] = local.ss_family;
    prober.sockets[prober.socket_count++] = made;
}

static void add_peer(uint32_t number, const char *address, uint16_t port) {
    if (number != prober.peer_count) fail("peers are numbered from 0 on");
    prober.peers = realloc(prober.peers, (prober.peer_count + 1) * sizeof *prober.peers);
    if (!prober.peers) fail("out of memory");
    struct peer *peer = &prober.peers[prober.peer_count++];
    peer->socket = -1;
    peer->size = resolved(address, port, &peer->address);
    for (size_t index = 0; index < prober.socket_count; index++)
        if (prober.families[index] == peer->address.ss_family) peer->socket = prober.sockets[index];
    if (peer->socket < 0) fail("no socket to reach %s from", address);
}

static void add_stream(const struct stream *wanted) {
    if (wanted->number >= MOST_STREAMS) fail("stream %u: numbers end at %d", wanted->number, MOST_STREAMS - 1);
    if (wanted->packets < 1 || wanted->packets > MOST_PACKETS) fail("stream %u: so many packets", wanted->number);
    if (wanted->payload < sizeof(struct header) || wanted->payload > LARGEST)
        fail("stream %u: payload of %zu bytes", wanted->number, wanted->payload);
    peer_of(wanted->peer);
    prober.streams = realloc(prober.streams, (prober.stream_count + 1) * sizeof *prober.streams);
    if (!prober.streams) fail("out of memory");
    struct stream *stream = &prober.streams[prober.stream_count];
    *stream = *wanted;
    stream->sent_at = room_for(stream->packets, sizeof *stream->sent_at);
    memset(stream->sent_at, 0xff, stream->packets * sizeof *stream->sent_at);
    stream->echoed = room_for(stream->packets, 1);
    stream->random = (((uint64_t)prober.token << 32) | stream->number) ^ 0x9e3779b97f4a7c15ULL;
    prober.own[stream->number] = (int32_t)prober.stream_count++;
}

static void read_plan(void) {
    char line[512], address[64];
    uint16_t port;
    while (fgets(line, sizeof line, stdin)) {
        uint32_t number;
        int64_t value;
        struct stream stream = {0};
        if (sscanf(line, "token %" SCNu32, &prober.token) == 1) continue;
        if (sscanf(line, "start %" SCNd64, &value) == 1) {
            prober.start = value;
        } else if (sscanf(line, "end %" SCNd64, &value) == 1) {
            prober.end = value * 1000;
        } else if (sscanf(line, "bind %63s %" SCNu16, address, &port) == 2) {
            bind_to(address, port);
        } else if (sscanf(line, "peer %" SCNu32 " %63s %" SCNu16, &number, address, &port) == 3) {
            add_peer(number, address, port);
        } else if (sscanf(line, "stream %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNd64 " %" SCNd64 " %zu %" SCNu32,
                          &stream.number, &stream.peer, &stream.packets, &stream.interval, &stream.first,
                          &stream.payload, &stream.flags) == 7) {
            stream.first *= 1000;
            add_stream(&stream);
        } else if (line[strspn(line, " \n")]) {
            fail("the plan says %s", line);
        }
    }
    if (!prober.socket_count) fail("the plan names no address");
}

/* ---- sending ---- */

static int64_t due_of(struct stream *stream) {
    if (stream->next >= stream->packets) return NEVER;
    int64_t due = prober.start + stream->first + stream->next * stream->interval;
    if (stream->flags & SPREAD && stream->interval >= 2) due += drawn(&stream->random) % (stream->interval / 2);
    return due;
}

/* A payload that its receiver can tell damage in: every byte follows from the sequence number and its place. */
static uint8_t expected_byte(uint32_t sequence, size_t place) {
    return (uint8_t)(sequence * 131 + place * 29 + 7);
}

static void send_probe(struct stream *stream, uint8_t *packet) {
    struct peer *peer = &prober.peers[stream->peer];
    uint32_t sequence = stream->next++;
    struct header header = {MAGIC, prober.token, stream->number, sequence, stream->packets, PROBE, stream->flags, 0};
    int from = peer->socket;
    memcpy(packet, &header, sizeof header);
    if (stream->flags & UNCHECKED) {
        for (size_t place = sizeof header; place < stream->payload; place++)
            packet[place] = expected_byte(sequence, place);
        if (peer->address.ss_family == AF_INET) from = prober.unchecked;
    }
    int64_t now = now_ns();
    append(&prober.lateness, since_start(prober.start + now - stream->due));
    if (sendto(from, packet, stream->payload, 0, (struct sockaddr *)&peer->address, peer->size) < 0)
        stream->failed++;
    else
        stream->sent_at[sequence] = since_start(now);
    stream->due = due_of(stream);
}

static int64_t send_what_is_due(uint8_t *packet) {
    int64_t next = prober.end;
    for (size_t index = 0; index < prober.stream_count; index++) {
        struct stream *stream = &prober.streams[index];
        if (stream->due >= next) continue;
        int64_t now = now_ns();
        /* Packets that are due together leave together, but not so many that arrivals would wait. */
        for (int burst = 0; burst < BATCH && stream->due <= now; burst++) send_probe(stream, packet);
        if (stream->due < next) next = stream->due;
    }
    return next;
}

/* ---- receiving ---- */

static void note_probe(const struct header *header, const uint8_t *packet, size_t length, int64_t at) {
    if (header->stream >= MOST_STREAMS || header->packets > MOST_PACKETS || header->sequence >= header->packets) return;
    struct arrivals *arrivals = prober.arrived[header->stream];
    if (!arrivals) arrivals = prober.arrived[header->stream] = room_for(1, sizeof *arrivals);
    if (arrivals->packets.length >= 2 * (size_t)MOST_COPIES * header->packets) return;
    if (header->flags & UNCHECKED)
        for (size_t place = sizeof *header; place < length; place++)
            if (packet[place] != expected_byte(header->sequence, place)) {
                arrivals->damaged++;
                break;
            }
    append(&arrivals->packets, header->sequence);
    append(&arrivals->packets, since_start(at));
}

static void note_echo(const struct header *header, int64_t at) {
    if (header->stream >= MOST_STREAMS || prober.own[header->stream] < 0) return;
    struct stream *stream = &prober.streams[prober.own[header->stream]];
    if (header->sequence >= stream->packets || stream->echoed[header->sequence]) return;
    if (stream->sent_at[header->sequence] == UNSENT) return;
    int64_t rtt = at - prober.start - (int64_t)stream->sent_at[header->sequence] * UNIT_NS - (int64_t)header->held_ns;
    stream->echoed[header->sequence] = 1;
    append(&stream->echoes, header->sequence);
    append(&stream->echoes, rtt < 0 ? 0 : (uint32_t)(rtt / UNIT_NS));
}

static void answer(int socket, struct header *header, uint8_t *packet, size_t length, int64_t at,
                   const struct sockaddr_storage *to, socklen_t size) {
    header->kind = ECHO;
    header->held_ns = now_ns() - at;
    memcpy(packet, header, sizeof *header);
    /* An echo that does not leave is missed at the other end, as one that is lost. */
    ssize_t gone = sendto(socket, packet, length, 0, (const struct sockaddr *)to, size);
    (void)gone;
}

/* The kernel's stamp is of the real-time clock; what the packet waited since is the same in every clock. */
static int64_t arrival_of(struct msghdr *message, size_t socket_index) {
    int64_t waited = 0;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(message); each; each = CMSG_NXTHDR(message, each)) {
        if (each->cmsg_level != SOL_SOCKET) continue;
        if (each->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec stamp;
            memcpy(&stamp, CMSG_DATA(each), sizeof stamp);
            waited = read_clock(CLOCK_REALTIME) - stamp.tv_sec * NS - stamp.tv_nsec;
        } else if (each->cmsg_type == SO_RXQ_OVFL) {
            memcpy(&prober.overflow_of[socket_index], CMSG_DATA(each), sizeof(uint32_t));
        }
    }
    return now_ns() - (waited < 0 || waited > NS ? 0 : waited);
}

static void drain(size_t socket_index) {
    static uint8_t packets[BATCH][2048];
    static uint8_t control[BATCH][128];
    static struct sockaddr_storage from[BATCH];
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    for (int index = 0; index < BATCH; index++) {
        pieces[index] = (struct iovec){packets[index], sizeof packets[index]};
        messages[index].msg_hdr = (struct msghdr){
            .msg_name = &from[index], .msg_namelen = sizeof from[index], .msg_iov = &pieces[index], .msg_iovlen = 1,
            .msg_control = control[index], .msg_controllen = sizeof control[index]};
    }
    int count = recvmmsg(prober.sockets[socket_index], messages, BATCH, MSG_DONTWAIT, NULL);
    for (int index = 0; index < count; index++) {
        struct msghdr *message = &messages[index].msg_hdr;
        size_t length = messages[index].msg_len;
        struct header header;
        int64_t at = arrival_of(message, socket_index);
        if (length < sizeof header) continue;
        memcpy(&header, packets[index], sizeof header);
        if (header.magic != MAGIC || header.token != prober.token) continue;
        if (header.kind == PROBE) {
            note_probe(&header, packets[index], length, at);
            if (header.flags & WANTS_ECHO)
                answer(prober.sockets[socket_index], &header, packets[index], length, at, &from[index],
                       message->msg_namelen);
        } else if (header.kind == ECHO) {
            note_echo(&header, at);
        }
    }
}

/* Packets that UDP sockets of this network namespace have had no room for; -1 when the kernel does not tell. What a
 * socket counts as its own overflow are all that it dropped, also those that arrived damaged. */
static int64_t without_room(void) {
    char names[4096], values[4096];
    int64_t total = -1;
    FILE *file = fopen("/proc/self/net/snmp", "r");
    while (file && fgets(names, sizeof names, file) && fgets(values, sizeof values, file)) {
        if (strncmp(names, "Udp:", 4)) continue;
        char *rest_of_names, *rest_of_values;
        char *name = strtok_r(names, " \n", &rest_of_names), *value = strtok_r(values, " \n", &rest_of_values);
        for (total = 0; name && value; name = strtok_r(NULL, " \n", &rest_of_names),
                                       value = strtok_r(NULL, " \n", &rest_of_values))
            if (!strcmp(name, "RcvbufErrors") || !strcmp(name, "MemErrors")) total += strtoll(value, NULL, 10);
    }
    if (file) fclose(file);
    file = total < 0 ? NULL : fopen("/proc/self/net/snmp6", "r");
    while (file && fgets(names, sizeof names, file)) {
        int64_t value;
        if (sscanf(names, "Udp6RcvbufErrors %" SCNd64, &value) == 1 || sscanf(names, "Udp6MemErrors %" SCNd64, &value) == 1)
            total += value;
    }
    if (file) fclose(file);
    return total;
}

static uint32_t overflow(void) {
    uint32_t dropped = prober.overflow_of[0] + prober.overflow_of[1];
    int64_t now = dropped && prober.without_room >= 0 ? without_room() : -1;
    if (now < 0) return dropped;
    int64_t more = now - prober.without_room;
    return more < dropped ? (uint32_t)more : dropped;
}

static void run(void) {
    uint8_t *packet = room_for(1, LARGEST);
    struct pollfd waiting[2];
    for (size_t index = 0; index < prober.socket_count; index++)
        waiting[index] = (struct pollfd){.fd = prober.sockets[index], .events = POLLIN};
    for (size_t index = 0; index < prober.stream_count; index++)
        prober.streams[index].due = due_of(&prober.streams[index]);
    for (;;) {
        int64_t next = send_what_is_due(packet), now = now_ns();
        if (now >= prober.end) return;
        int64_t wait = next > now ? next - now : 0;
        struct timespec timeout = {wait / NS, wait % NS};
        int ready = ppoll(waiting, prober.socket_count, &timeout, NULL);
        if (ready < 0 && errno != EINTR) fail("ppoll: %s", strerror(errno));
        for (size_t index = 0; ready > 0 && index < prober.socket_count; index++)
            /* Errors, such as an ICMP answer, are pending on the socket; receiving takes them off it. */
            if (waiting[index].revents) drain(index);
    }
}

/* ---- the report ---- */

static void print_words(const uint32_t *at, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *bytes = (const uint8_t *)at;
    size_t size = length * sizeof *at;
    putchar('"');
    for (size_t index = 0; index < size; index += 3) {
        size_t left = size - index;
        uint32_t three = (uint32_t)bytes[index] << 16 | (left > 1 ? bytes[index + 1] << 8 : 0) |
                         (left > 2 ? bytes[index + 2] : 0);
        putchar(digits[three >> 18]);
        putchar(digits[three >> 12 & 63]);
        putchar(left > 1 ? digits[three >> 6 & 63] : '=');
        putchar(left > 2 ? digits[three & 63] : '=');
    }
    putchar('"');
}

static int ascending(const void *one, const void *other) {
    uint32_t left = *(const uint32_t *)one, right = *(const uint32_t *)other;
    return left < right ? -1 : left > right;
}

static void report(void) {
    char boot[64] = "", clock[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (file) {
        if (fgets(boot, sizeof boot, file)) boot[strcspn(boot, "\n")] = 0;
        fclose(file);
    }
    if (readlink("/proc/self/ns/time", clock, sizeof clock - 1) < 0) clock[0] = 0;
    struct words *late = &prober.lateness;
    if (late->length) qsort(late->at, late->length, sizeof *late->at, ascending);
    uint32_t p99 = late->length ? late->at[late->length * 99 / 100] : 0;
    uint32_t most = late->length ? late->at[late->length - 1] : 0;
    printf("{\"boot\":\"%s\",\"clock\":\"%s\",\"start_ns\":%" PRId64 ",\"bound_ns\":%" PRId64
           ",\"overflow\":%u,\"late_p99_ns\":%" PRIu64 ",\"late_max_ns\":%" PRIu64 ",\"sent\":{",
           boot, clock, prober.start, prober.bound, overflow(),
           (uint64_t)p99 * UNIT_NS, (uint64_t)most * UNIT_NS);
    for (size_t index = 0; index < prober.stream_count; index++) {
        struct stream *stream = &prober.streams[index];
        printf("%s\"%u\":{\"at\":", index ? "," : "", stream->number);
        print_words(stream->sent_at, stream->packets);
        printf(",\"echoes\":");
        print_words(stream->echoes.at, stream->echoes.length);
        printf(",\"failed\":%u}", stream->failed);
    }
    printf("},\"arrived\":{");
    const char *separator = "";
    for (size_t number = 0; number < MOST_STREAMS; number++) {
        struct arrivals *arrivals = prober.arrived[number];
        if (!arrivals) continue;
        printf("%s\"%zu\":{\"packets\":", separator, number);
        print_words(arrivals->packets.at, arrivals->packets.length);
        printf(",\"damaged\":%u}", arrivals->damaged);
        separator = ",";
    }
    puts("}}");
    if (fflush(stdout)) fail("cannot write the report: %s", strerror(errno));
}

int main(void) {
    static const int64_t most_ahead = 60 * NS;
    prctl(PR_SET_TIMERSLACK, 1UL);
    /* Helps where it is allowed: probes that leave late are no error, only noise. */
    setpriority(PRIO_PROCESS, 0, -10);
    prober.own = room_for(MOST_STREAMS, sizeof *prober.own);
    memset(prober.own, 0xff, MOST_STREAMS * sizeof *prober.own);
    prober.arrived = room_for(MOST_STREAMS, sizeof *prober.arrived);
    read_plan();
    prober.without_room = without_room();
    prober.bound = now_ns();
    /* The start of another host's clock means nothing here. */
    if (prober.start < prober.bound || prober.start > prober.bound + most_ahead) prober.start = prober.bound;
    prober.end += prober.start;
    run();
    report();
    return 0;
}
