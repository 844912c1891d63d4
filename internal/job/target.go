package job

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	// scheme begins what is no folder: s3://, gs://, C:\.
	scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)
	home   = regexp.MustCompile(`^~[^/]*`)
)

// CheckTarget says why text, in which $NAME may stand, cannot be meant as a place
// to publish to: a folder, or s3://bucket/prefix/. What it says shows the text.
func CheckTarget(text string) error {
	begin := scheme.FindString(text)
	rest := strings.TrimPrefix(text, begin)
	place := strings.TrimLeft(rest, "/")
	switch name := strings.ToLower(begin); {
	case text == "":
		return fmt.Errorf("publish needs a target: a folder or s3://bucket/prefix/")
	case begin == "s3:" && strings.HasPrefix(rest, "//"):
		return nil
	case name == "s3:" || name == "s3a:" || name == "s3n:":
		return fmt.Errorf("%q is no place on S3; write %q", text, "s3://"+place)
	case name == "file:" && place != rest:
		return fmt.Errorf("%q is written as a folder: %q", text, "/"+place)
	case strings.HasPrefix(rest, "//"):
		return fmt.Errorf("%q: belfry publishes to folders and to S3, not to %s//; a store that speaks S3 is s3://bucket/prefix/, with its address in AWS_ENDPOINT_URL_S3", text, begin)
	case begin != "":
		return fmt.Errorf("%q is no place that belfry knows; if a folder is called that, write %q", text, "./"+text)
	}
	switch user := home.FindString(text); user {
	case "":
		return nil
	case "~":
		return fmt.Errorf("%q: only a shell knows what ~ is; write %q", text, "$HOME"+text[1:])
	default:
		return fmt.Errorf("%q: only a shell knows whose folder %s is; write the folder from / on, or %q if it is called that", text, user, "./"+text)
	}
}
