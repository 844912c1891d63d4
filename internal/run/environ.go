package run

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/proc"
	"belfry/internal/secrets"
)

// Host is what an attempt inherits from the machine and the daemon.
type Host struct {
	User    string   // that jobs run as
	Home    string   // of that user
	Environ []string // of the daemon
	Name    string   // of the machine
	Key     string   // path of the key of secrets
	// PassEnviron gives all of Environ to the jobs, below what they set
	// themselves: in a container it is where settings are.
	PassEnviron bool

	// For gives what the attempts of an owner's jobs inherit; nil: the same for
	// all, whoever owns them. It may be asked at each start.
	For func(owner string) (Host, error)

	// The rest is what For gives, for the machine's cron.
	Credential *proc.Credential // nil: attempts run as the daemon does
	Session    []string         // what PAM's pam_env would give a session
	Debian     bool             // entries of crontabs have Debian's environment, not cronie's
	Homeless   string           // the folder of entries whose HOME cannot be entered; empty: they do not start
}

// Of gives the host as an owner's jobs find it.
func (h Host) Of(owner string) (Host, error) {
	if h.For == nil {
		return h, nil
	}
	return h.For(owner)
}

// Environ is a list of variables in which a later one replaces an earlier.
type Environ []crontab.Var

// Set puts a variable, in the place of one of the same name.
func (e *Environ) Set(name, value string) {
	for i := range *e {
		if (*e)[i].Name == name {
			(*e)[i].Value = value
			return
		}
	}
	*e = append(*e, crontab.Var{Name: name, Value: value})
}

// Lookup finds a variable.
func (e Environ) Lookup(name string) (string, bool) {
	for _, v := range e {
		if v.Name == name {
			return v.Value, true
		}
	}
	return "", false
}

// lookupFilled finds a variable that is not empty: an empty one would turn
// $LAKE/songs into /songs.
func (e Environ) lookupFilled(name string) (string, bool) {
	value, _ := e.Lookup(name)
	return value, value != ""
}

// Strings gives the variables as execve takes them.
func (e Environ) Strings() []string {
	list := make([]string, len(e))
	for i, v := range e {
		list[i] = v.Name + "=" + v.Value
	}
	return list
}

// parseEnviron reads what Strings writes.
func parseEnviron(list []string) Environ {
	var env Environ
	for _, v := range list {
		name, value, _ := strings.Cut(v, "=")
		env.Set(name, value)
	}
	return env
}

// CronEnviron is exactly the environment that cron gives a crontab's entry: that
// of the session, and over it the crontab's. What is passed on of the daemon's own
// is below both.
func CronEnviron(j *job.Job, host Host) Environ {
	var env Environ
	if host.PassEnviron {
		env = parseEnviron(host.Environ)
	}
	for _, v := range parseEnviron(host.Session) {
		env.Set(v.Name, v.Value)
	}
	for _, v := range CrontabEnviron(j, host) {
		env.Set(v.Name, v.Value)
	}
	return env
}

// CrontabEnviron is what an entry has of the crontab and of cron itself, in the
// order that cron gives it: the locale of the daemon, the crontab's own lines,
// defaults, and LOGNAME and USER, which cannot be overridden. Debian's cron has
// another PATH, takes no locale from the daemon, and knows no USER.
func CrontabEnviron(j *job.Job, host Host) Environ {
	var env Environ
	path := "/usr/bin:/bin"
	if !host.Debian {
		path += ":/usr/sbin:/sbin"
		for _, v := range host.Environ {
			if name, value, _ := strings.Cut(v, "="); name == "LANG" || name == "LANGUAGE" || strings.HasPrefix(name, "LC_") {
				env.Set(name, value)
			}
		}
	}
	if host.PassEnviron {
		passed, _ := parseEnviron(host.Environ).Lookup("PATH")
		path = cmp.Or(passed, path)
	}
	for _, v := range j.Env {
		env.Set(v.Name, v.Value)
	}
	for _, v := range []crontab.Var{{Name: "SHELL", Value: "/bin/sh"}, {Name: "HOME", Value: host.Home}, {Name: "PATH", Value: path}} {
		if _, set := env.Lookup(v.Name); !set {
			env = append(env, v)
		}
	}
	env.Set("LOGNAME", host.User)
	if !host.Debian {
		env.Set("USER", host.User)
	}
	return env
}

