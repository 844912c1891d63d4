// floor shell|plain PROGRAM LEDGER N: starts N commands, as fast as a program can that keeps no account: posix_spawn in a loop,
// then waits for all. As a shell's, `sh -c ": ; PROGRAM LEDGER i"`, that is the least that a scheduler of crontab entries can do,
// and what the others are divided by; plain, without a shell, it is the least for those that execute plain commands themselves.
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv) {
	if (argc != 5) {
		fprintf(stderr, "usage: floor shell|plain PROGRAM LEDGER N\n");
		return 2;
	}
	int plain = strcmp(argv[1], "plain") == 0, n = atoi(argv[4]);
	for (int i = 0; i < n; i++) {
		char command[4096];
		char number[16];
		snprintf(number, sizeof number, "%d", i);
		snprintf(command, sizeof command, ": ; %s %s %d", argv[2], argv[3], i);
		char *shell[] = {"/bin/sh", "-c", command, NULL}, *program[] = {argv[2], argv[3], number, NULL};
		char **args = plain ? program : shell;
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
