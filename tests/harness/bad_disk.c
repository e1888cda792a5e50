/* Preloaded into a node: system calls that change files fail when a test says so.
 *
 * The log is written with system calls of its own, not by way of the C library, so functions put in front of those of the
 * library would miss it. Here a filter of the kernel (seccomp) traps the calls, except those made from this library, which makes them
 * for the node, or answers with the error that it was told.
 *
 * BAD_DISK names a file with what is to fail, as an array of 64-bit numbers; see bad_disk.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#if !defined(__x86_64__)
#error "for x86-64 only"
#endif

struct plan {
    int64_t kinds;   /* Bit by bit, which calls: see bit_of. */
    int64_t after;   /* So many of them pass first. */
    int64_t count;   /* So many fail then; negative: all. */
    int64_t error;   /* With this. */
    int64_t shorter; /* Before the first that fails, one writes only half of what it was given. */
    int64_t seen;    /* Calls of these kinds since the test armed it. */
    int64_t failed;  /* Calls that have failed. */
    char folder[128]; /* Only files whose path contains this. */
};

static volatile struct plan *plan;

extern long bad_disk_call(long number, long a, long b, long c, long d, long e, long f);
__asm__(
    ".text\n"
    ".globl bad_disk_call\n"
    ".type bad_disk_call,@function\n"
    "bad_disk_call:\n"
    "mov %rdi, %rax\n"
    "mov %rsi, %rdi\n"
    "mov %rdx, %rsi\n"
    "mov %rcx, %rdx\n"
    "mov %r8, %r10\n"
    "mov %r9, %r8\n"
    "mov 8(%rsp), %r9\n"
    "syscall\n"
    ".globl bad_disk_called\n"
    "bad_disk_called:\n"
    "ret\n");
extern char bad_disk_called[];

static int64_t bit_of(long number) {
    switch (number) {
    case SYS_pwritev: case SYS_pwritev2: case SYS_pwrite64: case SYS_write: return 1;
    case SYS_fdatasync: case SYS_fsync: return 2;
    case SYS_openat: case SYS_open: return 4;
    case SYS_ftruncate: case SYS_fallocate: return 8;
    case SYS_rename: case SYS_renameat: case SYS_renameat2: return 16;
    case SYS_unlink: case SYS_unlinkat: return 32;
    default: return 0;
    }
}

static int is_path(const char *path) {
    char folder[128];
    memcpy(folder, (const void *)plan->folder, sizeof folder);
    folder[127] = 0;
    return path && strstr(path, folder) != NULL;
}

static int is_meant(long number, const greg_t *r) {
    char name[32] = "/proc/self/fd/", path[512];
    switch (number) {
    case SYS_open: case SYS_rename: case SYS_unlink:
        return is_path((const char *)r[REG_RDI]);
    case SYS_openat:
        if (!((int)r[REG_RDX] & O_CREAT)) return 0;
        return is_path((const char *)r[REG_RSI]);
    case SYS_renameat: case SYS_renameat2: case SYS_unlinkat:
        return is_path((const char *)r[REG_RSI]);
    }
    char digits[12];
    int count = 0;
    for (unsigned fd = (unsigned)r[REG_RDI]; count == 0 || fd > 0; fd /= 10) digits[count++] = (char)('0' + fd % 10);
    /* By hand: the stack that signals are handled on is small. */
    for (char *end = name + strlen(name); count > 0;) *end++ = digits[--count];
    long n = bad_disk_call(SYS_readlink, (long)name, (long)path, sizeof path - 1, 0, 0, 0);
    if (n <= 0) return 0;
    path[n] = 0;
    return is_path(path);
}

static long halved(long number, const greg_t *r) {
    if (number == SYS_pwritev || number == SYS_pwritev2) {
        const struct iovec *first = (const struct iovec *)r[REG_RSI];
        for (int i = 0; i < (int)r[REG_RDX]; i++) {
            if (first[i].iov_len > 0) {
                struct iovec half = {first[i].iov_base, (first[i].iov_len + 1) / 2};
                if (i > 0) return bad_disk_call(number, r[REG_RDI], (long)first, i, r[REG_R10], r[REG_R8], r[REG_R9]);
                return bad_disk_call(number, r[REG_RDI], (long)&half, 1, r[REG_R10], r[REG_R8], r[REG_R9]);
            }
        }
    }
    long size = r[REG_RDX];
    return bad_disk_call(number, r[REG_RDI], r[REG_RSI], size - size / 2, r[REG_R10], 0, 0);
}

static void trapped(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)info;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    long number = r[REG_RAX];
    int64_t bit = bit_of(number);
    int saved = errno;
    if (plan && (plan->kinds & bit) && is_meant(number, r)) {
        int64_t seen = __atomic_fetch_add((int64_t *)&plan->seen, 1, __ATOMIC_SEQ_CST);
        int64_t past = seen - plan->after;
        if (past == -1 && plan->shorter && bit == 1) {
            r[REG_RAX] = halved(number, r);
            errno = saved;
            return;
        }
        if (past >= 0 && (plan->count < 0 || past < plan->count)) {
            __atomic_fetch_add((int64_t *)&plan->failed, 1, __ATOMIC_SEQ_CST);
            r[REG_RAX] = -plan->error;
            errno = saved;
            return;
        }
    }
    r[REG_RAX] = bad_disk_call(number, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]);
    errno = saved;
}

static void broken(const char *what) {
    perror(what);
    _exit(70);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("BAD_DISK");
    if (!path) return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) broken("BAD_DISK");
    void *shared = mmap(NULL, sizeof(struct plan), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared == MAP_FAILED) broken("BAD_DISK");
    plan = shared;
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    if (sigaction(SIGSYS, &action, NULL) != 0) broken("sigaction");
    uint64_t from = (uint64_t)(uintptr_t)bad_disk_called;
    static const int calls[] = {
        SYS_pwritev, SYS_pwritev2, SYS_pwrite64, SYS_write, SYS_fdatasync, SYS_fsync, SYS_openat, SYS_open,
        SYS_ftruncate, SYS_fallocate, SYS_rename, SYS_renameat, SYS_renameat2, SYS_unlink, SYS_unlinkat,
    };
    enum { CALLS = sizeof calls / sizeof calls[0] };
    struct sock_filter filter[CALLS + 8];
    int n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALLS; i++)
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], CALLS - i, 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer));
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)from, 0, 2);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4);
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(from >> 32), 1, 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) broken("no_new_privs");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) broken("seccomp");
}
