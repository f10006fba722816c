/* Shifts the wall clock of a process by the number of seconds in the file named by CLOCK_SHIFT; loaded by LD_PRELOAD.
 * CLOCK_MONOTONIC is unchanged. */
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
