package remote

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"belfry/internal/project"
)

// installer says how a package manager installs Python with venv.
type installer struct {
	before  string // what is done before
	install string // as root would type it
	unasked string // the options without which it asks, or gives up
}

// A machine that was just started is often about to update itself. apt waits for
// one of its two locks when it is told to, and gives up at the other; where its
// lists cannot be had anew for another reason, the old ones may do.
var installers = map[string]installer{
	"apt-get": {
		before:  "export DEBIAN_FRONTEND=noninteractive\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12; do apt-get update -qq && break; sleep 5; done\n",
		install: "apt-get install --no-install-recommends python3 python3-venv",
		unasked: " -y -qq -o DPkg::Lock::Timeout=300",
	},
	"dnf": {install: "dnf install python3 python3-pip", unasked: " -y -q"},
	"yum": {install: "yum install python3 python3-pip", unasked: " -y -q"},
}

// packages plans what the jobs need of the host's packages.
func (p *Plan) packages() {
	f := p.Facts
	venv := len(pythonJobs(p.d.Project)) > 0
	users := pythonUsers(p.d.Project)
	if len(users) == 0 || f.Python != "" && (f.Venv || !venv) {
		return
	}
	what := "python3"
	if venv {
		what += " with venv"
	}
	by, known := installers[f.Packages]
	switch {
	case known && f.Root != "":
		script := "sh -c " + Quote(by.before+by.install+by.unasked)
		if f.Root == "sudo" {
			script = "sudo -n " + script
		}
		// What it says goes to a shell that outlives the connection: a package manager that
		// nobody listens to any more ends half way, and has to be mended by hand.
		p.beside(fmt.Sprintf("install %s with %s, for %s", what, f.Packages, strings.Join(users, ", ")), func(ctx context.Context, _ Progress) (string, error) {
			if _, err := p.host.script(ctx, "said=$("+script+" 2>&1) && exit\nprintf '%s\\n' \"$said\" >&2\nexit 1"); err != nil {
				return "", fmt.Errorf("install %s: %w", what, err)
			}
			return "", nil
		})
	case known:
		p.Lacks = append(p.Lacks, fmt.Sprintf("%s is needed by %s and cannot be installed by %s: have root do\n    %s", what, strings.Join(users, ", "), f.User, by.install))
	default:
		p.Lacks = append(p.Lacks, fmt.Sprintf("%s is needed by %s: install it on the host (%s)", what, strings.Join(users, ", "), f.Distribution))
	}
}

// pythonJobs are the jobs that run in an environment of their own.
func pythonJobs(p *project.Project) (names []string) {
	for _, j := range p.Jobs {
		if j.Python.Wanted() {
			names = append(names, j.Name)
		}
	}
	return names
}

// pythonUsers are the jobs whose command is Python.
func pythonUsers(p *project.Project) (names []string) {
	for _, j := range p.Jobs {
		words := j.Command.Args
		if words == nil {
			words = strings.Fields(j.Command.Text)
		}
		if j.Python.Wanted() || len(words) > 0 && slices.Contains([]string{"python3", "python", "/usr/bin/python3"}, words[0]) {
			names = append(names, j.Name)
		}
	}
	return names
}
