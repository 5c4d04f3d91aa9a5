/* The first process of a guest whose root is this host's own file system, read-only, below a layer in memory.
 *
 * It loads its modules, mounts that root, moves into it, and runs one program there. The machine stops when the program
 * has ended or when the host has closed its end of the port: nothing of it outlives who started it.
 *
 *     /init MODULES DIRECTORY PROGRAM [ARGUMENT]...
 *
 * MODULES is a directory of the root that is mounted on /lib/modules, DIRECTORY is where the program starts. It finds
 * the port open as descriptor 3, and the export for its results on RESULTS. Its exit status is the port's last line.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EVENTS = 3, PORTS = 8, PORT_DEADLINE_MS = 5000 };
#define RESULTS "/mnt"
#define NINE_P "trans=virtio,version=9p2000.L,msize=1048576"

static void stop_machine(void) {
    sync();
    reboot(RB_AUTOBOOT); /* QEMU runs with -no-reboot */
    for (;;) pause();
}

static void fail(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "longhaul: %s: %s\n", text, strerror(errno));
    stop_machine();
}

static void mounted(const char *source, const char *target, const char *kind, unsigned long flags, const char *options) {
    mkdir(target, 0755);
    if (mount(source, target, kind, flags, options) < 0) fail("cannot mount %s on %s", source, target);
}

static void load_modules(void) {
    FILE *order = fopen("/modules/order", "re");
    char path[256];
    if (!order) fail("there is no list of modules");
    while (fgets(path, sizeof path, order)) {
        path[strcspn(path, "\n")] = 0;
        int module = open(path, O_RDONLY | O_CLOEXEC);
        if (module < 0 || (syscall(SYS_finit_module, module, "", 0) < 0 && errno != EEXIST)) fail("cannot load %s", path);
        close(module);
    }
    fclose(order);
}

/* The port that the host calls longhaul.events; it can appear a moment after boot. */
static int open_port(void) {
    for (int waited = 0; waited < PORT_DEADLINE_MS; waited += 10) {
        for (int number = 0; number < PORTS; number++) {
            char path[64], name[64] = "";
            snprintf(path, sizeof path, "/sys/class/virtio-ports/vport0p%d/name", number);
            FILE *file = fopen(path, "re");
            if (!file) continue;
            int named = fgets(name, sizeof name, file) && !strcmp(name, "longhaul.events\n");
            fclose(file);
            if (!named) continue;
            snprintf(path, sizeof path, "/dev/vport0p%d", number);
            int port = open(path, O_RDWR);
            if (port >= 0) return port;
        }
        usleep(10000);
    }
    errno = ENODEV;
    fail("there is no port to the host");
    return -1;
}

/* The host's root below a layer in memory, with the guest's own kernel's file systems, and nothing of what runs there. */
static void make_root(const char *modules) {
    char path[4096];
    mounted("root", "/host", "9p", MS_RDONLY, NINE_P ",cache=loose");
    mounted("layer", "/layer", "tmpfs", 0, "mode=755");
    mkdir("/layer/upper", 0755);
    mkdir("/layer/work", 0755);
    mounted("root", "/root", "overlay", 0, "lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work");
    mounted("proc", "/root/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mounted("sysfs", "/root/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount("cgroup2", "/root/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mounted("devtmpfs", "/root/dev", "devtmpfs", MS_NOSUID, "mode=755");
    mounted("devpts", "/root/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "ptmxmode=666,mode=620,gid=5");
    mounted("shm", "/root/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    mounted("run", "/root/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
    mounted("data", "/root/var/lib/longhaul", "tmpfs", 0, "mode=755");
    mounted("results", "/root" RESULTS, "9p", 0, NINE_P ",cache=none");
    mkdir("/root/lib/modules", 0755);
    snprintf(path, sizeof path, "/root%s", modules);
    if (mount(path, "/root/lib/modules", NULL, MS_BIND, NULL) < 0) fail("cannot bind %s", modules);
    symlink("/proc/self/fd", "/root/dev/fd");
    symlink("/proc/self/fd/0", "/root/dev/stdin");
    symlink("/proc/self/fd/1", "/root/dev/stdout");
    symlink("/proc/self/fd/2", "/root/dev/stderr");
    /* By this process itself: the kernel's threads share its root, and start modprobe there. */
    if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) fail("cannot enter the root");
}

static void loopback_up(void) {
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    if (any < 0 || ioctl(any, SIOCSIFFLAGS, &request) < 0) fail("cannot bring lo up");
    close(any);
}

static pid_t start(char **command, const char *directory, int port) {
    pid_t child = fork();
    if (child) return child;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    int input = open("/dev/null", O_RDONLY), output = open(RESULTS "/guest.log", O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (output < 0) fail("cannot write to the results");
    int events = fcntl(port, F_DUPFD, 10);
    dup2(input, 0);
    dup2(output, 1);
    dup2(output, 2);
    dup2(events, EVENTS);
    for (int other = EVENTS + 1; other < 64; other++) close(other);
    if (chdir(directory) < 0) fail("cannot enter %s", directory);
    execv(command[0], command);
    fail("cannot run %s", command[0]);
    return -1;
}

int main(int count, char **arguments) {
    mounted("proc", "/proc", "proc", 0, NULL);
    mounted("sysfs", "/sys", "sysfs", 0, NULL);
    mounted("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    if (count < 4) {
        errno = EINVAL;
        fail("%d arguments", count);
    }
    load_modules();
    int port = open_port();
    make_root(arguments[1]);
    loopback_up();
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    int ended = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    pid_t program = start(arguments + 3, arguments[2], port);
    struct pollfd watched[] = {{.fd = ended, .events = POLLIN}, {.fd = port, .events = POLLHUP}};
    for (;;) {
        if (poll(watched, 2, -1) < 0 && errno != EINTR) fail("cannot wait");
        if (watched[1].revents & POLLHUP) stop_machine();
        struct signalfd_siginfo ignored;
        while (read(ended, &ignored, sizeof ignored) > 0) {}
        int status = 0;
        pid_t gone;
        while ((gone = waitpid(-1, &status, WNOHANG)) > 0 && gone != program) {}
        if (gone != program) continue;
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        dprintf(port, "{\"event\": \"exit\", \"code\": %d}\n", code);
        stop_machine();
    }
}
