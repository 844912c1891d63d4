package job

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How people write the values of policies, in a crontab's options and in a
// belfry.yaml alike.

// OneOf finds value among choices; its error lists them.
func OneOf[T ~string](value string, choices []T) (T, error) {
	var names []string
	for _, choice := range choices {
		if string(choice) == value {
			return choice, nil
		}
		names = append(names, string(choice))
	}
	return "", fmt.Errorf("%q is not one of %s", value, strings.Join(names, ", "))
}

// durationText is what ParseDuration reads: at least one number with its unit, the
// largest unit first.
var durationText = regexp.MustCompile(`^(?:(\d+(?:\.\d+)?)d)?((?:\d+(?:\.\d+)?h)?(?:\d+(?:\.\d+)?m)?(?:\d+(?:\.\d+)?s)?)$`)

// ParseDuration reads 90s, 30m, 1h30m or 2d: whole or decimal numbers with the
// units d, h, m and s, and 0. It is a hundred years at most.
func ParseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	wrong := fmt.Errorf("%q is not a duration; write it as 90s, 30m, 1h30m or 2d", text)
	parts := durationText.FindStringSubmatch(text)
	if text == "" || parts == nil {
		return 0, wrong
	}
	var d time.Duration
	if parts[1] != "" {
		days, err := strconv.ParseFloat(parts[1], 64)
		if err != nil || days > 36500 {
			return 0, wrong
		}
		d = time.Duration(days * 24 * float64(time.Hour))
	}
	if parts[2] != "" {
		rest, err := time.ParseDuration(parts[2])
		if err != nil || rest > 36500*24*time.Hour {
			return 0, wrong
		}
		d += rest
	}
	return d, nil
}

// ParseAttempts reads how often a run may be tried: 1 to 100.
func ParseAttempts(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 100 {
		return 0, fmt.Errorf("%q is not a number of attempts (1–100)", text)
	}
	return n, nil
}

// DurationText writes a duration as ParseDuration reads it: 24h, 1h30m, 90s.
func DurationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// ParseSpan reads a duration that is not 0.
func ParseSpan(text string) (time.Duration, error) {
	d, err := ParseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%q is no time at all; write it as 30m or 2h, or leave it out", text)
	}
	return d, err
}

// ParseExitCode reads an exit code that can mean a failure.
func ParseExitCode(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 255 {
		return 0, fmt.Errorf("%q is not an exit code of a failure (1–255)", text)
	}
	return n, nil
}

// ParseUmask reads a umask, which stays as it was written.
func ParseUmask(text string) (string, error) {
	if n, err := strconv.ParseUint(text, 8, 16); err != nil || n > 0o777 {
		return "", fmt.Errorf("%q is not a umask: write octal digits, as in \"027\"", text)
	}
	return text, nil
}

// ParseNice reads a niceness.
func ParseNice(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < -20 || n > 19 {
		return 0, fmt.Errorf("%q is not a niceness (-20 … 19)", text)
	}
	return n, nil
}

// DefaultLogLimit bounds the log of an attempt whose job does not say.
const DefaultLogLimit = 64 << 20

// leastLogLimit leaves the two halves of a log some lines each.
const leastLogLimit = 16 << 10

// ParseLogLimit reads the size that an attempt's log may have: -1 for none.
func ParseLogLimit(text string) (int64, error) {
	if text == "none" {
		return -1, nil
	}
	n, err := ParseSize(text)
	if err != nil {
		return 0, fmt.Errorf("%w, or none", err)
	}
	if n < leastLogLimit {
		return 0, fmt.Errorf("%q is too little for a log: 16KiB at least, or none", text)
	}
	return n, nil
}

var sizeText = regexp.MustCompile(`^(\d{1,18})(KiB|MiB|GiB|TiB)?$`)

