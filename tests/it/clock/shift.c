/* Shows a process another time of day, by so many seconds as are written in the file CLOCK_SHIFT; loaded by LD_PRELOAD.
 * What passes between two looks (CLOCK_MONOTONIC) stays as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t shift(void) {
    static int file = -2;
    char text[32] = "";
    if (file == -2) {
        const char *path = getenv("CLOCK_SHIFT");
        file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    }
    return file >= 0 && pread(file, text, sizeof text - 1, 0) > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += shift();
    return result;
}
