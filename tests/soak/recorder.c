/* Records the changes that a process makes to the files below one folder, and lets one of them fail.
 *
 * Loaded with LD_PRELOAD before the C library, so it sees the calls of SQLite and of Python alike.  It needs
 * neither root nor FUSE, and the program under test is the real one.
 *
 *   SWPKS_DISK_ROOT       the folder (absolute, without links)
 *   SWPKS_DISK_LOG        the file that records are appended to; one write(2) for each, so several
 *                         processes can share it, and their records stand in the order of the events
 *   SWPKS_DISK_KILL       the process kills itself in place of its change number N
 *   SWPKS_DISK_KILL_SYNC  the same, in place of its sync number N of a file
 *   SWPKS_DISK_FAIL_SYNC  sync number N of a file returns EIO and syncs nothing
 *   SWPKS_DISK_FAIL_FOLDER_SYNC  the same for a folder
 *   SWPKS_DISK_SWITCH     a file of three longs that the process maps: number N, calls, error.  By it another
 *                         process arms as disk_arm does, and reads the count; sockets do not count then
 *
 * A program in the same process can call disk_arm(N, error): the N-th call from then on that concerns the
 * folder or makes a socket fails with that errno.  disk_count() returns how many such calls there were.
 * disk_kill_sync(N) and disk_fail_sync(N) do what SWPKS_DISK_KILL_SYNC and SWPKS_DISK_FAIL_SYNC do, counted
 * from then on.
 *
 * A write is recorded before it happens, under one lock, and so is every other change.  The start and the
 * end of a sync are two records: it covers the writes before its start.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(name) ({ static typeof(name) *real; if (!real) real = (typeof(name) *)dlsym(RTLD_NEXT, #name); real; })

struct head {
    uint32_t magic;
    uint8_t kind, flag;
    uint16_t path_length;
    uint64_t inode, offset;
    uint32_t length, reserved;
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char root[4096];
static size_t root_length;
static int log_fd = -1;
static long kill_at, kill_sync, fail_sync, fail_folder_sync, changes, syncs, folder_syncs;
struct arming {
    long at, calls, error;
};
static struct arming own, *armed = &own;

static long number(const char *name)
{
    const char *told = getenv(name);
    return told ? atol(told) : 0;
}

static void share(const char *path)
{
    int fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
    void *found = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (found == MAP_FAILED)
        abort();
    armed = found;
    REAL(close)(fd);
}

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("SWPKS_DISK_ROOT"), *log = getenv("SWPKS_DISK_LOG");
    if (!folder)
        return;
    if (getenv("SWPKS_DISK_SWITCH"))
        share(getenv("SWPKS_DISK_SWITCH"));
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    if (log) {
        int fd = REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 500);
        REAL(close)(fd);
    }
    kill_at = number("SWPKS_DISK_KILL");
    kill_sync = number("SWPKS_DISK_KILL_SYNC");
    fail_sync = number("SWPKS_DISK_FAIL_SYNC");
    fail_folder_sync = number("SWPKS_DISK_FAIL_FOLDER_SYNC");
}

EXPORT void disk_arm(long number, int error)
{
    *armed = (struct arming){number, 0, error};
}

EXPORT void disk_fail_sync(long number)
{
    fail_sync = syncs + number;
}

EXPORT void disk_kill_sync(long number)
{
    kill_sync = syncs + number;
}

EXPORT long disk_count(void)
{
    return armed->calls;
}

/* The path below the root; NULL for any other, for sockets and for the log of the server. */
static const char *inside(const char *path)
{
    size_t length = strlen(path);
    if (!root_length || strncmp(path, root, root_length) || (path[root_length] && path[root_length] != '/'))
        return NULL;
    if (strstr(path, "/run/") || (length > 4 && !strcmp(path + length - 4, ".log")))
        return NULL;
    return path[root_length] ? path + root_length + 1 : path + root_length;
}

