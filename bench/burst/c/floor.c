// floor COMMAND N: starts N shells, as fast as a program can that keeps no account: posix_spawn("sh -c COMMAND N") in a
// loop, then waits for all. The least that a scheduler of crontab entries can do, and what the others are divided by.
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv) {
	if (argc != 3) {
		fprintf(stderr, "usage: floor COMMAND N\n");
		return 2;
	}
	int n = atoi(argv[2]);
	for (int i = 0; i < n; i++) {
		char command[4096];
		snprintf(command, sizeof command, "%s %d", argv[1], i);
		char *args[] = {"/bin/sh", "-c", command, NULL};
		pid_t pid;
		int err = posix_spawn(&pid, args[0], NULL, NULL, args, environ);
		if (err != 0) {
			fprintf(stderr, "floor: %s\n", strerror(err));
			return 1;
		}
	}
	while (wait(NULL) > 0) {
	}
	return 0;
}
