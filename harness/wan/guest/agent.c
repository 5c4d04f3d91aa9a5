/* The whole user space of the WAN core's micro-VM: it is /init, and it gives the host this kernel's control sockets.
 *
 * The host talks to it over virtio-serial ports named longhaul.0, longhaul.1 ... One process serves one port, so that
 * several host processes can use the core at once; each has its own netlink socket. Bytes on a port are frames:
 *
 *     END  escape( session u32 | type u8 | payload | crc32 u32 )  END          little-endian; END and ESC as in RFC 1055
 *
 * A client starts with END and HELLO under a fresh session number. What a client that died left behind, in either
 * direction, then ends at that END and fails its CRC or carries another session's number, and is dropped.
 *
 *     type      payload to the guest            payload to the host
 *     HELLO     -                               kernel release; the port's netlink socket is new
 *     NETLINK   one NETLINK_ROUTE datagram      one datagram, as many as the kernel sends
 *     LEASE     u32 seconds, 0 for ever         errno u32; the machine stops when a lease runs out
 *     ETHTOOL   interface[16], struct           errno u32, struct
 *     SYSCTL    path NUL value                  errno u32
 *     ENTROPY   random bytes, 256 at most       errno u32
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/random.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HELLO = 1, NETLINK = 2, LEASE = 3, ETHTOOL = 4, SYSCTL = 5, ENTROPY = 6 };
enum { END = 0xC0, ESC = 0xDB, ESC_END = 0xDC, ESC_ESC = 0xDD };
enum { PORTS = 4, FRAME = 1 << 18, BOOT_LEASE_S = 300, HEADER = 5, TRAILER = 4 };
#define SOL_NETLINK_LEVEL 270

struct endpoint {
    int port, netlink, watch;
    uint32_t session;
    int escaped, overlong;
    size_t length;
    uint8_t frame[FRAME], out[2 * FRAME + 2];
};

static volatile int64_t *lease_end; /* CLOCK_MONOTONIC seconds, 0 for ever; shared by all processes */
static uint32_t crc_table[8][256];

static void say(const char *format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (write(fd, text, length) < 0) { /* nowhere left to say it */ }
        close(fd);
    }
}

static int64_t now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void crc_prepare(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ 0xEDB88320u : value >> 1;
        crc_table[0][i] = value;
    }
    for (int table = 1; table < 8; table++)
        for (uint32_t i = 0; i < 256; i++)
            crc_table[table][i] = crc_table[table - 1][i] >> 8 ^ crc_table[0][crc_table[table - 1][i] & 255];
}

/* Eight bytes at a time, a table for each: a table look-up for every byte would take longest of all that is done here. */
static uint32_t crc32(const uint8_t *data, size_t length) {
    uint32_t value = ~0u, words[2];
    for (; length >= 8; data += 8, length -= 8) {
        memcpy(words, data, 8);
        words[0] ^= value;
        value = crc_table[7][words[0] & 255] ^ crc_table[6][words[0] >> 8 & 255] ^
                crc_table[5][words[0] >> 16 & 255] ^ crc_table[4][words[0] >> 24] ^ crc_table[3][words[1] & 255] ^
                crc_table[2][words[1] >> 8 & 255] ^ crc_table[1][words[1] >> 16 & 255] ^ crc_table[0][words[1] >> 24];
    }
    while (length--) value = crc_table[0][(value ^ *data++) & 255] ^ value >> 8;
    return ~value;
}

/* A new netlink socket: replies that an earlier session still had to come go with the old one. */
static void netlink_renew(struct endpoint *end) {
    if (end->netlink >= 0) close(end->netlink);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    int on = 1, room = 4 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    setsockopt(fd, SOL_NETLINK_LEVEL, NETLINK_CAP_ACK, &on, sizeof on);
    setsockopt(fd, SOL_NETLINK_LEVEL, NETLINK_EXT_ACK, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) say("longhaul: netlink bind: %d", errno);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    epoll_ctl(end->watch, EPOLL_CTL_ADD, fd, &event);
    end->netlink = fd;
}

/* Write all, or drop all when no host is listening: whoever comes next starts a session of its own. */
static void port_write(int port, const uint8_t *data, size_t length) {
    while (length) {
        ssize_t sent = write(port, data, length);
        if (sent > 0) {
            data += sent;
            length -= sent;
        } else if (errno == EAGAIN || errno == EINTR) {
            struct pollfd wait = {.fd = port, .events = POLLOUT};
            poll(&wait, 1, -1);
            if (wait.revents & POLLHUP) return;
        } else {
            return;
        }
    }
}

static const uint8_t *find(const uint8_t *from, const uint8_t *end, uint8_t byte) {
    const uint8_t *found = memchr(from, byte, end - from);
    return found ? found : end;
}

