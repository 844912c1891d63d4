package crontab

import (
	"slices"
	"strings"
)

// As much of the shell's language as the rules need: the simple commands of a command line with their words and
// redirections, and what stands between them. It is not followed into quotes, substitutions and functions, and what it
// does not understand it says so of; the rules are silent then.

type script struct {
	commands []simpleCommand
	ok       bool     // all of it was understood
	open     bool     // a quote or a bracket is not closed
	bare     []placed // operators and words that only some shells have, or that are not followed here
}

type simpleCommand struct {
	assigns, words []shellWord
	redirects      []redirect
	op             string // what follows: | || && ; & or nothing
	opAt           int
	depth          int  // of ( and {, if and loops
	piped          bool // its input comes from the command in front
}

type shellWord struct {
	raw   string // as it stands there
	text  string // without its quotes
	at    int    // the byte in the command
	plain bool   // nothing in it is expanded: text is what the program gets
}

type redirect struct {
	op     string // > >> >| >& &> &>> < << <<< <& <>
	fd     int    // -1 where none is given
	at     int
	target shellWord
}

// name is the program, as far as it is known before it runs.
func (c *simpleCommand) name() string {
	if len(c.words) == 0 || !c.words[0].plain {
		return ""
	}
	return c.words[0].text
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func shellLike(name string) bool {
	return slices.Contains([]string{"sh", "dash", "ash", "bash", "ksh", "ksh93", "mksh", "zsh"}, name)
}

// shellName is the last part of the entry's SHELL.
func (e *lintEntry) shellName() string {
	if shell, ok := e.env("SHELL"); ok {
		return base(shell)
	}
	return "sh"
}

// readScript takes a command line apart.
func readScript(text string) script {
	r := &shellReader{text: text}
	r.read()
	return script{commands: r.commands, ok: !r.open && !r.blind && r.depth == 0, open: r.open || r.depth > 0, bare: r.bare}
}

type shellReader struct {
	text     string
	pos      int
	open     bool // see script; the reading ends there
	blind    bool // something was passed over
	depth    int
	current  simpleCommand
	commands []simpleCommand
	bare     []placed
}

func (r *shellReader) rest() string { return r.text[r.pos:] }

// The operators, longest first.
var shellOperators = []string{
	"&>>", "<<<", "<<-", ";;", "&&", "||", "|&", "&>", ">>", ">|", ">&", "<<", "<&", "<>", "<(", ">(", ";", "&", "|", "<", ">", "(", ")",
}

func (r *shellReader) read() {
	for !r.open {
		for r.pos < len(r.text) && strings.IndexByte(" \t\r", r.text[r.pos]) >= 0 {
			r.pos++
		}
		if r.pos == len(r.text) || r.text[r.pos] == '#' {
			break
		}
		at := r.pos
		switch op := r.operator(); op {
		case "":
			r.word()
		case "&&", "||", "|", ";", "&", "|&":
			if op == "|&" {
				r.bare = append(r.bare, placed{op, at})
				op = "|"
			}
			r.end(op, at)
		case "(":
			if len(r.current.words) > 0 || len(r.current.assigns) > 0 { // a function, an array
				r.bare = append(r.bare, placed{op, at})
				r.blind = true
			} else if strings.HasPrefix(r.rest(), "(") {
				r.bare = append(r.bare, placed{"((", at})
				r.blind = true
			}
			r.depth++
		case ")":
			r.end("", at)
			r.close()
		case "<(", ">(":
			r.depth++
			fallthrough
		case ";;":
			r.bare = append(r.bare, placed{op, at})
			r.blind = true
		default:
			r.redirect(op, at, -1)
		}
	}
	r.end("", r.pos)
}

// close leaves a bracket or a loop; what closes more than was open, as a) in a case, is not followed.
func (r *shellReader) close() {
	if r.depth--; r.depth < 0 {
		r.depth, r.blind = 0, true
	}
}

func (r *shellReader) operator() string {
	for _, op := range shellOperators {
		if strings.HasPrefix(r.rest(), op) {
			r.pos += len(op)
			return op
		}
	}
	return ""
}

func (r *shellReader) redirect(op string, at, fd int) {
	if op == "<<<" || op == "&>" || op == "&>>" {
		r.bare = append(r.bare, placed{op, at})
	}
	if op == "<<" || op == "<<-" {
		r.blind = true // nothing can follow on a crontab's line
		return
	}
	for r.pos < len(r.text) && (r.text[r.pos] == ' ' || r.text[r.pos] == '\t') {
		r.pos++
	}
	target := r.shellWord()
	if target.raw == "" {
		if strings.HasPrefix(r.rest(), "(") && (op == ">" || op == "<") { // < <(…)
			r.bare = append(r.bare, placed{op + "(", at})
		}
		r.blind = true
		return
	}
	r.current.redirects = append(r.current.redirects, redirect{op: op, fd: fd, at: at, target: target})
}

// word reads a word in its place: an assignment, a number in front of a redirection, a word of the shell's own, a word
// of the command.
func (r *shellReader) word() {
	w := r.shellWord()
	if w.raw == "" {
		r.open = true
		return
	}
	if strings.Trim(w.raw, "0123456789") == "" && len(w.raw) == 1 && r.pos < len(r.text) && strings.IndexByte("<>", r.text[r.pos]) >= 0 {
		r.redirect(r.operator(), w.at, int(w.raw[0]-'0'))
		return
	}
	c := &r.current
	if len(c.words) > 0 {
		c.words = append(c.words, w)
		return
	}
	if name, _, ok := strings.Cut(w.raw, "="); ok && shellIdentifier(strings.TrimSuffix(name, "+")) {
		c.assigns = append(c.assigns, w)
		return
	}
	switch w.raw {
	case "{", "if", "while", "until", "do", "then", "else", "elif", "!":
		if len(c.assigns) == 0 {
			if w.raw == "{" || w.raw == "if" || w.raw == "while" || w.raw == "until" { // do belongs to while, until or for
				r.depth++
			}
			return
		}
	case "}", "fi", "done":
		if len(c.assigns) == 0 {
			r.close()
			return
		}
	case "case", "for", "select", "function":
		r.bare = append(r.bare, placed{w.raw, w.at})
		r.blind = true
		if w.raw == "for" || w.raw == "select" {
			r.depth++
		}
	}
	c.words = append(c.words, w)
}

func (r *shellReader) end(op string, at int) {
	c := r.current
	piped := op == "|"
	if len(c.words)+len(c.assigns)+len(c.redirects) > 0 {
		c.op, c.opAt, c.depth = op, at, r.depth
		r.commands = append(r.commands, c)
	} else if n := len(r.commands); op != "" && n > 0 && r.commands[n-1].op == "" { // behind ) or }
		r.commands[n-1].op, r.commands[n-1].opAt = op, at
	} else if op != "" {
		r.blind = true // an operator with nothing in front of it
	}
	r.current = simpleCommand{piped: piped}
}

func shellIdentifier(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isLetter(c) && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// shellWord reads one word: up to a blank or an operator outside quotes.
func (r *shellReader) shellWord() shellWord {
	w := shellWord{at: r.pos, plain: true}
	var text strings.Builder
	for r.pos < len(r.text) && !r.open {
		switch c := r.text[r.pos]; c {
		case ' ', '\t', '\r', ';', '&', '|', '<', '>', '(', ')':
			w.raw, w.text = r.text[w.at:r.pos], text.String()
			return w
		case '\'':
			end := strings.IndexByte(r.text[r.pos+1:], '\'')
			if end < 0 {
				r.open = true
				break
			}
			text.WriteString(r.text[r.pos+1 : r.pos+1+end])
			r.pos += end + 2
		case '"':
			r.pos++
			for !r.open && r.pos < len(r.text) && r.text[r.pos] != '"' {
				switch c := r.text[r.pos]; c {
				case '\\':
					r.pos++
					if r.pos < len(r.text) {
						if strings.IndexByte("$`\"\\", r.text[r.pos]) < 0 {
							text.WriteByte('\\')
						}
						text.WriteByte(r.text[r.pos])
						r.pos++
					}
				case '$', '`':
					if from := r.pos; r.expansion() {
						w.plain = false
						text.WriteString(r.text[from:r.pos])
						continue
					}
					text.WriteByte(c)
				default:
					text.WriteByte(c)
					r.pos++
				}
			}
			if r.pos >= len(r.text) {
				r.open = true
				break
			}
			r.pos++
		case '\\':
			r.pos++
			if r.pos < len(r.text) {
				text.WriteByte(r.text[r.pos])
				r.pos++
			}
		case '$', '`':
			if from := r.pos; r.expansion() {
				w.plain = false
				text.WriteString(r.text[from:r.pos])
				continue
			}
			text.WriteByte(c)
		case '*', '?', '[', '~', '{':
			behind, _, _ := strings.Cut(r.rest(), " ")
			switch {
			case c == '~' && r.pos > w.at, c == '{' && !strings.ContainsAny(behind, ",."), c == '[' && !strings.Contains(behind, "]"):
			default:
				w.plain = false
			}
			text.WriteByte(c)
			r.pos++
		default:
			text.WriteByte(c)
			r.pos++
		}
	}
	w.raw, w.text = r.text[w.at:min(r.pos, len(r.text))], text.String()
	return w
}

// expansion goes past $name, ${…}, $(…), $((…)) or `…`; past the $ alone, and returns false, where it is none.
func (r *shellReader) expansion() bool {
	if r.text[r.pos] == '`' {
		for i := r.pos + 1; i < len(r.text); i++ {
			switch r.text[i] {
			case '\\':
				i++
			case '`':
				r.pos = i + 1
				return true
			}
		}
		r.open = true
		return true
	}
	r.pos++
	if r.pos == len(r.text) {
		return false
	}
	switch c := r.text[r.pos]; {
	case c == '(' || c == '{':
		r.pos++
		closing := map[byte]byte{'(': ')', '{': '}'}
		open := []byte{closing[c]}
		for ; r.pos < len(r.text); r.pos++ {
			switch c := r.text[r.pos]; c {
			case '\\':
				r.pos++
			case '\'', '"':
				end := r.pos + 1
				for end < len(r.text) && r.text[end] != c {
					if c == '"' && r.text[end] == '\\' {
						end++
					}
					end++
				}
				r.pos = end
			case '(', '{':
				open = append(open, closing[c])
			case ')', '}':
				if c != open[len(open)-1] {
					continue // a case in a substitution, or worse
				}
				open = open[:len(open)-1]
				if len(open) == 0 {
					r.pos++
					return true
				}
			}
		}
		r.pos = len(r.text)
		r.open = true
		return true
	case isLetter(c) || c == '_':
		for r.pos < len(r.text) && shellIdentifier("_"+r.text[r.pos:r.pos+1]) {
			r.pos++
		}
		return true
	case strings.IndexByte("0123456789@*#?$!-", c) >= 0:
		r.pos++
		return true
	case c == '\'' || c == '"':
		return true // $'…' and $"…": the quotes are read next
	}
	return false
}

// programs returns the words of c that name a program: the first, and behind the likes of nice and timeout the one that
// they start. With options that are not known here it stops.
func (c *simpleCommand) programs() []int {
	var found []int
	words := c.words
	for at := 0; at < len(words); {
		found = append(found, at)
		if !words[at].plain {
			return found
		}
		name := base(words[at].text)
		valued, operands := "", 0
		switch name {
		case "nice":
			valued = "n"
		case "ionice":
			valued = "cn"
		case "timeout":
			valued, operands = "ks", 1
		case "flock":
			valued, operands = "wE", 1
		case "stdbuf":
			valued = "ioe"
		case "nohup", "setsid", "chronic", "exec", "time", "command":
		case "env":
		default:
			return found
		}
		at++
		for at < len(words) && strings.HasPrefix(words[at].text, "-") {
			text := words[at].text
			switch {
			case name == "command" && text != "-p", name == "env", name == "exec", text == "-c" && name == "flock":
				return found
			case len(text) == 2 && strings.Contains(valued, text[1:]):
				at++
			case text == "--help", text == "--version", strings.HasPrefix(text, "--") && !strings.Contains(text, "="):
				if name != "flock" || !slices.Contains([]string{"--nonblock", "--nb", "--shared", "--exclusive", "--close", "--no-fork"}, text) {
					return found
				}
			}
			at++
		}
		for name == "env" && at < len(words) && strings.Contains(words[at].text, "=") {
			if strings.HasPrefix(words[at].text, "PATH=") {
				return found
			}
			at++
		}
		at += operands
		if name == "flock" && at < len(words) && words[at].text == "-c" {
			return found
		}
	}
	return found
}

// interpreters start a script that is named behind their options; those in the value are given programs in one letter.
var interpreters = map[string]string{
	"python": "cmWX", "perl": "eEIMmnpi", "ruby": "eIrnp", "node": "epr", "php": "rfdBREt", "Rscript": "e", "bash": "cosO", "sh": "cos", "dash": "cos", "zsh": "cos", "ksh": "cos",
}

// scriptFile returns the script that an interpreter is given.
func (c *simpleCommand) scriptFile() (shellWord, bool) {
	programs := c.programs()
	if len(programs) == 0 || !c.words[programs[len(programs)-1]].plain {
		return shellWord{}, false
	}
	at := programs[len(programs)-1]
	stop, ok := interpreters[strings.TrimRight(base(c.words[at].text), "0123456789.")]
	if !ok {
		return shellWord{}, false
	}
	for _, w := range c.words[at+1:] {
		switch {
		case !strings.HasPrefix(w.text, "-"):
			return w, true
		case len(w.text) != 2, strings.Contains(stop, w.text[1:]), w.text == "--":
			return shellWord{}, false
		}
	}
	return shellWord{}, false
}
