package job

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// program is what is known of a program whose own name says little.
type program struct {
	values   string // the letters of its options that take a value
	operands int    // what it takes before the command that it runs
	run      bool   // it runs a command only after the word run or exec
}

// wrappers run the command that follows them.
var wrappers = map[string]program{
	"env": {values: "uC"}, "nice": {values: "n"}, "ionice": {values: "cn"}, "time": {values: "of"}, "exec": {values: "a"},
	"nohup": {}, "setsid": {}, "chronic": {}, "cronic": {}, "command": {}, "stdbuf": {values: "ioe"}, "unbuffer": {},
	"sudo": {values: "ugphCDRTr"}, "doas": {values: "uC"}, "runuser": {values: "ugG"}, "chpst": {values: "ueUbdmolpfcrt/"},
	"systemd-cat": {values: "tp"}, "systemd-inhibit": {}, "xvfb-run": {values: "nsefw"}, "caffeinate": {values: "tw"},
	"flock": {values: "wE", operands: 1}, "timeout": {values: "ks", operands: 1}, "chrt": {values: "TPD", operands: 1}, "taskset": {operands: 1},
	"gosu": {operands: 1}, "su-exec": {operands: 1}, "run-parts": {values: "au"},
	"uv": {values: "p", run: true}, "poetry": {values: "CP", run: true}, "pipenv": {run: true}, "pdm": {values: "p", run: true},
	"conda": {values: "np", run: true}, "bundle": {run: true},
}

// interpreters run the script that is given to them.
var interpreters = map[string]program{
	"python": {values: "WXQ"}, "pypy": {values: "WX"}, "perl": {}, "ruby": {values: "IrC"}, "node": {values: "r"}, "deno": {run: true},
	"php": {values: "dc"}, "rscript": {}, "java": {}, "lua": {values: "l"},
	"sh": {values: "o"}, "bash": {values: "oO"}, "dash": {values: "o"}, "zsh": {values: "o"}, "ksh": {values: "o"}, "fish": {}, "su": {values: "sgG"},
}

// longValues are long options of the above that take a value as a word of its own.
var longValues = []string{
	"--user", "--group", "--unset", "--chdir", "--adjustment", "--class", "--classdata", "--wait", "--timeout", "--signal", "--kill-after",
	"--with", "--python", "--project", "--name", "--directory", "--env-file", "-cp", "-classpath", "--class-path", "--module-path", "--require", "--rcfile",
}

// preparation is what a line does before what it is about.
var preparation = map[string]bool{
	"cd": true, "pushd": true, "test": true, "[": true, "[[": true, ".": true, "source": true, "export": true, "set": true, "unset": true,
	"ulimit": true, "umask": true, "sleep": true, ":": true, "true": true, "for": true, "case": true, "trap": true, "mkdir": true,
}

// keywords stand before a command without being one.
var keywords = map[string]bool{"if": true, "then": true, "elif": true, "else": true, "while": true, "until": true, "do": true, "!": true, "{": true}

