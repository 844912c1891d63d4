package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// sshConfig is what the ssh configuration says of one host: of each setting the
// first value that was read, as ssh has it, and of some all.
type sshConfig struct {
	host  string // as it was given
	o     Options
	user  string          // as it was given; empty: it was not
	port  string          // as it was given; empty: it was not
	ctx   context.Context // of the reading, for what Match exec executes
	final bool            // the second reading, for what Match final says
	again bool            // there is such a Match

	values map[string][]string // by the setting's name in lower case
}

// machineConfig is the machine's configuration.
const machineConfig = "/etc/ssh/ssh_config"

// readConfig reads the person's ssh configuration and then the machine's.
func readConfig(ctx context.Context, host, user, port string, o Options) (*sshConfig, error) {
	c := &sshConfig{ctx: ctx, host: host, user: user, port: port, o: o, values: map[string][]string{}}
	for {
		for _, name := range []string{filepath.Join(o.Home, ".ssh", "config"), machineConfig} {
			if err := c.file(name, filepath.Dir(name), true, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("read the ssh configuration: %w", err)
			}
		}
		if !c.again || c.final {
			return c, nil
		}
		c.final = true
	}
}

// get is a setting's value; empty: it has none.
func (c *sshConfig) get(name string) string {
	if list := c.values[name]; len(list) > 0 {
		return list[0]
	}
	return ""
}

// many are settings of which every value counts.
var many = []string{"identityfile", "certificatefile"}

// whole are settings whose value is the rest of the line, for a shell.
var whole = []string{"proxycommand", "localcommand", "remotecommand", "knownhostscommand"}