static const char *resolved(int folder, const char *path, char *buffer, size_t size)
{
    char link[64];
    ssize_t length = 0;
    if (!path || path[0] == '/')
        return path ? inside(path) : NULL;
    if (folder == AT_FDCWD) {
        if (!getcwd(buffer, size))
            return NULL;
        length = strlen(buffer);
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        if ((length = readlink(link, buffer, size - 1)) < 0)
            return NULL;
    }
    snprintf(buffer + length, size - length, "/%s", path);
    return inside(buffer);
}

static const char *open_path(int fd, char *buffer, size_t size)
{
    char link[64];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (!root_length || (length = readlink(link, buffer, size - 1)) < 0)
        return NULL;
    buffer[length] = 0;
    return inside(buffer);
}

static uint64_t inode_of(int fd)
{
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_ino;
}

static void record(char kind, int flag, const char *path, uint64_t inode, uint64_t offset, const void *data, size_t length)
{
    struct head head = {0x53504B44, kind, flag, strlen(path), inode, offset, data ? length : 0, 0};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)path, head.path_length}, {(void *)data, head.length}};
    if (log_fd >= 0 && writev(log_fd, parts, data ? 3 : 2) < 0)
        abort();
}

/* Count a call; whether it has to fail, with errno set. */
static int refused(void)
{
    if (__atomic_add_fetch(&armed->calls, 1, __ATOMIC_RELAXED) != armed->at || !armed->error)
        return 0;
    errno = armed->error;
    return 1;
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Count a change; the turn is held. */
static void changing(void)
{
    if (++changes == kill_at)
        die();
}

static int opened(int folder, const char *path, int flags, mode_t mode)
{
    char buffer[4200];
    const char *at = resolved(folder, path, buffer, sizeof buffer);
    struct stat found;
    int fd, is_new;
    if (!at)
        return REAL(openat)(folder, path, flags, mode);
    if (refused())
        return -1;
    pthread_mutex_lock(&turn);
    is_new = (flags & O_CREAT) && fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW);
    if (is_new || (flags & O_TRUNC))
        changing();
    fd = REAL(openat)(folder, path, flags, mode);
    if (fd >= 0 && is_new)
        record('C', 0, at, inode_of(fd), 0, NULL, 0);
    else if (fd >= 0 && (flags & O_TRUNC))
        record('T', 0, at, inode_of(fd), 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    return fd;
}

#define OPEN(name, declared, folder) \
    EXPORT int name declared \
    { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        return opened(folder, path, flags, mode); \
    }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int folder, const char *path, int flags, ...), folder)
OPEN(openat64, (int folder, const char *path, int flags, ...), folder)

static ssize_t written(int fd, const void *data, size_t size, off64_t offset, int here)
{
    char buffer[4200];
    const char *at = fd == log_fd ? NULL : open_path(fd, buffer, sizeof buffer);
    ssize_t result;
    if (!at)
        return here ? REAL(write)(fd, data, size) : REAL(pwrite64)(fd, data, size, offset);
    if (refused())
        return -1;
    pthread_mutex_lock(&turn);
    changing();
    record('W', 0, at, inode_of(fd), here ? (uint64_t)lseek64(fd, 0, SEEK_CUR) : (uint64_t)offset, data, size);
    result = here ? REAL(write)(fd, data, size) : REAL(pwrite64)(fd, data, size, offset);
    pthread_mutex_unlock(&turn);
    return result;
}

EXPORT ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, 0, 1); }
EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return written(fd, data, size, offset, 0); }
EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return written(fd, data, size, offset, 0); }

