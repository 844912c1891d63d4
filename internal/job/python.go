package job

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Python says in which virtual environment a job's command runs. The zero value:
// in none.
type Python struct {
	Requirements string   `json:"requirements,omitempty"` // absolute path of the file that says what is installed; empty: nothing is
	Version      Versions `json:"version,omitempty"`      // of the interpreter; empty: any Python 3
}

// Wanted reports whether the job runs in a virtual environment.
func (p Python) Wanted() bool { return p != Python{} }

// Versions is a condition on an interpreter's version as PEP 440 writes it:
// comparisons with commas between them, all of which must hold. A bare 3.11 is
// any 3.11.
type Versions string

// comparison is one of them; a number that was not given is 0.
type comparison struct {
	operator string
	numbers  [3]int
	given    int  // so many of them
	any      bool // .* at its end
}

var comparisonText = regexp.MustCompile(`^(>=|<=|==|!=|~=|>|<|)\s*(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?(\.\*)?$`)

// ParseVersions reads a condition on a version.
func ParseVersions(text string) (Versions, error) {
	for part := range strings.SplitSeq(text, ",") {
		c, err := parseComparison(strings.TrimSpace(part))
		if err != nil {
			return "", err
		}
		if c.operator == "==" && !c.any && c.given < 3 {
			n := c.numbers
			return "", fmt.Errorf("%q is Python %d.%d.%d alone; for any %s write %q", strings.TrimSpace(part), n[0], n[1], n[2], c, c)
		}
	}
	return Versions(strings.TrimSpace(text)), nil
}

func parseComparison(text string) (comparison, error) {
	wrong := fmt.Errorf("%q is not a version of Python; write 3.11, \">=3.9\" or \">=3.9,<3.13\"", text)
	parts := comparisonText.FindStringSubmatch(text)
	if parts == nil {
		return comparison{}, wrong
	}
	c := comparison{operator: parts[1], any: parts[5] != ""}
	for i, digits := range parts[2:5] {
		if digits == "" {
			break
		}
		c.numbers[i], _ = strconv.Atoi(digits) // at most four digits
		c.given++
	}
	switch c.operator {
	case "": // a bare version
		c.operator, c.any = "==", c.any || c.given < 3
	case "~=":
		if c.any || c.given < 2 {
			return comparison{}, fmt.Errorf("%q: ~= takes a version of two or three numbers, as in ~=3.9", text)
		}
	case "==", "!=":
	default:
		if c.any {
			return comparison{}, fmt.Errorf("%q: .* goes with == and != alone", text)
		}
	}
	return c, nil
}

// String gives the version, without its operator.
func (c comparison) String() string {
	text := strconv.Itoa(c.numbers[0])
	for _, n := range c.numbers[1:c.given] {
		text += "." + strconv.Itoa(n)
	}
	return text
}

// Allow reports whether an interpreter of this version (3, 11, 2) may be taken.
func (v Versions) Allow(version [3]int) bool {
	if v == "" {
		return true
	}
	for part := range strings.SplitSeq(string(v), ",") {
		c, err := parseComparison(strings.TrimSpace(part))
		if err != nil || !c.holds(version) {
			return false
		}
	}
	return true
}

func (c comparison) holds(version [3]int) bool {
	order := 0 // of version, compared with the one that is written
	for i, n := range version {
		if order == 0 {
			order = n - c.numbers[i]
		}
	}
	begins := func(given int) bool { return slices.Equal(version[:given], c.numbers[:given]) }
	switch c.operator {
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case "<":
		return order < 0
	case "~=":
		return order >= 0 && begins(c.given-1)
	case "!=":
		return order != 0 && (!c.any || !begins(c.given))
	}
	return order == 0 || c.any && begins(c.given)
}