/* Copies with END and ESC escaped; how long it became. Both are rare, so the runs between them are copied whole. */
static size_t escape(uint8_t *out, const uint8_t *data, size_t length) {
    const uint8_t *stop = data + length, *next_end = find(data, stop, END), *next_esc = find(data, stop, ESC);
    uint8_t *start = out;
    for (;;) {
        const uint8_t *next = next_end < next_esc ? next_end : next_esc;
        memcpy(out, data, next - data);
        out += next - data;
        if (next == stop) return out - start;
        *out++ = ESC;
        *out++ = *next == END ? ESC_END : ESC_ESC;
        data = next + 1;
        if (next == next_end) next_end = find(data, stop, END);
        else next_esc = find(data, stop, ESC);
    }
}

static void reply(struct endpoint *end, uint8_t type, const uint8_t *payload, size_t length) {
    static uint8_t frame[FRAME];
    if (length > FRAME - HEADER - TRAILER) return;
    memcpy(frame, &end->session, 4);
    frame[4] = type;
    memcpy(frame + HEADER, payload, length);
    uint32_t crc = crc32(frame, HEADER + length);
    memcpy(frame + HEADER + length, &crc, TRAILER);
    size_t used = 0;
    end->out[used++] = END;
    used += escape(end->out + used, frame, HEADER + length + TRAILER);
    end->out[used++] = END;
    port_write(end->port, end->out, used);
}

static void reply_error(struct endpoint *end, uint8_t type, uint32_t error) {
    reply(end, type, (uint8_t *)&error, sizeof error);
}

static void serve_ethtool(struct endpoint *end, uint8_t *payload, size_t length) {
    struct ifreq request = {0};
    if (length < IFNAMSIZ + 4) return reply_error(end, ETHTOOL, EINVAL);
    memcpy(request.ifr_name, payload, IFNAMSIZ - 1);
    request.ifr_data = (void *)(payload + IFNAMSIZ);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint32_t error = ioctl(fd, SIOCETHTOOL, &request) < 0 ? errno : 0;
    close(fd);
    memcpy(payload + IFNAMSIZ - 4, &error, 4);
    reply(end, ETHTOOL, payload + IFNAMSIZ - 4, length - IFNAMSIZ + 4);
}

static void serve_sysctl(struct endpoint *end, uint8_t *payload, size_t length) {
    char path[256];
    uint8_t *value = memchr(payload, 0, length);
    if (!value || (size_t)(value - payload) > sizeof path - 16 || strstr((char *)payload, ".."))
        return reply_error(end, SYSCTL, EINVAL);
    snprintf(path, sizeof path, "/proc/sys/%s", payload);
    value++;
    size_t size = payload + length - value;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    uint32_t error = fd < 0 || write(fd, value, size) != (ssize_t)size ? errno : 0;
    if (fd >= 0) close(fd);
    reply_error(end, SYSCTL, error);
}

static void serve_entropy(struct endpoint *end, const uint8_t *payload, size_t length) {
    struct {
        struct rand_pool_info info;
        uint8_t bytes[256];
    } seed = {.info = {.entropy_count = length * 8, .buf_size = length}};
    if (length > sizeof seed.bytes) return reply_error(end, ENTROPY, EINVAL);
    memcpy(seed.bytes, payload, length);
    int fd = open("/dev/random", O_RDWR | O_CLOEXEC);
    uint32_t error = 0;
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, &seed) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0) error = errno;
    if (fd >= 0) close(fd);
    reply_error(end, ENTROPY, error);
}

static void serve_frame(struct endpoint *end) {
    uint32_t crc, session, seconds;
    uint8_t *payload = end->frame + HEADER;
    if (end->length < HEADER + TRAILER) return;
    size_t length = end->length - HEADER - TRAILER;
    memcpy(&crc, payload + length, TRAILER);
    if (crc != crc32(end->frame, HEADER + length)) return;
    memcpy(&session, end->frame, 4);
    if (end->frame[4] == HELLO) {
        struct utsname about;
        uname(&about);
        netlink_renew(end);
        end->session = session;
        reply(end, HELLO, (uint8_t *)about.release, strlen(about.release));
        return;
    }
    if (session != end->session) return;
    switch (end->frame[4]) {
    case NETLINK:
        if (send(end->netlink, payload, length, 0) < 0) say("longhaul: netlink send: %d", errno);
        break;
    case LEASE:
        if (length != 4) return reply_error(end, LEASE, EINVAL);
        memcpy(&seconds, payload, 4);
        *lease_end = seconds ? now_s() + seconds : 0;
        reply_error(end, LEASE, 0);
        break;
    case ETHTOOL:
        serve_ethtool(end, payload, length);
        break;
    case SYSCTL:
        serve_sysctl(end, payload, length);
        break;
    case ENTROPY:
        serve_entropy(end, payload, length);
        break;
    }
}

static void append(struct endpoint *end, const uint8_t *data, size_t length) {
    if (length > FRAME - end->length) {
        end->overlong = 1;
        return;
    }
    memcpy(end->frame + end->length, data, length);
    end->length += length;
}