// environ gives the whole environment of an attempt (DESIGN.md §5). Its errors
// are for people: a missing env_file, a $NAME that is not set.
func environ(j *job.Job, r Run, attempt int, output string, host Host) (Environ, error) {
	var env Environ
	if j.Crontab {
		env = CronEnviron(j, host)
		belfryEnviron(&env, j, r, attempt, output)
		return env, nil
	}
	inherited := parseEnviron(host.Environ)
	if host.PassEnviron {
		env = slices.Clone(inherited)
	}
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ"} {
		if value, ok := inherited.Lookup(name); ok {
			env.Set(name, value)
		}
	}
	if _, ok := env.Lookup("HOME"); !ok {
		env.Set("HOME", host.Home)
	}
	if lang, _ := env.Lookup("LANG"); lang == "" {
		env.Set("LANG", "C.UTF-8")
	}
	if j.Python.Wanted() {
		for _, v := range inherited {
			if installs(v.Name) {
				env.Set(v.Name, v.Value)
			}
		}
	}
	env.Set("PYTHONUNBUFFERED", "1")
	if j.EnvFile != "" {
		vars, err := readEnvFile(j.EnvFile)
		if err != nil {
			return nil, err
		}
		for _, v := range vars {
			env.Set(v.Name, v.Value)
		}
	}
	if len(j.Secrets) > 0 {
		set, err := secrets.File{Path: j.SecretsFile, Key: host.Key}.Read()
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; make it with “belfry secrets set %s”", err, j.Secrets[0])
		}
		if err != nil {
			return nil, err
		}
		for _, name := range j.Secrets {
			value, known := set.Lookup(name)
			if !known {
				return nil, fmt.Errorf("the secret %s is not in %s; put it there with “belfry secrets set %s”", name, j.SecretsFile, name)
			}
			env.Set(name, value)
		}
	}
	// What env names may refer to BELFRY_…, and cannot replace it.
	belfryEnviron(&env, j, r, attempt, output)
	for _, v := range j.Env {
		value, err := job.Expand(v.Value, env.Lookup)
		if err != nil {
			return nil, fmt.Errorf("env %s of %s: %w", v.Name, j.Name, err) // never its text: it may hold a secret
		}
		env.Set(v.Name, value)
	}
	belfryEnviron(&env, j, r, attempt, output)
	return env, nil
}

// installs reports whether a variable says how packages are fetched. Where the
// daemon has it, it holds for the installs of all jobs.
func installs(name string) bool {
	switch strings.ToLower(name) {
	case "http_proxy", "https_proxy", "all_proxy", "no_proxy":
		return true
	}
	return strings.HasPrefix(name, "PIP_") || strings.HasPrefix(name, "UV_")
}

// Environment is the environment that an attempt of the job would have now, for
// work that is done ahead of its first.
func Environment(j *job.Job, output string, host Host) (Environ, error) {
	now := time.Now()
	return environ(j, Run{FiresAt: now, Named: now.In(j.Zone)}, 1, output, host)
}

func belfryEnviron(env *Environ, j *job.Job, r Run, attempt int, output string) {
	env.Set("BELFRY_JOB", j.Name)
	env.Set("BELFRY_RUN", r.ID)
	env.Set("BELFRY_ATTEMPT", strconv.Itoa(attempt))
	env.Set("BELFRY_CAUSE", string(r.Cause))
	env.Set("BELFRY_OUTPUT", output)
	if r.Cause == plan.Reboot && len(j.Schedules) > 0 { // a boot closes no interval of another schedule
		boot := *j
		boot.Schedules = nil
		j = &boot
	}
	for _, name := range job.Moments {
		if value, set := j.Moment(name, job.Firing{At: r.FiresAt, Named: r.Named}); set {
			env.Set(name, value)
		}
	}
}

