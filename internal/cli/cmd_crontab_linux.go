package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"belfry/api"
	"belfry/internal/syslog"
	"belfry/internal/system"
)

// crontabName is what the binary is called when it stands in the place of the
// crontab command.
const crontabName = "crontab"

// calledCrontab gives the command line that is meant by that of a binary which
// may be called crontab.
func calledCrontab(args []string) []string {
	if len(args) > 0 && filepath.Base(args[0]) == crontabName {
		return append([]string{crontabName}, args[1:]...)
	}
	return args[min(1, len(args)):]
}

func (c *command) crontabCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "crontab [-u USER] [FILE | - | -l | -r [-i] | -e]",
		Short: "Install, show, edit or remove a user's crontab",
		Long: `The crontab command, to the letter that of the machine's cron: Debian's where there is
/var/spool/cron/crontabs, else cronie's. It is the same when the binary is called crontab.

  FILE, -     install it, from a file or from standard input (also without any argument)
  -l          print it
  -e          edit it with $VISUAL, $EDITOR or the system's editor, and install it
  -r          remove it (cronie: a copy is kept in ~/.cache/crontab; -b: none)
  -i          with -r: ask first
  -u USER     another user's, for root
  -n FILE     Debian: only check FILE
  -T FILE     cronie: only check FILE
  --dialect D debian or cronie, as first argument of belfry crontab

/etc/cron.allow and /etc/cron.deny say who may use it. It has no rights of its own: who
cannot write the spool has the system's daemon do it, which sees who asks.

Exit codes: 0 done; 1 not.`,
		Example:            "  belfry crontab -l\n  belfry crontab my-crontab\n  belfry crontab -u alice -e",
		DisableFlagParsing: true, // getopt's rules are others
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == "--help" && filepath.Base(os.Args[0]) != crontabName {
				return cmd.Help()
			}
			// Our own flags are not read here: one before the command's name is among its
			// arguments, and no crontab has an option that is called so.
			if filepath.Base(os.Args[0]) != crontabName && slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-H") || strings.HasPrefix(arg, "--host") }) {
				return usage("%s works on this machine only", cmd.CommandPath()).hint("-H is for commands that talk to a daemon")
			}
			return c.crontab(cmd.Context(), args)
		},
	}
}

func (c *command) crontab(ctx context.Context, args []string) error {
	var dialect system.Dialect
	if len(args) > 1 && args[0] == "--dialect" {
		if dialect = system.Dialect(args[1]); dialect != system.Debian && dialect != system.Cronie {
			return usage("there is no dialect %q", dialect).hint("there are debian and cronie")
		}
		args = args[2:]
	}
	places := system.At("", dialect)
	users := places.Users()
	uid := uint32(os.Getuid())
	caller, err := users.LookupID(uid)
	if unknown := new(system.UnknownUserError); errors.As(err, &unknown) {
		fmt.Fprint(c.err, "crontab: your UID isn't in the passwd file.\nbailing out.\n")
		return exitCode(1)
	}
	if err != nil {
		return err
	}
	tabs := system.Tabs{Places: places, Users: users, Caller: caller}
	var spool system.Spool = tabs
	if unix.Access(places.Spool, unix.W_OK) != nil && uid != 0 {
		client := api.Unix(systemSockets)
		defer client.Close()
		spool = daemonSpool{ctx, client}
	}
	log := syslog.New(syslog.Socket)
	defer log.Close()
	command := system.Command{
		Dialect: places.Dialect, Caller: caller, Users: users, Spool: spool,
		In: c.in, Out: c.out, Err: c.err, Getenv: os.Getenv,
		Log: func(user, event, detail string) { log.Event(crontabName, os.Getpid(), user, event, detail) },
	}
	if code := command.Run(args); code != 0 {
		return exitCode(code)
	}
	return nil
}

// daemonSpool has the system's daemon do what the caller cannot.
type daemonSpool struct {
	ctx    context.Context //nolint:containedctx // it lives as long as the command
	client *api.Client
}

func (s daemonSpool) Look(user string) (system.Tab, error) {
	tab, err := s.client.Crontab(s.ctx, user)
	return system.Tab{There: tab.There, Text: tab.Text}, fromDaemon(err)
}

func (s daemonSpool) Install(user, from string, text []byte) error {
	return fromDaemon(s.client.InstallCrontab(s.ctx, user, api.CrontabRequest{From: from, Text: text}))
}

func (s daemonSpool) Remove(user string) error {
	return fromDaemon(s.client.RemoveCrontab(s.ctx, user))
}

// fromDaemon makes of a daemon's answer the error that the spool would have given.
func fromDaemon(err error) error {
	var answer *api.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &answer):
		if cause := syscall.Errno(0); errors.As(err, &cause) {
			err = cause
		}
		return fmt.Errorf("you cannot write the crontabs yourself, and the machine's belfry, which does it for you, does not answer on %s/%s: %w; root starts it with systemctl start belfry, or with belfry serve --system",
			systemSockets, api.SocketName, err)
	case answer.Code == api.Forbidden && answer.Message == system.ErrNotPrivileged.Error():
		return system.ErrNotPrivileged
	case answer.Code == api.Forbidden:
		return system.ErrNotAllowed
	case answer.Code == api.BadFile:
		return &system.Mistakes{Lines: strings.Split(answer.Message, "\n")}
	case answer.Code == api.Refused:
		path, reason, _ := strings.Cut(answer.Message, ": ")
		return &system.Refusal{Path: path, Reason: reason, Next: answer.Hint}
	case answer.Code == api.NotFound:
		return fmt.Errorf("%s: %w", answer.Message, fs.ErrNotExist)
	}
	return answer
}
