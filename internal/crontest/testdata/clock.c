/* A clock for Debian's cron, preloaded into the daemon: see the package comment.
 *
 * CRONTEST_NOW is when the daemon starts, CRONTEST_END when it leaves, both in seconds since 1970. What it logs goes to
 * standard output: the second, the second that its loop last looked at as local time read as UTC, the message. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static time_t now, end, looked_at;
static int in_job;

static void *next(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);
	if (!f)
		abort();
	return f;
}

__attribute__((constructor)) static void start(void)
{
	now = atoll(getenv("CRONTEST_NOW"));
	end = atoll(getenv("CRONTEST_END"));
}

static void put(const char *message)
{
	char line[1200];
	int n = snprintf(line, sizeof line, "%lld %lld %s\n", (long long)now, (long long)looked_at, message);
	if (n >= (int)sizeof line || write(1, line, n) != n)
		abort();
}

time_t time(time_t *t)
{
	if (t)
		*t = now;
	return now;
}

unsigned int sleep(unsigned int seconds)
{
	while (wait(NULL) >= 0 || errno == EINTR)
		; /* no job outlives its minute */
	now += seconds;
	if (now > end) {
		put("END");
		_exit(0);
	}
	return 0;
}

/* find_jobs takes the minute that it looks for apart with gmtime. So may other code, the current second for one; the
 * daemon wakes a second after the minute and sleeps in tens, so that is never a whole minute. */
struct tm *gmtime(const time_t *t)
{
	static struct tm *(*real)(const time_t *);
	if (!real)
		real = next("gmtime");
	if (*t % 60 == 0)
		looked_at = *t;
	return real(t);
}

/* A job's process is forked by the daemon; it forks another for the command, which logs "CMD" and executes it. The second
 * fork is left out and the log line is the end of it. */
pid_t fork(void)
{
	static pid_t (*real)(void);
	pid_t pid;
	if (in_job)
		return 0;
	if (!real)
		real = next("fork");
	pid = real();
	if (pid == 0)
		in_job = 1;
	else if (pid < 0)
		put("no process for a job");
	return pid;
}

void __syslog_chk(int priority, int flag, const char *format, ...)
{
	char message[1000];
	va_list args;
	(void)priority;
	(void)flag;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	put(message);
	if (in_job && strstr(message, ") CMD ("))
		_exit(0);
}

/* A job's session is opened before its command is known to the log; whether the machine would allow it is not the question. */
int pam_start(const char *service, const char *user, const void *conversation, void **handle)
{
	(void)service, (void)user, (void)conversation;
	*handle = handle;
	return 0;
}
int pam_set_item(void *handle, int type, const void *item) { return (void)handle, (void)type, (void)item, 0; }
int pam_acct_mgmt(void *handle, int flags) { return (void)handle, (void)flags, 0; }
int pam_setcred(void *handle, int flags) { return (void)handle, (void)flags, 0; }
int pam_open_session(void *handle, int flags) { return (void)handle, (void)flags, 0; }