var (
	assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*\+?=`)
	redirect   = regexp.MustCompile(`^(\d*|&)[<>]`)
	operator   = regexp.MustCompile(`^(\d*|&)[<>]+[&|]?-?$`) // a redirect whose file is the next word
)

// programOf finds what a command line is about: in the first of its commands
// that does more than prepare for the next ones.
func programOf(command string, depth int) string {
	commands := simpleCommands(command)
	for _, words := range commands {
		if len(words) > 0 && !preparation[words[0]] {
			if name := subject(words, depth); name != "" {
				return name
			}
		}
	}
	for _, words := range commands { // nothing but preparation: where it leads, or what it is
		for _, word := range words[min(1, len(words)):] {
			if isPath(word) {
				return path.Base(word)
			}
		}
		if len(words) > 0 {
			return path.Base(words[0])
		}
	}
	return ""
}

// subject is the base name of what one command runs, looking through wrappers
// and interpreters. When they are given nothing that has a name, it is their own.
func subject(words []string, depth int) string {
	for {
		for len(words) > 0 && assignment.MatchString(words[0]) {
			words = words[1:]
		}
		if len(words) == 0 {
			return "" // assignments only
		}
		name := path.Base(words[0])
		// python3.12 is python, but 7z is not z
		known := strings.ToLower(strings.TrimRight(name, "0123456789."))
		wrapper, wraps := wrappers[strings.ToLower(name)]
		interpreter, interprets := interpreters[known]
		switch {
		case wraps:
			rest, text := operandsOf(words[1:], wrapper)
			if text != "" && depth < 5 {
				return programOf(text, depth+1)
			}
			if len(rest) == 0 || wrapper.run && rest[0] != "run" && rest[0] != "exec" {
				return aPath(words[1:], name)
			}
			if wrapper.run {
				if rest, _ = operandsOf(rest[1:], wrapper); len(rest) == 0 {
					return name
				}
			}
			words = rest
		case interprets:
			if known == "su" || strings.HasSuffix(known, "sh") {
				if at := slices.IndexFunc(words, isCommandOption); at >= 0 && at+1 < len(words) && depth < 5 {
					return programOf(words[at+1], depth+1)
				}
			}
			if at := slices.Index(words, "-m"); known == "python" && at == 1 && len(words) > 2 {
				return words[2]
			}
			if len(words) > 1 && (words[1] == "-e" || words[1] == "-c" || words[1] == "-r") && known != "php" { // the program itself
				return name
			}
			rest, _ := operandsOf(words[1:], interpreter)
			if len(rest) == 0 || known == "su" {
				return name
			}
			return path.Base(rest[0])
		default:
			return name
		}
	}
}

// operandsOf drops a wrapper's options and operands. text is the command of a
// -c among them, as flock takes it.
func operandsOf(words []string, p program) (rest []string, text string) {
	for operands := p.operands; len(words) > 0; {
		word := words[0]
		switch {
		case word == "--":
			words = words[1:]
			if operands >= len(words) {
				return nil, ""
			}
			return words[operands:], ""
		case word == "-c" && p.operands > 0 && operands == 0 && len(words) > 1:
			return nil, words[1]
		case len(word) > 1 && word[0] == '-':
			words = words[min(1+valuesOf(word, p), len(words)):]
		case operands > 0 || assignment.MatchString(word):
			if operands > 0 {
				operands--
			}
			words = words[1:]
		default:
			return words, ""
		}
	}
	return nil, ""
}

// valuesOf is 1 when an option takes the next word as its value.
func valuesOf(option string, p program) int {
	if slices.Contains(longValues, option) {
		return 1
	}
	if strings.HasPrefix(option, "--") {
		return 0
	}
	if at := strings.IndexAny(option[1:], p.values); at >= 0 && at == len(option)-2 {
		return 1
	}
	return 0
}

// isCommandOption reports whether a shell takes the next word as a command:
// -c, -lc and the like.
func isCommandOption(word string) bool {
	return len(word) > 1 && len(word) < 6 && word[0] == '-' && word[1] != '-' && strings.HasSuffix(word, "c")
}

func isPath(word string) bool {
	return strings.Contains(strings.TrimRight(word, "/"), "/") || strings.HasPrefix(word, "~") || scriptExtensions[strings.ToLower(path.Ext(word))]
}

func aPath(words []string, otherwise string) string {
	for _, word := range words {
		if !strings.HasPrefix(word, "-") && isPath(word) {
			return path.Base(word)
		}
	}
	return otherwise
}

// simpleCommands takes a command line apart as a shell does, roughly: at ; & |
// and brackets into commands, at blanks into words without their quotes, and
// without redirects. What $(…) and `…` hold is left in its word.
func simpleCommands(text string) [][]string {
	var commands [][]string
	var words []string
	var word strings.Builder
	inWord := false
	endWord := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	endCommand := func() {
		endWord()
		if words = withoutRedirects(words); len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			i++
			word.WriteByte(text[i])
			inWord = true
		case c == '\'' || c == '"' || c == '`' || c == '$' && strings.HasPrefix(text[i:], "$("):
			end := closing(text, i)
			if c == '\'' || c == '"' {
				word.WriteString(text[i+1 : end])
			} else {
				word.WriteString(text[i:min(end+1, len(text))])
			}
			inWord = true
			i = end
		case c == ' ' || c == '\t':
			endWord()
		case c == '&' && i > 0 && (text[i-1] == '>' || text[i-1] == '<'), c == '&' && strings.HasPrefix(text[i:], "&>"), c == '|' && i > 0 && text[i-1] == '>':
			word.WriteByte(c) // part of a redirect
			inWord = true
		case strings.IndexByte(";&|()\n", c) >= 0:
			endCommand()
		case (c == '{' || c == '}') && !inWord && (i+1 == len(text) || strings.IndexByte(" \t;&|)", text[i+1]) >= 0):
			endCommand()
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	endCommand()
	return commands
}

// closing is the place of what closes the quote or bracket at i, or the end.
func closing(text string, i int) int {
	open, depth := text[i], 0
	for end := i + 1; end < len(text); end++ {
		switch c := text[end]; {
		case c == '\\' && open != '\'':
			end++
		case open == '$' && c == '(':
			depth++
		case open == '$' && c == ')':
			if depth--; depth == 0 {
				return end
			}
		case open != '$' && c == open:
			return end
		}
	}
	return len(text)
}

func withoutRedirects(words []string) []string {
	var kept []string
	for i := 0; i < len(words); i++ {
		switch {
		case operator.MatchString(words[i]):
			i++
		case redirect.MatchString(words[i]), keywords[words[i]] && len(kept) == 0:
		default:
			kept = append(kept, words[i])
		}
	}
	return kept
}
