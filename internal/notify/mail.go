package notify

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// format writes the mail as it stands in the mailbox, from its From_ line to the
// blank line that ends it. The same message gives the same bytes.
//
// From "From:" on it is cronie's mail to the letter: its headers in its order,
// not folded, and like cron's not encoded: a command in UTF-8 makes a Subject in
// raw UTF-8, which mail readers show. Before that stand Date and Message-ID, which
// cron leaves to the mail server; here nobody else will add them. There is no
// Return-Path: no envelope was there, and the From_ line's MAILER-DAEMON says the
// same. The From_ line is in UTC (RFC 4155), the Date in the zone of msg.At.
//
// Lines of the body that begin with "From " get a ">" before them (mboxo, as
// Debian's mail servers, mail and Python's mailbox write it; lines that begin
// with ">From " are left as they are).
func format(msg Message, id string, body []byte) []byte {
	from := msg.From
	if !SafeAddress(from) {
		from = msg.User
	}
	to := strings.Join(msg.To, ",")
	to = cmp.Or(to, msg.Mailbox, msg.User)
	subject := msg.Subject
	if subject == "" {
		host, _, _ := strings.Cut(msg.Host, ".")
		subject = fmt.Sprintf("Cron <%s@%s> %s", msg.User, host, msg.Command)
	}

	var b bytes.Buffer
	fmt.Fprintf(&b, "From MAILER-DAEMON %s\n", msg.At.UTC().Format(time.ANSIC))
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\n", name, clean(value)) }
	header("Date", msg.At.Format(time.RFC1123Z))
	header("Message-ID", id)
	header("From", fmt.Sprintf(`"(Cron Daemon)" <%s>`, from))
	header("To", to)
	header("Subject", subject)
	header("MIME-Version", "1.0")
	header("Content-Type", cmp.Or(msg.ContentType, "text/plain; charset=UTF-8"))
	header("Content-Transfer-Encoding", cmp.Or(msg.TransferEncoding, "8bit"))
	header("Auto-Submitted", "auto-generated")
	header("Precedence", "bulk")
	for _, env := range msg.Env {
		header("X-Cron-Env", "<"+env+">")
	}
	b.WriteByte('\n')

	if msg.Intro != "" {
		writeBody(&b, []byte(msg.Intro))
		b.WriteByte('\n')
	}
	writeBody(&b, body)
	b.WriteByte('\n')
	return b.Bytes()
}

// writeBody writes whole lines as a mailbox may hold them. Like cron it removes
// every \r, and before it looks for "From ", not after. Other bytes, UTF-8 or
// not, stay what they are.
func writeBody(b *bytes.Buffer, text []byte) {
	text = bytes.ReplaceAll(text, []byte("\r"), nil)
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("From ")) {
			b.WriteByte('>')
		}
		b.Write(line)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		b.WriteByte('\n')
	}
}

// clean makes s one line of a header: a control character but the tab becomes a
// space, a byte that is not UTF-8 becomes U+FFFD.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (unicode.IsControl(r) || r == '\u2028' || r == '\u2029') {
			return ' '
		}
		return r
	}, s)
}

// messageID names the mail by what it is about and by the item of the outbox that
// owes it: a run may be news more than once, a repeat is the same item.
func messageID(run, item, host string) string {
	word := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < utf8.RuneSelf && isAlnum(byte(r)) || strings.ContainsRune("._-", r) {
				return r
			}
			return '-'
		}, s)
	}
	local := word(run)
	if item != "" && item != run {
		local = strings.TrimPrefix(local+"."+word(item), ".")
	}
	return "<" + cmp.Or(local, "unknown") + "@" + cmp.Or(word(host), "localhost") + ">"
}

