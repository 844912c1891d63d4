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

// cronsMail is the mail as cron hands it to the mailer: to the letter that of
// cronie or Debian's cron, its headers in its order, not folded, and like cron's
// not encoded: a command in UTF-8 makes a Subject in raw UTF-8, which mail readers
// show. Date and Message-ID are left to the mail server, and the lines of the body
// end as cron has them: cronie removes every \r.
func cronsMail(msg Message, body []byte) []byte {
	var b bytes.Buffer
	writeHeaders(&b, msg)
	if msg.Intro != "" {
		b.WriteString(strings.TrimRight(msg.Intro, "\n") + "\n\n")
	}
	if !msg.Debian {
		body = bytes.ReplaceAll(body, []byte("\r"), nil)
	}
	b.Write(body)
	return b.Bytes()
}

// mailboxMail is the mail as it stands in the mailbox, from its From_ line to the
// blank line that ends it. The same message gives the same bytes.
//
// From "From:" on it is cronsMail. Before that stand Date and Message-ID, since
// here nobody else will add them. There is no Return-Path: no envelope was there,
// and the From_ line's MAILER-DAEMON says the same. The From_ line is in UTC
// (RFC 4155), the Date in the zone of msg.At.
//
// Lines of the body that begin with "From " get a ">" before them (mboxo, as
// Debian's mail servers, mail and Python's mailbox write it; lines that begin
// with ">From " are left as they are).
func mailboxMail(msg Message, id string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From MAILER-DAEMON %s\n", msg.At.UTC().Format(time.ANSIC))
	header(&b, "Date", msg.At.Format(time.RFC1123Z))
	header(&b, "Message-ID", id)
	writeHeaders(&b, msg)
	if msg.Intro != "" {
		writeBody(&b, []byte(msg.Intro))
		b.WriteByte('\n')
	}
	writeBody(&b, body)
	b.WriteByte('\n')
	return b.Bytes()
}

// sender is who the mail is from: MAILFROM where it is safe, else the user.
func sender(msg Message) string {
	if SafeAddress(msg.From, msg.Debian) {
		return msg.From
	}
	return msg.User
}

// recipients are those whom the mail is for, as they were asked for.
func recipients(msg Message) string {
	return cmp.Or(strings.Join(msg.To, ","), msg.Mailbox, msg.User)
}

// writeHeaders writes cron's headers and the line that ends them.
func writeHeaders(b *bytes.Buffer, msg Message) {
	from := fmt.Sprintf(`"(Cron Daemon)" <%s>`, sender(msg))
	if msg.Debian {
		if from = "root (Cron Daemon)"; SafeAddress(msg.From, true) {
			from = msg.From
		}
	}
	subject := msg.Subject
	if subject == "" {
		host, _, _ := strings.Cut(msg.Host, ".")
		subject = fmt.Sprintf("Cron <%s@%s> %s", msg.User, host, msg.Command)
	}
	header(b, "From", from)
	header(b, "To", recipients(msg))
	header(b, "Subject", subject)
	header(b, "MIME-Version", "1.0")
	header(b, "Content-Type", cmp.Or(msg.ContentType, "text/plain; charset=UTF-8"))
	header(b, "Content-Transfer-Encoding", cmp.Or(msg.TransferEncoding, "8bit"))
	if !msg.Debian {
		header(b, "Auto-Submitted", "auto-generated")
		header(b, "Precedence", "bulk")
	}
	for _, env := range msg.Env {
		header(b, "X-Cron-Env", "<"+env+">")
	}
	b.WriteByte('\n')
}

func header(b *bytes.Buffer, name, value string) { fmt.Fprintf(b, "%s: %s\n", name, clean(value)) }

// writeBody writes whole lines as a mailbox may hold them. Like cronie it removes
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
