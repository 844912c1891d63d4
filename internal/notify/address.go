package notify

import (
	"fmt"
	"strings"
)

// addressMarks are what may follow the first letter of an address beside letters
// and digits: cronie's set, and what Debian's has more.
const (
	addressMarks = "@!:%-.,_+"
	debianMarks  = addressMarks + "=/"
)

// SafeAddress reports whether cron would mail to s, cronie's safe_p or Debian's:
// printable ASCII that begins with a letter or a digit, so never an option, a path
// or a pipe for the mailer, and without spaces, quotes or angle brackets. A comma
// is safe: s may be a list.
func SafeAddress(s string, debian bool) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && (i == 0 || strings.IndexByte(marks(debian), s[i]) < 0) {
			return false
		}
	}
	return s != ""
}

func marks(debian bool) string {
	if debian {
		return debianMarks
	}
	return addressMarks
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// ParseMailTo takes apart cron's MAILTO: addresses or user names with commas
// between them. An empty value asks for no mail and gives none. Where cron would
// log UNSAFE and send nothing the error says what is wrong with which address.
// It is stricter than cron in one thing: each address, not only the first, has to
// begin with a letter or a digit.
func ParseMailTo(value string, debian bool) (to []string, err error) {
	if value == "" {
		return nil, nil
	}
	for address := range strings.SplitSeq(value, ",") {
		if address == "" {
			continue // cron minds "a,,b" as little
		}
		if !SafeAddress(address, debian) {
			return nil, fmt.Errorf("MAILTO %q: %s", value, whyUnsafe(address, debian))
		}
		to = append(to, address)
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("MAILTO %q: no address in it; write MAILTO=\"\" for no mail", value)
	}
	return to, nil
}

// whyUnsafe says what is wrong with an address that is not safe.
func whyUnsafe(address string, debian bool) string {
	if strings.ContainsAny(address, " \t") {
		return fmt.Sprintf("%q has a space; write addresses without spaces, with a comma between them, as in ann@example.com,bob", address)
	}
	if strings.ContainsAny(address, "<>\"") {
		return fmt.Sprintf("%q is not a bare address; write ann@example.com, without a name, quotes or <>", address)
	}
	for i, r := range address {
		switch {
		case r > '~' || r < ' ':
			return fmt.Sprintf("%q has %q, which is not printable ASCII", address, r)
		case i == 0 && !isAlnum(byte(r)):
			return fmt.Sprintf("%q begins with %q; an address begins with a letter or a digit", address, r)
		case !isAlnum(byte(r)) && !strings.ContainsRune(marks(debian), r):
			return fmt.Sprintf("%q has %q; letters, digits and %s may be in an address", address, r, marks(debian))
		}
	}
	return fmt.Sprintf("%q is not an address", address)
}

// checkUser refuses names of users that would be another file than a mailbox in
// the folder of mailboxes.
func checkUser(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("no user to put the mail in the mailbox of")
	case strings.HasPrefix(name, "."), strings.HasSuffix(name, ".lock"), strings.ContainsAny(name, "/\x00\n"):
		return fmt.Errorf("%q cannot be the name of a mailbox", name)
	}
	return nil
}
