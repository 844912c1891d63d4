package publish

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"belfry/internal/job"
)

// place is a parsed target.
type place struct {
	to             string
	bucket, prefix string // of S3; the prefix ends in "/" unless it is ""
	dir            string // of a directory
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// Check reports why to is not a target that Belfry can publish to, in a sentence.
// $NAME and ${NAME} may stand in it; what they become is checked again at each
// publish.
func Check(to string) error {
	known, err := job.Expand(to, func(string) (string, bool) { return "value", true })
	if err != nil {
		return fmt.Errorf("target %q: %w", to, err)
	}
	if strings.HasPrefix(to, "$") && strings.HasPrefix(known, "value") {
		known = "/" + known // "$HOME/results": no more than this can be known
	}
	_, err = parseTarget(known)
	return err
}

// Place gives the one name of a target that can be written in several ways, with
// or without its last slash: who locks targets goes by it.
func Place(to string) string {
	p, err := parseTarget(to)
	switch {
	case err != nil:
		return to
	case p.bucket != "":
		return "s3://" + p.bucket + "/" + p.prefix
	}
	return p.dir
}

// parseTarget reads a target without variables.
func parseTarget(to string) (place, error) {
	p := place{to: to}
	switch {
	case to == "":
		return p, errors.New(`the target is empty: write "s3://bucket/prefix/" or an absolute folder`)
	case !utf8.ValidString(to) || strings.ContainsFunc(to, isControl):
		return p, fmt.Errorf("target %q has characters that no target can have", to)
	case strings.HasPrefix(to, "s3://"):
		bucket, prefix, _ := strings.Cut(strings.TrimPrefix(to, "s3://"), "/")
		if !bucketName.MatchString(bucket) || strings.Contains(bucket, "..") {
			return p, fmt.Errorf("target %q: %q is not the name of a bucket (3–63 small letters, digits, dots and hyphens): write s3://bucket/prefix/", to, bucket)
		}
		prefix = strings.TrimSuffix(prefix, "/")
		if prefix != "" {
			for part := range strings.SplitSeq(prefix, "/") {
				if part == "" || part == "." || part == ".." {
					return p, fmt.Errorf("target %q: the prefix has a part %q: is a variable in it empty?", to, part)
				}
			}
			prefix += "/"
		}
		p.bucket, p.prefix = bucket, prefix
		return p, nil
	case strings.Contains(to, "://"):
		scheme, _, _ := strings.Cut(to, "://")
		return p, fmt.Errorf("target %q: Belfry cannot publish to %q: write s3://bucket/prefix/ or an absolute folder", to, scheme+"://")
	case !strings.HasPrefix(to, "/"):
		return p, fmt.Errorf("target %q is not absolute: write the folder from / on, or s3://bucket/prefix/", to)
	}
	for part := range strings.SplitSeq(to, "/") {
		if part == ".." {
			return p, fmt.Errorf(`target %q has ".." in it: write the folder without`, to)
		}
	}
	p.dir = path.Clean(to)
	if p.dir == "/" {
		return p, fmt.Errorf("target %q is the root of the file system: name a folder that is for this job alone", to)
	}
	return p, nil
}

// overlaps reports whether p and q are the same place or one lies in the other.
func (p place) overlaps(q place) bool {
	if p.bucket != "" || q.bucket != "" {
		return p.bucket == q.bucket && (strings.HasPrefix(p.prefix, q.prefix) || strings.HasPrefix(q.prefix, p.prefix))
	}
	return within(p.dir, q.dir) || within(q.dir, p.dir)
}

// within reports whether the clean path p is dir or lies in it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