// ParseSize reads a number of bytes, as 1048576, 64MiB or 2GiB.
func ParseSize(text string) (int64, error) {
	wrong := fmt.Errorf("%q is not a size; write it as 64MiB, 2GiB or a number of bytes", text)
	parts := sizeText.FindStringSubmatch(text)
	if parts == nil {
		return 0, wrong
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return 0, wrong
	}
	shift := map[string]int{"": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[parts[2]]
	if n > 1<<62>>shift {
		return 0, wrong
	}
	return n << shift, nil
}

// Unlimited is the value of a limit that is taken away.
const Unlimited = -1

// Limit is what an attempt's processes may use of a resource: bytes, seconds or
// a count, or Unlimited.
type Limit struct {
	Resource string `json:"resource"`
	Value    int64  `json:"value"`
}

// Resources are what can be limited, in the order they are told to people.
var Resources = []string{"open_files", "processes", "file_size", "core_size", "cpu_time", "memory", "stack"}

// ParseLimit reads the value of a limit.
func ParseLimit(resource, text string) (Limit, error) {
	l := Limit{Resource: resource, Value: Unlimited}
	if text == "unlimited" {
		return l, nil
	}
	var err error
	switch resource {
	case "open_files", "processes":
		if l.Value, err = strconv.ParseInt(text, 10, 32); err != nil || l.Value < 1 {
			return l, fmt.Errorf("%q is not a number for %s; write one from 1 on, or unlimited", text, resource)
		}
	case "cpu_time":
		d, err := ParseSpan(text)
		if err != nil {
			return l, fmt.Errorf("%w, or unlimited", err)
		}
		l.Value = max(int64(d/time.Second), 1)
	case "file_size", "core_size", "memory", "stack":
		if l.Value, err = ParseSize(text); err != nil {
			return l, fmt.Errorf("%w, or unlimited", err)
		}
		if l.Value == 0 && (resource == "memory" || resource == "stack") {
			return l, fmt.Errorf("nothing runs with a %s of 0; write a size as 512MiB, or unlimited", resource)
		}
	default:
		return l, fmt.Errorf("%q cannot be limited%s", resource, Suggestion(resource, Resources))
	}
	return l, nil
}

// ParseParallel reads how many files are on their way at once.
func ParseParallel(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxParallel {
		return 0, fmt.Errorf("%q is not a number of files at once (1–%d)", text, MaxParallel)
	}
	return n, nil
}

// ParsePartSize reads the size of the parts of a large file, in bytes.
func ParsePartSize(text string) (int64, error) {
	n, err := ParseSize(text)
	if err == nil && (n < 5<<20 || n > 5<<30) {
		err = fmt.Errorf("%q is not a size of parts on S3 (5MiB–5GiB)", text)
	}
	return n, err
}

var (
	storageClass = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	metadataName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
)

// ParseStorageClass reads the name of a storage class; which there are is the
// service's to know.
func ParseStorageClass(text string) (string, error) {
	if !storageClass.MatchString(text) {
		return "", fmt.Errorf("%q is not a storage class; write it as STANDARD_IA", text)
	}
	return text, nil
}

// CheckMetadata says why name cannot name a value of an object's metadata.
func CheckMetadata(name string) error {
	if !metadataName.MatchString(name) {
		return fmt.Errorf("%q cannot name metadata; use a–z, 0–9, dash and underscore", name)
	}
	return nil
}

// CheckPool says whether the pool names[i] is there and stands once in names.
func CheckPool(names []string, i int, pools map[string]int) error {
	name := names[i]
	switch {
	case len(pools) == 0:
		return fmt.Errorf("%q is not a pool: there are none; give its size in belfry.yaml, as in “daemon: {pools: {api: 2}}”", name)
	case pools[name] == 0:
		return fmt.Errorf("%q is not a pool%s", name, Suggestion(name, slices.Sorted(maps.Keys(pools))))
	case slices.Contains(names[:i], name):
		return fmt.Errorf("the pool %q stands twice; a run takes one place in each", name)
	}
	return nil
}

// Suggestion ends a message about a name that is not there: with the one of
// names that was probably meant, or with all there are. A third of the letters
// may be wrong, but not half of them.
func Suggestion(name string, names []string) string {
	best, distance := "", (len(name)+2)/3+1
	for _, n := range names {
		if d := editDistance(strings.ToLower(name), n); d < distance && 2*d < len(name) {
			best, distance = n, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; there are " + strings.Join(names, ", ")
}

// editDistance counts the letters to insert, remove or replace (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
