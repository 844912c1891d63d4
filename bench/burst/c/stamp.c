// stamp LEDGER NAME: the job of the burst. It adds a line to LEDGER, in one write: the wall clock in nanoseconds, and NAME.
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
	struct timespec now;
	if (argc < 3 || clock_gettime(CLOCK_REALTIME, &now) != 0)
		return 2;
	char line[256];
	int length = snprintf(line, sizeof line, "%lld%09ld %s\n", (long long)now.tv_sec, now.tv_nsec, argv[2]);
	int ledger = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0644);
	return ledger < 0 || write(ledger, line, length) != length;
}