// body returns the text of the mail after the intro, no longer than its limit.
// The news is not lost with the output: a log that is gone, or that must not be
// read, leaves a line that says so.
func (m *Mailbox) body(msg Message) ([]byte, error) {
	limit := msg.BodyLimit
	if limit <= 0 {
		limit = 1 << 20
	}
	if msg.BodyFile == "" {
		return excerpt(strings.NewReader(msg.Body), int64(len(msg.Body)), limit, msg.Run)
	}
	f, err := m.openBody(msg.BodyFile, msg.User)
	if err != nil {
		var refused refusal
		if !errors.As(err, &refused) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.ELOOP) {
			return nil, fmt.Errorf("read the output: %w", err)
		}
		m.log.Warn("mail without the output", "run", msg.Run, "file", msg.BodyFile, "error", err)
		return fmt.Appendf(nil, "[the output could not be read: %v]\n", err), nil
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the output: %w", err)
	}
	text, err := excerpt(f, info.Size(), limit, msg.Run)
	if err != nil {
		return nil, fmt.Errorf("read the output %s: %w", msg.BodyFile, err)
	}
	return text, nil
}

// refusal says why a file is not one that we read or write.
type refusal string

func (r refusal) Error() string { return string(r) }

// openBody opens a log. It lies in a folder of the job's user, who could have put
// anything in its place; so it must be theirs and have no other name. Then the
// daemon, root or not, tells them nothing that they could not read themselves,
// which is what DESIGN.md §8 wants of reading under the user's id.
func (m *Mailbox) openBody(path, owner string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := m.checkBody(f, owner); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (m *Mailbox) checkBody(f *os.File, owner string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return refusal(f.Name() + " is not a regular file")
	}
	if st.Nlink > 1 {
		return refusal(f.Name() + " has another name (hard link)")
	}
	if us := os.Geteuid(); us != 0 && int(st.Uid) == us {
		return nil
	}
	a, err := m.lookup(owner)
	if err != nil && !isUnknown(err) {
		return err
	}
	if err != nil || int(st.Uid) != a.uid {
		return refusal(fmt.Sprintf("%s is not a file of user %s", f.Name(), owner))
	}
	return nil
}

// excerpt returns size bytes of r, or when that is more than limit its first and
// last half and a line between them that says how much is not there.
func excerpt(r io.ReaderAt, size, limit int64, run string) ([]byte, error) {
	if size <= limit {
		return io.ReadAll(io.NewSectionReader(r, 0, size))
	}
	head, err := io.ReadAll(io.NewSectionReader(r, 0, limit/2))
	if err != nil {
		return nil, err
	}
	tail, err := io.ReadAll(io.NewSectionReader(r, size-limit/2, limit/2))
	if err != nil {
		return nil, err
	}
	head, tail = cutEnd(head), cutStart(tail)
	text := bytes.Clone(head)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	text = fmt.Appendf(text, "[… %d of %d bytes left out here", size-int64(len(head)+len(tail)), size)
	if run != "" {
		text = fmt.Appendf(text, "; belfry logs %s", run)
	}
	text = append(text, " …]\n"...)
	return append(text, tail...), nil
}

// nearLine is how many bytes more are given up to cut between two lines. Where
// the lines are longer the cut is between two runes.
const nearLine = 8 << 10

func cutEnd(head []byte) []byte {
	if i := bytes.LastIndexByte(head, '\n'); i >= 0 && len(head)-i <= nearLine {
		return head[:i+1]
	}
	for i := len(head) - 1; i >= 0 && i >= len(head)-utf8.UTFMax; i-- {
		if utf8.RuneStart(head[i]) {
			if !utf8.FullRune(head[i:]) {
				return head[:i]
			}
			break
		}
	}
	return head
}

func cutStart(tail []byte) []byte {
	if i := bytes.IndexByte(tail, '\n'); i >= 0 && i < nearLine && i+1 < len(tail) {
		return tail[i+1:]
	}
	for i := 0; i < len(tail) && i < utf8.UTFMax; i++ {
		if utf8.RuneStart(tail[i]) {
			return tail[i:]
		}
	}
	return tail
}
