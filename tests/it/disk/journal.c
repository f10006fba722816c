/* Records the operations of a process on the files below a folder, in order: create, write, truncate and sync.
 *
 * Loaded by LD_PRELOAD. JOURNAL is the file to record to, JOURNAL_BELOW the folder. Each operation is one line,
 * OPERATION OFFSET LENGTH PATH, followed by the bytes of a write:
 *
 *   C  create      W  write      T  truncate to LENGTH      S  sync a file or a folder
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* Finds the path of a descriptor. Returns 0 if it is not below the folder. */
static int path_of(int fd, char *path, size_t size) {
    const char *below = getenv("JOURNAL_BELOW");
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (!below || length < 0) return 0;
    path[length] = 0;
    return strncmp(path, below, strlen(below)) == 0;
}

static void note(char operation, int fd, long long offset, long long length, const void *bytes) {
    static int journal = -1;
    char path[4096], line[5000];
    if (!path_of(fd, path, sizeof path)) return;
    if (journal < 0) {
        int (*open_file)(const char *, int, ...) = real("open64");
        journal = open_file(getenv("JOURNAL"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    int size = snprintf(line, sizeof line, "%c %lld %lld %s\n", operation, offset, length, path);
    if (write(journal, line, size) != size) abort();
    if (bytes && write(journal, bytes, length) != length) abort();
}

int open64(const char *path, int flags, ...) {
    int (*open_file)(const char *, int, ...) = real("open64");
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    pthread_mutex_lock(&turn);
    int is_new = (flags & O_CREAT) && access(path, F_OK) != 0;
    int fd = open_file(path, flags, mode);
    if (fd >= 0 && is_new) note('C', fd, 0, 0, NULL);
    pthread_mutex_unlock(&turn);
    return fd;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    ssize_t (*write_at)(int, const void *, size_t, off64_t) = real("pwrite64");
    pthread_mutex_lock(&turn);
    ssize_t written = write_at(fd, bytes, length, offset);
    if (written > 0) note('W', fd, offset, written, bytes);
    pthread_mutex_unlock(&turn);
    return written;
}

int ftruncate64(int fd, off64_t length) {
    int (*cut)(int, off64_t) = real("ftruncate64");
    pthread_mutex_lock(&turn);
    int failed = cut(fd, length);
    if (!failed) note('T', fd, 0, length, NULL);
    pthread_mutex_unlock(&turn);
    return failed;
}

static int synced(const char *name, int fd) {
    int (*sync)(int) = real(name);
    pthread_mutex_lock(&turn);
    int failed = sync(fd);
    if (!failed) note('S', fd, 0, 0, NULL);
    pthread_mutex_unlock(&turn);
    return failed;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
