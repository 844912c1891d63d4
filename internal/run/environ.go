package run

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/plan"
)

// Host is what an attempt inherits from the machine and the daemon.
type Host struct {
	User    string   // that jobs run as
	Home    string   // of that user
	Environ []string // of the daemon
	Name    string   // of the machine
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

// Strings gives the variables as execve takes them.
func (e Environ) Strings() []string {
	list := make([]string, len(e))
	for i, v := range e {
		list[i] = v.Name + "=" + v.Value
	}
	return list
}

// CronEnviron is exactly the environment that cron gives a crontab's entry:
// cronie's defaults, the locale of the daemon, the crontab's own lines, and
// LOGNAME and USER, which cannot be overridden.
func CronEnviron(j *job.Job, host Host) Environ {
	var env Environ
	for _, v := range host.Environ {
		name, value, _ := strings.Cut(v, "=")
		if name == "LANG" || name == "LANGUAGE" || strings.HasPrefix(name, "LC_") {
			env.Set(name, value)
		}
	}
	env.Set("SHELL", "/bin/sh")
	env.Set("HOME", host.Home)
	env.Set("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
	for _, v := range j.Env {
		env.Set(v.Name, v.Value)
	}
	env.Set("LOGNAME", host.User)
	env.Set("USER", host.User)
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
	inherited := Environ{}
	for _, v := range host.Environ {
		name, value, _ := strings.Cut(v, "=")
		inherited.Set(name, value)
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
	// What env names may refer to BELFRY_…, and cannot replace it.
	belfryEnviron(&env, j, r, attempt, output)
	for _, v := range j.Env {
		value, err := Expand(v.Value, env)
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
	env.Set("BELFRY_FIRES_AT", utc(r.FiresAt))
	env.Set("BELFRY_DATE", r.Named.Format(time.DateOnly))
	env.Set("BELFRY_HOUR", r.Named.Format("15"))
	env.Set("BELFRY_STAMP", r.FiresAt.UTC().Format("20060102T150405Z"))
	if start, end := plan.Interval(j, r.FiresAt); !start.IsZero() && r.Cause != plan.Reboot {
		env.Set("BELFRY_INTERVAL_START", utc(start))
		env.Set("BELFRY_INTERVAL_END", utc(end))
		env.Set("BELFRY_START_DATE", start.In(j.ZoneAt(r.FiresAt)).Format(time.DateOnly))
	}
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }

var reference = regexp.MustCompile(`\$(?:\$|\{[^}]*\}?|[A-Za-z_][A-Za-z0-9_]*|[0-9]+)`)

// Expand replaces $NAME and ${NAME} by the variables of env. One that is not
// set, or not closed, is an error; $$ is a dollar. The error names what is
// missing and never the text, which may hold a secret.
func Expand(text string, env Environ) (string, error) {
	var missing []string
	expanded := reference.ReplaceAllStringFunc(text, func(ref string) string {
		if ref == "$$" {
			return "$"
		}
		name := ref[1:]
		if inner, found := strings.CutPrefix(name, "{"); found {
			name, found = strings.CutSuffix(inner, "}")
			if !found {
				missing = append(missing, "${")
				return ""
			}
		}
		value, ok := env.Lookup(name)
		if !ok {
			missing = append(missing, "$"+name)
		}
		return value
	})
	if len(missing) == 0 {
		return expanded, nil
	}
	slices.Sort(missing)
	if slices.Contains(missing, "${") {
		return "", errors.New("a ${ is not closed; $$ is a dollar")
	}
	return "", fmt.Errorf("%s is not set; there are the BELFRY_… variables and those of env and env_file", strings.Join(slices.Compact(missing), ", "))
}

// readEnvFile reads NAME=VALUE lines, with comments, blank lines, an optional
// export and quotes around a value. A file that others may write is refused.
func readEnvFile(path string) (vars []crontab.Var, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("env_file: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("env_file %s can be written by others (mode %04o); chmod 600 it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
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
	// An empty name would turn $LAKE/songs into /songs.
	env = slices.DeleteFunc(slices.Clone(env), func(v crontab.Var) bool { return v.Value == "" })
	for _, t := range j.Publish {
		to, err := Expand(t.To, env)
		if err != nil {
			return nil, fmt.Errorf("publish to %s: %w; in a target, one that is empty is as good as none", t.To, err)
		}
		to = AbsoluteTarget(to, cmp.Or(j.Dir, home))
		if Inside(to, output) {
			return nil, fmt.Errorf("publish to %s: it lies in the run's own output; choose a place outside of it", t.To)
		}
		t.To = to
		if t.KMSKey, err = Expand(t.KMSKey, env); err != nil {
			return nil, fmt.Errorf("publish to %s: kms_key: %w", t.To, err)
		}
		t.Metadata = maps.Clone(t.Metadata)
		for name, value := range t.Metadata {
			if t.Metadata[name], err = Expand(value, env); err != nil {
				return nil, fmt.Errorf("publish to %s: metadata %s: %w", t.To, name, err)
			}
		}
		list = append(list, t)
	}
	return list, nil
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