// readEnvFile reads NAME=VALUE lines, with comments, blank lines, an optional
// export and quotes around a value. A file that others may read or write is
// refused.
func readEnvFile(path string) (vars []crontab.Var, err error) {
	text, err := secrets.ReadPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("env_file: %w", err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, found := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name = strings.TrimSpace(name)
		if !found || name == "" || strings.ContainsAny(name, " \t\"'$") {
			return nil, fmt.Errorf("%s:%d: not a NAME=VALUE line", path, i+1) // never the text: it may be a secret
		}
		vars = append(vars, crontab.Var{Name: name, Value: unquote(strings.TrimSpace(value))})
	}
	return vars, nil
}

func unquote(value string) string {
	if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		return value[1 : len(value)-1]
	}
	return value
}

// targets gives the places that the attempt's output goes to, with $NAME
// replaced and directories made absolute.
func targets(j *job.Job, env Environ) ([]job.Target, error) {
	var list []job.Target
	home, _ := env.Lookup("HOME")
	output, _ := env.Lookup("BELFRY_OUTPUT")
	for _, t := range j.Publish {
		to, err := job.Expand(t.To, env.lookupFilled)
		if err != nil {
			return nil, fmt.Errorf("publish to %s: %w; in a target, one that is empty is as good as none", t.To, err)
		}
		if strings.HasPrefix(t.To, "$") && job.CheckTarget(to) != nil { // which would show what stands in a variable
			return nil, fmt.Errorf("publish to %s: that is neither a folder nor s3://bucket/prefix/, as its variables are now", t.To)
		}
		to = AbsoluteTarget(to, cmp.Or(j.Dir, home))
		if Inside(to, output) {
			return nil, fmt.Errorf("publish to %s: it lies in the run's own output; choose a place outside of it", t.To)
		}
		written := t.To
		t.To = to
		if err := fill(&t, written, j, env); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

// fill replaces $NAME in the options of a target whose place is known. written is
// how the file has that place: its errors name no value.
func fill(t *job.Target, written string, j *job.Job, env Environ) (err error) {
	if t.KMSKey, err = job.Expand(t.KMSKey, env.lookupFilled); err != nil {
		return fmt.Errorf("publish to %s: kms_key: %w", written, err)
	}
	t.Metadata = maps.Clone(t.Metadata)
	for name, value := range t.Metadata {
		if t.Metadata[name], err = job.Expand(value, env.lookupFilled); err != nil {
			return fmt.Errorf("publish to %s: metadata %s: %w", written, name, err)
		}
	}
	if what, name := secretIn(*t, j, env); name != "" {
		return fmt.Errorf("publish to %s: %s holds the secret %s, and is written down: leave that out", written, what, name)
	}
	return nil
}

// secretIn finds a secret of the job in what is written down of a target.
func secretIn(t job.Target, j *job.Job, env Environ) (what, name string) {
	texts := map[string]string{"the target": t.To, "kms_key": t.KMSKey}
	for key, value := range t.Metadata {
		texts["metadata "+key] = value
	}
	for _, what := range slices.Sorted(maps.Keys(texts)) {
		for _, name := range j.Secrets {
			if value, set := env.Lookup(name); set && strings.Contains(texts[what], value) {
				return what, name
			}
		}
	}
	return "", ""
}

// Inside reports whether a target is the folder dir or lies in it.
func Inside(target, dir string) bool {
	if !filepath.IsAbs(target) || !filepath.IsAbs(dir) {
		return false // s3://…, or no folder at all
	}
	rel, err := filepath.Rel(dir, target)
	return err == nil && filepath.IsLocal(rel)
}

// AbsoluteTarget gives a target that does not depend on a working folder: a
// relative directory lies in dir.
func AbsoluteTarget(to, dir string) string {
	if strings.Contains(to, "://") || filepath.IsAbs(to) {
		return to
	}
	return filepath.Join(dir, to)
}