// file reads a configuration file. What an inactive part of another one includes
// counts nowhere.
func (c *sshConfig) file(name, dir string, active bool, depth int) error {
	if depth > 16 {
		return fmt.Errorf("%s includes itself", name)
	}
	read := readOwn
	if name == machineConfig { // as ssh: in some containers it seems to be nobody's
		read = os.ReadFile
	}
	text, err := read(name)
	if err != nil {
		return err
	}
	n, included := 0, active
	for line := range strings.Lines(string(text)) {
		n++
		key, rest := cutKey(line)
		if key == "" || strings.HasPrefix(key, "#") {
			continue
		}
		words, err := []string{rest}, error(nil)
		if !slices.Contains(whole, key) {
			words, err = splitWords(rest)
		}
		if err == nil {
			switch key {
			case "host":
				active = included && matches(words, c.host)
			case "match":
				active, err = c.match(words)
				active = active && included
			case "include":
				err = c.include(words, dir, active, depth)
			default:
				if active && len(words) > 0 {
					c.set(key, words)
				}
			}
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	return nil
}

// readOwn reads a file whose commands we execute. As ssh it takes none that another
// user could have written, but for one that is writable for a group that only the
// person is in, as Debian's ssh: the group that has the name of its user.
func readOwn(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it is only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case !ok:
	case owner.Uid != 0 && int(owner.Uid) != os.Getuid():
		return nil, fmt.Errorf("%s belongs to another user, and what it says would be executed: give the command as that user", name)
	case mode&0o002 != 0, mode&0o020 != 0 && !ofOneUser(owner):
		return nil, fmt.Errorf("others can write %s, and what it says would be executed: chmod go-w %s", name, Quote(name))
	}
	return io.ReadAll(file)
}

// ofOneUser reports whether a file's group is its owner's alone.
func ofOneUser(file *syscall.Stat_t) bool {
	owner, err := user.LookupId(strconv.FormatUint(uint64(file.Uid), 10))
	if err != nil {
		return false
	}
	group, err := user.LookupGroupId(strconv.FormatUint(uint64(file.Gid), 10))
	return err == nil && group.Name == owner.Username
}

// set notes a setting, if it is the first of its name.
func (c *sshConfig) set(key string, words []string) {
	value := strings.Join(words, " ")
	switch {
	case slices.Contains(many, key):
		if !slices.Contains(c.values[key], value) {
			c.values[key] = append(c.values[key], value)
		}
		return
	case key == "proxyjump" && c.get("proxycommand") != "", key == "proxycommand" && c.jumps() != "":
		return // whichever is first
	case c.get(key) == "":
		c.values[key] = []string{value}
	}
}

func (c *sshConfig) include(patterns []string, dir string, active bool, depth int) error {
	for _, pattern := range patterns {
		if rest, ok := strings.CutPrefix(pattern, "~/"); ok {
			pattern = filepath.Join(c.o.Home, rest)
		} else if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(dir, pattern)
		}
		names, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("the pattern %s of Include: %w", pattern, err)
		}
		for _, name := range names {
			if err := c.file(name, dir, active, depth+1); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// match says whether all criteria of a Match hold.
func (c *sshConfig) match(words []string) (bool, error) {
	holds := true
	for i := 0; i < len(words); i++ {
		criterion, not := strings.CutPrefix(strings.ToLower(words[i]), "!")
		name, pattern, has := strings.Cut(criterion, "=")
		if has {
			_, pattern, _ = strings.Cut(words[i], "=")
		}
		is := false
		switch name {
		case "all":
			is = true
		case "canonical": // names are taken as they are given, and read once more for Match final alone
			is = c.final
		case "final":
			c.again = true
			is = c.final
		default:
			if !has {
				if i++; i == len(words) {
					return false, fmt.Errorf("the criterion %s of Match is without a value", name)
				}
				pattern = words[i]
			}
			list := strings.Split(pattern, ",")
			switch name {
			case "host":
				is = matches(strings.Split(strings.ToLower(pattern), ","), strings.ToLower(c.hostName()))
			case "originalhost":
				is = matches(strings.Split(strings.ToLower(pattern), ","), strings.ToLower(c.host))
			case "user":
				is = matches(list, c.userName())
			case "localuser":
				is = matches(list, c.o.User)
			case "tagged":
				is = matches(list, c.get("tag"))
			case "exec":
				if holds { // as ssh, it is executed only when it decides
					command, err := c.expand(pattern)
					if err != nil {
						return false, err
					}
					is = exec.CommandContext(c.ctx, "/bin/sh", "-c", command).Run() == nil
				}
			default:
				if holds {
					return false, fmt.Errorf("the criterion %s of Match is not understood by belfry", name)
				}
			}
		}
		holds = holds && is != not
	}
	return holds, nil
}

// hostName is the name or address to connect to, so far.
func (c *sshConfig) hostName() string {
	if name := c.get("hostname"); name != "" {
		return strings.NewReplacer("%%", "%", "%h", c.host).Replace(name)
	}
	return c.host
}

// userName is who one is on the host, so far.
func (c *sshConfig) userName() string {
	for _, name := range []string{c.user, c.get("user")} {
		if name != "" {
			return name
		}
	}
	return c.o.User
}

// jumps are the hosts on the way; empty: there are none.
func (c *sshConfig) jumps() string {
	if jumps := c.get("proxyjump"); jumps != "none" {
		return jumps
	}
	return ""
}

func (c *sshConfig) portName() string {
	for _, port := range []string{c.port, c.get("port")} {
		if port != "" {
			return port
		}
	}
	return "22"
}

// expand puts in what the tokens of ssh_config(5) stand for.
func (c *sshConfig) expand(text string) (string, error) {
	local, _ := os.Hostname() // empty then
	short, _, _ := strings.Cut(local, ".")
	tokens := map[byte]string{
		'%': "%", 'h': c.hostName(), 'n': c.host, 'p': c.portName(), 'r': c.userName(), 'u': c.o.User, 'd': c.o.Home,
		'i': strconv.Itoa(os.Getuid()), 'l': local, 'L': short, 'j': c.jumps(), 'k': c.hostName(),
	}
	if alias := c.get("hostkeyalias"); alias != "" {
		tokens['k'] = alias
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		i++
		if i == len(text) {
			return "", fmt.Errorf("%q ends with a %%", text)
		}
		value, known := tokens[text[i]]
		if !known {
			return "", fmt.Errorf("%%%c in %q is not understood by belfry", text[i], text)
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

var variable = regexp.MustCompile(`\$\{[^}]*\}`)

// path is the value of a setting that names a file.
func (c *sshConfig) path(text string) (string, error) {
	var unset error
	text = variable.ReplaceAllStringFunc(text, func(name string) string {
		value := ""
		if c.o.Getenv != nil {
			value = c.o.Getenv(name[2 : len(name)-1])
		}
		if value == "" {
			unset = fmt.Errorf("%s in %q has no value here", name, text)
		}
		return strings.ReplaceAll(value, "%", "%%")
	})
	if unset != nil {
		return "", unset
	}
	if rest, ok := strings.CutPrefix(text, "~/"); ok {
		text = filepath.Join(strings.ReplaceAll(c.o.Home, "%", "%%"), rest)
	}
	return c.expand(text)
}

// cutKey takes the name of a setting from a line, in lower case.
func cutKey(line string) (key, rest string) {
	line = strings.TrimSpace(line)
	at := strings.IndexAny(line, " \t=")
	if at < 0 {
		return strings.ToLower(line), ""
	}
	rest = strings.TrimLeft(line[at:], " \t")
	if after, ok := strings.CutPrefix(rest, "="); ok {
		rest = strings.TrimLeft(after, " \t")
	}
	return strings.ToLower(line[:at]), rest
}

// splitWords splits a line at spaces that are not quoted, up to a comment.
func splitWords(text string) (words []string, err error) {
	var word []byte
	var quote byte
	begun := false
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case b == '\\' && i+1 < len(text) && strings.IndexByte(`"'\`, text[i+1]) >= 0 || b == '\\' && quote == 0 && i+1 < len(text) && text[i+1] == ' ':
			i++
			word, begun = append(word, text[i]), true
		case quote != 0 && b == quote:
			quote = 0
		case quote != 0:
			word = append(word, b)
		case b == '"' || b == '\'':
			quote, begun = b, true
		case b == '#' && !begun:
			return words, nil
		case b == ' ' || b == '\t':
			if begun {
				words = append(words, string(word))
			}
			word, begun = nil, false
		default:
			word, begun = append(word, b), true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote does not end: %s", text)
	}
	if begun {
		words = append(words, string(word))
	}
	return words, nil
}

// matches reports whether a name fits one of the patterns, and none that begins
// with an exclamation mark.
func matches(patterns []string, name string) (found bool) {
	for _, pattern := range patterns {
		pattern, not := strings.CutPrefix(pattern, "!")
		if fits(pattern, name) {
			if not {
				return false
			}
			found = true
		}
	}
	return found
}

// fits knows * and ?, as ssh does.
func fits(pattern, name string) bool {
	ok, err := path.Match(strings.NewReplacer("[", `\[`, `\`, `\\`).Replace(pattern), strings.ReplaceAll(name, "/", "\x00"))
	return err == nil && ok
}