EXPORT int ftruncate64(int fd, off64_t size)
{
    char buffer[4200];
    const char *at = open_path(fd, buffer, sizeof buffer);
    int result;
    if (!at)
        return REAL(ftruncate64)(fd, size);
    if (refused())
        return -1;
    pthread_mutex_lock(&turn);
    changing();
    record('T', 0, at, inode_of(fd), size, NULL, 0);
    result = REAL(ftruncate64)(fd, size);
    pthread_mutex_unlock(&turn);
    return result;
}
EXPORT int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int synced(int fd, int (*real)(int))
{
    char buffer[4200];
    const char *at = open_path(fd, buffer, sizeof buffer);
    struct stat found;
    int result, fails;
    if (!at || fstat(fd, &found))
        return real(fd);
    if (refused())
        return -1;
    pthread_mutex_lock(&turn);
    changing();
    if (!S_ISDIR(found.st_mode) && ++syncs == kill_sync)
        die();
    fails = S_ISDIR(found.st_mode) ? ++folder_syncs == fail_folder_sync : syncs == fail_sync;
    record('S', 0, at, found.st_ino, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    result = fails ? -1 : real(fd);
    pthread_mutex_lock(&turn);
    record('E', result == 0, at, found.st_ino, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    if (fails)
        errno = EIO;
    return result;
}
EXPORT int fsync(int fd) { return synced(fd, REAL(fsync)); }
EXPORT int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

EXPORT int renameat(int from, const char *old, int to, const char *new)
{
    char one[4200], two[4200], both[8400];
    const char *at = resolved(from, old, one, sizeof one), *then = resolved(to, new, two, sizeof two);
    int result;
    if (!at || !then)
        return REAL(renameat)(from, old, to, new);
    if (refused())
        return -1;
    snprintf(both, sizeof both, "%s\n%s", at, then);
    pthread_mutex_lock(&turn);
    changing();
    result = REAL(renameat)(from, old, to, new);
    if (!result)
        record('R', 0, both, 0, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}
EXPORT int rename(const char *old, const char *new) { return renameat(AT_FDCWD, old, AT_FDCWD, new); }

EXPORT int unlinkat(int folder, const char *path, int flags)
{
    char buffer[4200];
    const char *at = resolved(folder, path, buffer, sizeof buffer);
    int result;
    if (!at)
        return REAL(unlinkat)(folder, path, flags);
    if (refused())
        return -1;
    pthread_mutex_lock(&turn);
    changing();
    result = REAL(unlinkat)(folder, path, flags);
    if (!result)
        record('U', 0, at, 0, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}
EXPORT int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

EXPORT int mkdirat(int folder, const char *path, mode_t mode)
{
    char buffer[4200];
    const char *at = resolved(folder, path, buffer, sizeof buffer);
    int result;
    if (!at)
        return REAL(mkdirat)(folder, path, mode);
    if (refused())
        return -1;
    pthread_mutex_lock(&turn);
    changing();
    result = REAL(mkdirat)(folder, path, mode);
    if (!result)
        record('D', 0, at, 0, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}
EXPORT int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* Calls that change nothing on the disk, but can fail; they count only while a failure is armed. */
#define PLAIN(name, declared, given, about) \
    EXPORT int name declared { return armed->at && (about) && refused() ? -1 : REAL(name) given; }
static int mine(int fd) { char buffer[4200]; return open_path(fd, buffer, sizeof buffer) != NULL; }
PLAIN(chmod, (const char *path, mode_t mode), (path, mode), inside(path))
PLAIN(fchmod, (int fd, mode_t mode), (fd, mode), mine(fd))
PLAIN(stat, (const char *restrict path, struct stat *restrict found), (path, found), inside(path))
PLAIN(stat64, (const char *restrict path, struct stat64 *restrict found), (path, found), inside(path))
PLAIN(fstat, (int fd, struct stat *found), (fd, found), mine(fd))
PLAIN(fstat64, (int fd, struct stat64 *found), (fd, found), mine(fd))
PLAIN(flock, (int fd, int what), (fd, what), mine(fd))
PLAIN(socket, (int domain, int kind, int protocol), (domain, kind, protocol), armed == &own)
PLAIN(listen, (int fd, int backlog), (fd, backlog), armed == &own)

EXPORT ssize_t pread64(int fd, void *data, size_t size, off64_t offset)
{
    return armed->at && mine(fd) && refused() ? -1 : REAL(pread64)(fd, data, size, offset);
}
EXPORT ssize_t pread(int fd, void *data, size_t size, off_t offset) { return pread64(fd, data, size, offset); }
EXPORT ssize_t read(int fd, void *data, size_t size)
{
    return armed->at && mine(fd) && refused() ? -1 : REAL(read)(fd, data, size);
}
