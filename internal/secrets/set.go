package secrets

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Set is what a file of secrets holds. The zero Set is empty.
type Set struct {
	values map[string]string
	former []string // values that were replaced or removed, the newest last
}

// keptFormer is how many former values are kept: an attempt that was started with
// one may still print it.
const keptFormer = 20

// formerMark begins a line with a former value. In a text that a person has
// edited it would be a comment.
const formerMark = "#former "

var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// CheckName says whether a secret can be called so: as a variable of the
// environment that is not Belfry's own.
func CheckName(name string) error {
	switch {
	case !validName.MatchString(name):
		return fmt.Errorf("%q cannot be the name of a secret; use letters, digits and underscores, as in SPOTIFY_TOKEN", name)
	case strings.HasPrefix(name, "BELFRY_"):
		return fmt.Errorf("%s is set by belfry; choose another name", name)
	}
	return nil
}

// checkValue says whether an environment can hold a value.
func checkValue(value string) error {
	switch {
	case value == "":
		return fmt.Errorf("the value is empty")
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("the value holds a NUL, which no environment can")
	}
	return nil
}

// Names lists the secrets, sorted.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.values)) }

// Lookup finds the value of a secret.
func (s *Set) Lookup(name string) (value string, ok bool) {
	value, ok = s.values[name]
	return value, ok
}

// Former gives values that are no secret's any more and were one's not long ago.
func (s *Set) Former() []string { return s.former }

// Put gives a secret a value.
func (s *Set) Put(name, value string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := checkValue(value); err != nil {
		return err
	}
	if s.values == nil {
		s.values = map[string]string{}
	}
	if before, known := s.values[name]; known && before != value {
		s.retire(before)
	}
	s.values[name] = value
	return nil
}

// Remove takes a secret away, and says whether there was one.
func (s *Set) Remove(name string) bool {
	value, known := s.values[name]
	if known {
		delete(s.values, name)
		s.retire(value)
	}
	return known
}

func (s *Set) retire(value string) {
	s.former = append(slices.DeleteFunc(s.former, func(v string) bool { return v == value }), value)
	s.former = s.former[max(0, len(s.former)-keptFormer):]
}

// Text writes the secrets as a person edits them: NAME=VALUE, a line each.
func (s *Set) Text() string {
	var b strings.Builder
	for _, name := range s.Names() {
		value := s.values[name]
		if plain(value) {
			fmt.Fprintf(&b, "%s=%s\n", name, value)
		} else {
			fmt.Fprintf(&b, "%s=%s\n", name, strconv.Quote(value))
		}
	}
	return b.String()
}

// plain reports whether a value is read as it stands.
func plain(value string) bool {
	return strings.TrimSpace(value) == value && !strings.ContainsAny(value[:1], `"'`) && strconv.CanBackquote(strings.ReplaceAll(value, "`", ""))
}

// Edit makes the secrets those of a text that a person has edited.
func (s *Set) Edit(text string) error {
	edited, err := parse(text)
	if err != nil {
		return err
	}
	for _, name := range s.Names() {
		if _, still := edited.values[name]; !still {
			s.Remove(name)
		}
	}
	for _, name := range edited.Names() {
		if err := s.Put(name, edited.values[name]); err != nil {
			return err
		}
	}
	return nil
}

// all is the text that is encrypted.
func (s *Set) all() string {
	var b strings.Builder
	for _, value := range s.former {
		b.WriteString(formerMark + strconv.Quote(value) + "\n")
	}
	return b.String() + s.Text()
}

// parse reads what all or a person has written. Its errors show no value.
func parse(text string) (*Set, error) {
	s := new(Set)
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if quoted, found := strings.CutPrefix(line, formerMark); found {
			if value, err := strconv.Unquote(quoted); err == nil {
				s.former = append(s.former, value)
			}
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if !found {
			return nil, fmt.Errorf("line %d: not a NAME=VALUE line", i+1)
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if strings.HasPrefix(value, `"`) {
			unquoted, err := strconv.Unquote(value)
			if err != nil {
				return nil, fmt.Errorf(`line %d: the value of %s begins with a quote and does not end with one; write \" and \n within quotes`, i+1, name)
			}
			value = unquoted
		} else if len(value) > 1 && value[0] == '\'' && value[len(value)-1] == '\'' {
			value = value[1 : len(value)-1]
		}
		if CheckName(name) != nil { // whose error would show it: it may be a part of a value
			return nil, fmt.Errorf("line %d: what stands before the = cannot be the name of a secret; use letters, digits and underscores, and not BELFRY_", i+1)
		}
		if _, twice := s.values[name]; twice {
			return nil, fmt.Errorf("line %d: %s stands twice", i+1, name)
		}
		if err := s.Put(name, value); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", i+1, name, err)
		}
	}
	return s, nil
}
