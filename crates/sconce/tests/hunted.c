// Root of a container that has CAP_SYS_PTRACE: takes over each process that comes into the container as soon as it is
// there, says what it may do, and has it try what would open the machine. A line for each: capabilities, what
// mounting answered, and the mode of its seccomp filter.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned long long permitted(pid_t pid, int *filter) {
    char path[64], line[256];
    unsigned long long bits = 0;
    *filter = -1;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "CapPrm:\t%llx", &bits) != 1 && sscanf(line, "Seccomp:\t%d", filter) == 1) break;
    if (status) fclose(status);
    return bits;
}

#ifdef __x86_64__
// One system call in the process, which stopped in one: the instruction before its own is `syscall`.
static long call(pid_t pid, struct user_regs_struct was, long number, const unsigned long long *args) {
    struct user_regs_struct now = was;
    int status;
    now.rax = number; now.orig_rax = -1; now.rip = was.rip - 2;
    now.rdi = args[0]; now.rsi = args[1]; now.rdx = args[2]; now.r10 = args[3]; now.r8 = args[4];
    if (ptrace(PTRACE_SETREGS, pid, 0, &now)) return -1000;
    if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0)) return -1001;
    if (waitpid(pid, &status, __WALL) < 0 || !WIFSTOPPED(status)) return -1002;
    if (ptrace(PTRACE_GETREGS, pid, 0, &now)) return -1003;
    return now.rax;
}

static long try_to_mount(pid_t pid) {
    struct user_regs_struct was;
    if (ptrace(PTRACE_GETREGS, pid, 0, &was)) return -1004;
    union { char text[32]; long words[4]; } place = {{0}};
    strcpy(place.text, "/tmp/m"); strcpy(place.text + 16, "tmpfs");
    unsigned long long at = (was.rsp - 4096) & ~15ULL;
    for (int word = 0; word < 4; word++)
        if (ptrace(PTRACE_POKEDATA, pid, at + word * 8, place.words[word])) return -1005;
    unsigned long long args[5] = {at + 16, at, at + 16, 0, 0};
    long answer = call(pid, was, SYS_mount, args);
    ptrace(PTRACE_SETREGS, pid, 0, &was);
    return answer;
}
#else
static long try_to_mount(pid_t pid) { return -1006; }
#endif

int main(void) {
    FILE *log = fopen("/flags/log", "w");
    mkdir("/tmp/m", 0755);
    pid_t next = getpid() + 1;
    fprintf(log, "ready\n"); fflush(log);
    for (;;) {
        pid_t pid = next;
        while (ptrace(PTRACE_SEIZE, pid, 0, 0)) pid = pid < next + 16 ? pid + 1 : next;
        int status;
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        if (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
            int filter;
            unsigned long long bits = permitted(pid, &filter);
            char program[256] = "", path[64];
            snprintf(path, sizeof path, "/proc/%d/exe", pid);
            // Not one of sconce's any more when it has become the command.
            int ours = readlink(path, program, sizeof program - 1) < 0 || strncmp(program, "/usr/", 5);
            fprintf(log, "%d %llx %ld %d %s\n", ours, bits, ours ? try_to_mount(pid) : -1007, filter, program);
            fflush(log);
            ptrace(PTRACE_DETACH, pid, 0, 0);
        }
        next = pid + 1;
    }
}
