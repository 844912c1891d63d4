package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Profile is one profile of the AWS configuration.
type Profile struct {
	Name string `json:"name"`
	// Credentials and Config are the lines of its sections in ~/.aws/credentials
	// and ~/.aws/config, without their heads; empty: there is none.
	Credentials string `json:"credentials"`
	Config      string `json:"config"`
}

// heads are the heads of its sections.
func (p Profile) heads() (credentials, config string) {
	if p.Name == "default" {
		return "default", "default"
	}
	return p.Name, "profile " + p.Name
}

// ReadProfile reads one profile of those below home.
func ReadProfile(home, name string) (Profile, error) {
	p := Profile{Name: name}
	credentials, config := p.heads()
	for _, part := range []struct {
		file, head string
		to         *string
	}{{"credentials", credentials, &p.Credentials}, {"config", config, &p.Config}} {
		text, err := os.ReadFile(filepath.Join(home, ".aws", part.file))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p, fmt.Errorf("read the AWS profile %s: %w", name, err)
		}
		_, *part.to, _ = sections(string(text), part.head)
	}
	all := p.Credentials + p.Config
	switch {
	case all == "":
		return p, fmt.Errorf("there is no AWS profile %q in ~/.aws/credentials or ~/.aws/config", name)
	case !strings.Contains(all, "aws_access_key_id"):
		return p, fmt.Errorf("the AWS profile %q has no keys of its own, and what it gets them by (a login, another profile, a program) is not on the host; give the machine a role instead, or name a profile with keys", name)
	}
	return p, nil
}

// WriteProfile puts a profile beside those that this user has, in the place of one
// of the same name, and says whether anything had to be changed.
func (s *Site) WriteProfile(ctx context.Context, p Profile) (changed bool, err error) {
	err = s.atHome(ctx, func() error {
		changed, err = writeProfile(p)
		return err
	})
	return changed, err
}

func writeProfile(p Profile) (changed bool, err error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return false, err
	}
	dir := filepath.Join(home, ".aws")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	credentials, config := p.heads()
	for _, part := range []struct{ file, head, body string }{{"credentials", credentials, p.Credentials}, {"config", config, p.Config}} {
		if part.body == "" {
			continue
		}
		path := filepath.Join(dir, part.file)
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return changed, err
		}
		before, body, after := sections(string(text), part.head)
		if strings.TrimSpace(body) == strings.TrimSpace(part.body) {
			continue
		}
		if before != "" && !strings.HasSuffix(before, "\n") {
			before += "\n"
		}
		next := before + "[" + part.head + "]\n" + strings.TrimRight(part.body, "\n") + "\n" + after
		if err := replace(path, []byte(next), 0o600); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// sections takes a file of sections apart: what stands before the one with this
// head, its lines, and what stands after.
func sections(text, head string) (before, body, after string) {
	into := &before
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "[") {
			name := strings.Join(strings.Fields(strings.Trim(trimmed, "[]")), " ")
			switch {
			case name == head:
				into = &body
				continue
			case into == &body:
				into = &after
			}
		}
		*into += line
	}
	return before, body, after
}
