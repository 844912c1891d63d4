package job

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Moments are the variables by which an attempt knows its firing. All speak of
// the firing, not of the clock (DESIGN.md §4.9).
var Moments = []string{
	"BELFRY_FIRES_AT", "BELFRY_DATE", "BELFRY_HOUR", "BELFRY_STAMP",
	"BELFRY_INTERVAL_START", "BELFRY_INTERVAL_END", "BELFRY_START_DATE",
}

// Moment gives the value of one of Moments for a firing of the job. The interval
// is from the schedule's firing before, computed and not remembered; where there
// is none, its variables are not set.
func (j *Job) Moment(name string, f Firing) (value string, set bool) {
	switch name {
	case "BELFRY_FIRES_AT":
		return f.At.UTC().Format(time.RFC3339), true
	case "BELFRY_DATE":
		return f.Named.Format(time.DateOnly), true
	case "BELFRY_HOUR":
		return f.Named.Format("15"), true
	case "BELFRY_STAMP":
		return f.At.UTC().Format("20060102T150405Z"), true
	}
	start := j.Prev(f.At)
	switch {
	case start.IsZero():
		return "", false
	case name == "BELFRY_INTERVAL_START":
		return start.UTC().Format(time.RFC3339), true
	case name == "BELFRY_INTERVAL_END":
		return f.At.UTC().Format(time.RFC3339), true
	case name == "BELFRY_START_DATE":
		return j.startNamed(f.At, start).Format(time.DateOnly), true
	}
	return "", false
}

var reference = regexp.MustCompile(`\$(?:\$|\{[^}]*\}?|[A-Za-z_][A-Za-z0-9_]*|[0-9]+)`)

// Expand replaces $NAME and ${NAME} by what lookup finds. One that is not set,
// or not closed, is an error; $$ is a dollar. The error names what is missing
// and never the text, which may hold a secret.
func Expand(text string, lookup func(name string) (string, bool)) (string, error) {
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
		value, ok := lookup(name)
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
	return "", fmt.Errorf("%s is not set; there are the BELFRY_… variables and those of env, env_file and secrets", strings.Join(slices.Compact(missing), ", "))
}
