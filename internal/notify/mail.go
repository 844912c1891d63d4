package notify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
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
func (m *Mailbox) body(ctx context.Context, msg Message) ([]byte, error) {
	limit := msg.BodyLimit
	if limit <= 0 {
		limit = 1 << 20
	}
	if msg.Attempt == 0 {
		text := []byte(msg.Body)
		if length := int64(len(text)); length > limit {
			return excerpt(text[:limit/2], text[length-limit/2:], length, msg.Run), nil
		}
		return text, nil
	}
	head, tail, length, err := m.output(ctx, msg.Run, msg.Attempt, limit)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		// The news is not lost with the output.
		m.log.Warn("mail without the output", "run", msg.Run, "attempt", msg.Attempt, "error", err)
		return fmt.Appendf(nil, "[the output could not be read: %v]\n", err), nil
	case length <= limit:
		return head, nil
	}
	return excerpt(head, tail, length, msg.Run), nil
}

// refusal says why a file is not one that we read or write.
type refusal string

func (r refusal) Error() string { return string(r) }

// excerpt puts a line between the first and the last part of a text of length
// bytes that says how much is not there.
func excerpt(head, tail []byte, length int64, run string) []byte {
	head, tail = cutEnd(head), cutStart(tail)
	text := bytes.Clone(head)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	text = fmt.Appendf(text, "[… %d of %d bytes left out here", length-int64(len(head)+len(tail)), length)
	if run != "" {
		text = fmt.Appendf(text, "; belfry logs %s", run)
	}
	text = append(text, " …]\n"...)
	return append(text, tail...)
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
