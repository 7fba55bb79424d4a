/*
 * The bare floor of starting a container: what the kernel itself needs for a process in namespaces of
 * its own on an overlay of its own. No daemon, no image store, no network, no limits.
 *
 * usage: floor ROOTFS WORK COUNT PROGRAM; prints one duration in nanoseconds per run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static void make(const char *path) {
    if (mkdir(path, 0755) && errno != EEXIST) die(path);
}

static void child(const char *rootfs, const char *dir, const char *program) {
    char options[1024], merged[512];
    snprintf(merged, sizeof merged, "%s/merged", dir);
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", rootfs, dir, dir);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) die("private");
    if (mount("overlay", merged, "overlay", 0, options)) die("overlay");
    if (chdir(merged)) die("chdir");
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) die("proc");
    if (syscall(SYS_pivot_root, ".", ".")) die("pivot_root");
    if (umount2(".", MNT_DETACH)) die("umount");
    if (sethostname("floor", 5)) die("hostname");
    char *argv[] = {(char *)program, NULL}, *envp[] = {NULL};
    execve(program, argv, envp);
    die("execve");
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: floor ROOTFS WORK COUNT PROGRAM\n");
        return 2;
    }
    for (int i = 0; i < atoi(argv[3]); i++) {
        char dir[256], sub[512];
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        snprintf(dir, sizeof dir, "%s/%d", argv[2], i);
        make(dir);
        const char *subs[] = {"upper", "work", "merged"};
        for (int k = 0; k < 3; k++) {
            snprintf(sub, sizeof sub, "%s/%s", dir, subs[k]);
            make(sub);
        }
        struct clone_args args = {
            .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP,
            .exit_signal = SIGCHLD,
        };
        long pid = syscall(SYS_clone3, &args, sizeof args);
        if (pid < 0) die("clone3");
        if (pid == 0) child(argv[1], dir, argv[4]);
        int status;
        if (waitpid((pid_t)pid, &status, 0) < 0) die("waitpid");
        clock_gettime(CLOCK_MONOTONIC, &to);
        if (status) {
            fprintf(stderr, "floor: the program ended with status %d\n", status);
            return 1;
        }
        printf("%lld\n", (to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec);
    }
    return 0;
}
