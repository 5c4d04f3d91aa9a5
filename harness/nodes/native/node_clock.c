/* The clock of a node's processes, moved: preloaded into them, it shifts what they read of the time of day.
 *
 * The file named by LONGHAUL_CLOCK is mapped, and holds (little endian, 8 bytes each) a turn, an offset in ns, a rate as
 * a double, and the monotonic time in ns from which the rate counts. The writer makes the turn odd, writes, and makes it
 * even again; a change is seen at the next reading of the clock. Only the time of day moves, as on a machine whose clock
 * is wrong: the monotonic clock, sleeps and the times of files do not. Deadlines given as a time of day are moved back
 * before the kernel, which knows the true one, sees them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
/* Deadlines above this, in seconds, are times of day and not of the monotonic clock, which begins at boot. */
#define TIME_OF_DAY 1000000000LL

struct control {
    _Atomic uint64_t turn;
    int64_t offset_ns;
    double rate;
    int64_t since_ns;
};

static const struct control *control;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_cond)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_semaphore)(sem_t *, const struct timespec *);
static int (*real_mutex)(pthread_mutex_t *, const struct timespec *);
static int (*real_nanosleep)(clockid_t, int, const struct timespec *, struct timespec *);

static void *next_symbol(const char *name, const char *version)
{
    /* An unversioned lookup may find the oldest version of a function, which takes another structure. */
    void *found = version ? dlvsym(RTLD_NEXT, name, version) : NULL;
    return found ? found : dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void begin(void)
{
    if (real_gettime)
        return;
    real_cond = next_symbol("pthread_cond_timedwait", "GLIBC_2.3.2");
    real_semaphore = next_symbol("sem_timedwait", NULL);
    real_mutex = next_symbol("pthread_mutex_timedlock", NULL);
    real_nanosleep = next_symbol("clock_nanosleep", NULL);
    const char *path = getenv("LONGHAUL_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *mapped = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED)
            control = mapped;
        close(file);
    }
    real_gettime = next_symbol("clock_gettime", NULL);
}

static int64_t shift_ns(void)
{
    if (!control)
        return 0;
    for (;;) {
        uint64_t turn = atomic_load_explicit(&control->turn, memory_order_acquire);
        int64_t offset = control->offset_ns, since = control->since_ns;
        double rate = control->rate;
        atomic_thread_fence(memory_order_acquire);
        if (turn & 1 || turn != atomic_load_explicit(&control->turn, memory_order_relaxed))
            continue;
        if (rate == 0)
            return offset;
        struct timespec now;
        real_gettime(CLOCK_MONOTONIC, &now);
        return offset + (int64_t)(rate * (double)(now.tv_sec * SECOND + now.tv_nsec - since));
    }
}

static struct timespec moved(struct timespec at, int64_t by_ns)
{
    int64_t ns = at.tv_nsec + by_ns % SECOND;
    at.tv_sec += by_ns / SECOND;
    if (ns >= SECOND) {
        ns -= SECOND;
        at.tv_sec++;
    } else if (ns < 0) {
        ns += SECOND;
        at.tv_sec--;
    }
    at.tv_nsec = ns;
    return at;
}

static struct timespec true_deadline(const struct timespec *at)
{
    return at->tv_sec < TIME_OF_DAY ? *at : moved(*at, -shift_ns());
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    begin();
    int result = real_gettime(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
        *now = moved(*now, shift_ns());
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    if (zone)
        *(struct timezone *)zone = (struct timezone){0, 0};
    return 0;
}

time_t time(time_t *where)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (where)
        *where = exact.tv_sec;
    return exact.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    begin();
    struct timespec at = true_deadline(until);
    return real_cond(condition, mutex, &at);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until)
{
    begin();
    struct timespec at = true_deadline(until);
    return real_semaphore(semaphore, &at);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until)
{
    begin();
    struct timespec at = true_deadline(until);
    return real_mutex(mutex, &at);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *length, struct timespec *rest)
{
    begin();
    struct timespec at = *length;
    if (flags & TIMER_ABSTIME && clock == CLOCK_REALTIME)
        at = true_deadline(length);
    return real_nanosleep(clock, flags, &at, rest);
}