static void take_escaped(struct endpoint *end, const uint8_t *data, size_t length) {
    const uint8_t *stop = data + length;
    while (data < stop) {
        if (end->escaped) {
            uint8_t byte = *data == ESC_END ? END : *data == ESC_ESC ? ESC : *data;
            append(end, &byte, 1);
            end->escaped = 0;
            data++;
            continue;
        }
        const uint8_t *next = find(data, stop, ESC);
        append(end, data, next - data);
        end->escaped = next < stop;
        data = next + 1;
    }
}

static void take(struct endpoint *end, const uint8_t *data, size_t length) {
    const uint8_t *stop = data + length;
    while (data < stop) {
        const uint8_t *next = find(data, stop, END);
        take_escaped(end, data, next - data);
        if (next < stop) {
            if (!end->overlong) serve_frame(end);
            end->length = end->escaped = end->overlong = 0;
        }
        data = next + 1;
    }
}

/* False when the port has nothing more to read for now. */
static int pump_port(struct endpoint *end) {
    static uint8_t chunk[1 << 15];
    ssize_t got = read(end->port, chunk, sizeof chunk);
    if (got > 0) take(end, chunk, got);
    return got > 0;
}

static int pump_netlink(struct endpoint *end) {
    static uint8_t datagram[FRAME / 2];
    ssize_t got = recv(end->netlink, datagram, sizeof datagram, 0);
    if (got > 0) reply(end, NETLINK, datagram, got);
    return got > 0;
}

static void serve_port(const char *device) {
    struct endpoint *end = calloc(1, sizeof *end);
    end->port = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (end->port < 0) {
        say("longhaul: %s: errno %d", device, errno);
        _exit(1);
    }
    /* Edge-triggered: a port without a host reports a hang-up all the time, and must not keep this process spinning. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    end->watch = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(end->watch, EPOLL_CTL_ADD, end->port, &event);
    end->netlink = -1;
    netlink_renew(end);
    for (;;) {
        while (pump_port(end) | pump_netlink(end)) {}
        epoll_wait(end->watch, &event, 1, -1);
    }
}

/* Each line: the module's file, and its parameters after a space. */
static void load_modules(void) {
    char path[256];
    FILE *order = fopen("/modules/order", "re");
    while (order && fgets(path, sizeof path, order)) {
        path[strcspn(path, "\n")] = 0;
        char *parameters = strchr(path, ' ');
        if (parameters) *parameters++ = 0;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || syscall(SYS_finit_module, fd, parameters ? parameters : "", 0) < 0)
            say("longhaul: %s: errno %d", path, errno);
        if (fd >= 0) close(fd);
    }
    if (order) fclose(order);
}

/* The device of the port with this number; waits for the driver to find it. */
static void find_port(int number, char device[64]) {
    char want[32], path[96], name[32];
    snprintf(want, sizeof want, "longhaul.%d", number);
    for (int attempt = 0; attempt < 1000; attempt++) {
        for (int bus = 0; bus < 8; bus++) {
            snprintf(path, sizeof path, "/sys/class/virtio-ports/vport%dp%d/name", bus, number + 1);
            FILE *file = fopen(path, "re");
            if (!file) continue;
            int found = fgets(name, sizeof name, file) && !strncmp(name, want, strlen(want));
            fclose(file);
            if (!found) continue;
            snprintf(device, 64, "/dev/vport%dp%d", bus, number + 1);
            return;
        }
        usleep(5000);
    }
    say("longhaul: no port %s", want);
    device[0] = 0;
}

static void set(const char *path, const char *value) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0) say("longhaul: %s: errno %d", path, errno);
    if (fd >= 0) close(fd);
}

/* Interfaces that come from now on say nothing of their own: whoever wants IPv6 on one enables it there. */
static void be_silent(void) {
    set("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    set("/proc/sys/net/ipv6/conf/default/accept_ra", "0");
    set("/proc/sys/net/ipv6/conf/default/autoconf", "0");
    set("/proc/sys/net/ipv6/conf/default/router_solicitations", "0");
    set("/proc/sys/net/ipv6/conf/default/dad_transmits", "0");
}

static pid_t start_port(int number) {
    pid_t child = fork();
    if (child == 0) {
        char device[64];
        find_port(number, device);
        serve_port(device);
    }
    return child;
}

static void stop_machine(void) {
    sync();
    reboot(RB_AUTOBOOT); /* QEMU runs with -no-reboot and ends */
}

int main(void) {
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    crc_prepare();
    lease_end = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *lease_end = now_s() + BOOT_LEASE_S;
    be_silent();
    load_modules();
    pid_t children[PORTS];
    for (int i = 0; i < PORTS; i++) children[i] = start_port(i);
    say("longhaul: ready");
    for (;;) {
        int64_t end = *lease_end;
        if (end && now_s() >= end) stop_machine();
        pid_t gone = waitpid(-1, NULL, WNOHANG);
        for (int i = 0; i < PORTS && gone > 0; i++)
            if (children[i] == gone) children[i] = start_port(i);
        sleep(1);
    }
}
