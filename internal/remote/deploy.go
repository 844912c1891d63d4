package remote

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"belfry/internal/project"
	"belfry/internal/site"
)

// Deployment is a project on its way to a host.
type Deployment struct {
	Project *project.Project
	Release project.Release
	// Binary finds the belfry for an architecture.
	Binary   func(ctx context.Context, arch string) (Binary, error)
	Profile  *site.Profile // of AWS; nil: none is written
	Key      *site.Key     // of the secrets; nil: no job has any
	Patience time.Duration // for the daemon to be well; 0: a minute
	Wait     time.Duration // for another deploy of the project to end
}

// Step is one thing that is done to a host.
type Step struct {
	Text string `json:"step"`
	do   func(ctx context.Context, tell Progress) (said string, err error)
	// beside says that other deploys of the project may be at work meanwhile.
	beside bool
}

// Plan is what a deploy does to a host, in its order.
type Plan struct {
	Facts Facts    `json:"host"`
	To    Binary   `json:"belfry"`
	Name  string   `json:"release"`
	Steps []Step   `json:"steps"` // none: everything is there and runs well
	Notes []string `json:"notes"` // what the person may want to know
	Lacks []string `json:"lacks"` // what must be done by somebody else first

	host   *Host
	d      Deployment
	result site.Result
}

// Plan looks at the host and says what is to be done. It changes nothing.
func (h *Host) Plan(ctx context.Context, d Deployment) (*Plan, error) {
	p := &Plan{host: h, d: d, Name: d.Release.Name(), Steps: []Step{}, Notes: []string{}, Lacks: []string{}}
	var err error
	if p.Facts, err = h.Look(ctx, d.Project.Name, ""); err != nil {
		return nil, err
	}
	f := p.Facts
	switch {
	case f.System != "Linux":
		return nil, fmt.Errorf("%s is a %s machine; belfry's daemon runs on Linux", h.Name(), f.System)
	case f.Arch == "":
		return nil, fmt.Errorf("%s is a %s machine; there is a belfry for x86_64 and aarch64", h.Name(), f.Machine)
	case f.Hash == "":
		p.Lacks = append(p.Lacks, "nothing on the host computes a SHA-256: install coreutils there")
	}
	if p.To, err = d.Binary(ctx, f.Arch); err != nil {
		return nil, err
	}
	if p.Facts, err = h.Look(ctx, d.Project.Name, p.To.Hash); err != nil {
		return nil, err
	}
	p.packages()
	p.notes()
	well := p.runsWell(ctx)
	if !well && !p.Facts.HasBinary {
		p.beside(fmt.Sprintf("send belfry for linux/%s, %s (%s)", f.Arch, size(p.To.Size), p.To.From), func(ctx context.Context, tell Progress) (string, error) {
			return "", h.sendBinary(ctx, d.Project.Name, p.Facts, p.To, tell)
		})
	}
	if d.Profile != nil {
		p.step(fmt.Sprintf("write the AWS profile %s into ~/.aws, readable for %s alone", d.Profile.Name, f.User), func(ctx context.Context, _ Progress) (string, error) {
			var changed bool
			err := h.site(ctx, d.Project.Name, p.To.Hash, "profile", d.Profile, &changed)
			if err == nil && !changed {
				return "it was there", nil
			}
			return "", err
		})
	}
	if well {
		return p, nil
	}
	if d.Key != nil {
		p.step(fmt.Sprintf("write the key of the secrets into ~/.config/belfry, readable for %s alone", f.User), func(ctx context.Context, _ Progress) (string, error) {
			return "", h.site(ctx, d.Project.Name, p.To.Hash, "key", d.Key, nil)
		})
	}
	p.step(fmt.Sprintf("send what the host lacks of release %s (%s, %s)", p.Name, count(len(d.Release.Files), "file"), size(d.Release.Size())), func(ctx context.Context, tell Progress) (string, error) {
		n, bytes, err := h.sendFiles(ctx, d.Project, d.Release, p.To.Hash, tell)
		return fmt.Sprintf("%s, %s", count(n, "file"), size(bytes)), err
	})
	if jobs := pythonJobs(d.Project); len(jobs) > 0 {
		p.step("make the Python environments of "+strings.Join(jobs, ", "), func(ctx context.Context, _ Progress) (string, error) {
			return "", h.site(ctx, d.Project.Name, p.To.Hash, "python", site.Change{Release: p.Name}, nil)
		})
	}
	service := serviceFor(f)
	p.step("switch to it, kept running by "+kept(service, f)+"; go back if it does not run well with "+count(len(d.Project.Jobs), "job"), func(ctx context.Context, _ Progress) (string, error) {
		return p.change(ctx, service)
	})
	need := 2*d.Release.Size() + 8<<20 // what is sent has its place twice for a moment
	if !p.Facts.HasBinary {
		need += p.To.Size
	}
	if f.Free > 0 && f.Free < need {
		p.Lacks = append(p.Lacks, fmt.Sprintf("the disk of %s has %s left, and %s are needed: make room there", f.Home, size(f.Free), size(need)))
	}
	return p, nil
}

func (p *Plan) step(text string, do func(ctx context.Context, tell Progress) (string, error)) {
	p.Steps = append(p.Steps, Step{Text: text, do: do})
}

// beside adds a step that comes before our turn: what keeps the others waiting is
// the belfry that was sent.
func (p *Plan) beside(text string, do func(ctx context.Context, tell Progress) (string, error)) {
	p.Steps = append(p.Steps, Step{Text: text, do: do, beside: true})
}

// runsWell reports whether what is to be deployed is what runs already.
func (p *Plan) runsWell(ctx context.Context) bool {
	f := p.Facts
	if f.Release != p.Name || f.Binary != p.To.Hash || !f.HasBinary || f.Service == nil || *f.Service != serviceFor(f) {
		return false
	}
	client, err := p.host.Daemon(ctx, p.d.Project.Name, p.data())
	if err != nil {
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	health, err := client.Health(ctx)
	return err == nil && health.Release == p.Name && health.Plans && health.Error == "" && health.Problem == ""
}

// data is the data folder on the host.
func (p *Plan) data() string {
	return path.Join(p.Facts.Home, p.host.root(p.d.Project.Name), site.DataName)
}

func (p *Plan) change(ctx context.Context, service site.Service) (string, error) {
	change := site.Change{Release: p.Name, Binary: p.To.Hash, Service: service, Patience: int(p.d.Patience.Seconds())}
	if err := p.host.site(ctx, p.d.Project.Name, p.To.Hash, "switch", change, &p.result); err != nil {
		return "", err
	}
	return "", resultError(p.result)
}

// SwitchError says that a release did not run well, and what runs instead.
type SwitchError struct {
	Result site.Result
}

func (e *SwitchError) Error() string {
	r := e.Result
	text := "the new release does not run: " + r.Error
	switch {
	case r.Stuck != "":
		text += "; and " + r.Stuck
	case r.Restored != "":
		text += "; gone back to release " + r.Restored
	case r.Before.Release != "":
		text += "; release " + r.Before.Release + " goes on"
	default:
		text += "; nothing of it is left running"
	}
	return text
}

func resultError(r site.Result) error {
	if r.Error != "" {
		return &SwitchError{r}
	}
	return nil
}

// Do carries the plan out. began is called before each step and ended after it,
// also when it failed. One deploy of a project at a time is at work on a host.
func (p *Plan) Do(ctx context.Context, began func(i int) Progress, ended func(i int, said string, err error)) error {
	var held *hold
	for i, step := range p.Steps {
		switch {
		case step.beside:
		case held == nil:
			var err error
			if held, err = p.host.hold(ctx, p.d.Project.Name, p.To.Hash, "deploys release "+p.Name, p.d.Wait); err != nil {
				return err
			}
			defer held.release()
		default:
			if err := held.still(); err != nil {
				return err
			}
		}
		said, err := step.do(ctx, began(i))
		ended(i, said, err)
		if err != nil {
			return roomFor(err)
		}
	}
	return nil
}

// roomFor says what to do when the host's disk is full, or what the user may have of it.
func roomFor(err error) error {
	text := strings.ToLower(err.Error())
	if !strings.Contains(text, "no space left") && !strings.Contains(text, "quota exceeded") {
		return err
	}
	return fmt.Errorf("%w: make room on the host; the same command then goes on", err)
}

// serviceFor chooses how the daemon is kept running.
func serviceFor(f Facts) site.Service {
	service := site.Service{Kind: site.Background, User: f.User}
	switch systemd := f.Init == "systemd"; {
	case systemd && f.Root != "":
		service.Kind, service.Sudo = site.System, f.Root == "sudo"
	case systemd && f.UserUnits && f.Linger:
		service.Kind = site.User
	default:
		service.Cron = f.Crontab
	}
	return service
}

func kept(service site.Service, f Facts) string {
	switch service.Kind {
	case site.System:
		return "systemd, as " + f.User
	case site.User:
		return "the systemd of " + f.User + ", also while nobody is logged in"
	}
	text := "a process in the background"
	if f.bootsByCron() {
		text += ", started at boot by cron"
	}
	return text
}

// notes are what the person may want to know.
func (p *Plan) notes() {
	f := p.Facts
	if off := f.ClockOff.Abs(); off > 10*time.Second {
		p.Notes = append(p.Notes, fmt.Sprintf("the host's clock is %s %s; is its time synchronised?", off, map[bool]string{true: "ahead", false: "behind"}[f.ClockOff > 0]))
	}
	if f.Entries > 0 && f.Cron != "" {
		p.Notes = append(p.Notes, fmt.Sprintf("%s runs there too, with %s in the crontab of %s; belfry leaves them alone", f.Cron, count(f.Entries, "line"), f.User))
	}
	if f.Release == "" && len(f.Others) > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("also deployed there: %s; if this project was called so before, those jobs go on, too, until belfry deploy remove is given in a folder whose belfry.yaml has that name", strings.Join(f.Others, ", ")))
	}
	service := serviceFor(f)
	if service.Kind == site.System && f.SELinux == "enforcing" {
		p.Notes = append(p.Notes, "SELinux is enforcing, and lets systemd execute nothing in a home: the unit executes /usr/bin/env, which executes belfry; no label and no rule is changed")
	}
	if service.Kind == site.Background && !f.bootsByCron() {
		cron := "install cron"
		switch {
		case f.Crontab:
			cron = "start cron"
		case f.Cron != "":
			cron = "have root allow " + f.User + " a crontab"
		}
		p.Notes = append(p.Notes, "neither systemd nor cron starts it after a reboot: deploy again then, or "+cron+" and deploy again")
	}
	if service.Kind == site.Background && f.UserUnits {
		p.Notes = append(p.Notes, fmt.Sprintf("the systemd of %[1]s ends with the session, and %[1]s may not change that; to have it keep the daemon: sudo loginctl enable-linger %[1]s, and deploy again", f.User))
	}
	if p.d.Profile != nil && p.d.Profile.Name != "default" && !namesProfile(p.d.Project, p.d.Profile.Name) {
		p.Notes = append(p.Notes, fmt.Sprintf("no job names the profile; a job that is to use it says env: {AWS_PROFILE: %s}", p.d.Profile.Name))
	}
}

func namesProfile(p *project.Project, name string) bool {
	for _, j := range p.Jobs {
		for _, v := range j.Env {
			if v.Name == "AWS_PROFILE" && v.Value == name {
				return true
			}
		}
	}
	return false
}

// Rollback goes back to the release before the one that runs. wait is for another
// deploy of the project to end.
func (h *Host) Rollback(ctx context.Context, projectName string, patience, wait time.Duration) (site.Result, error) {
	var r site.Result
	held, err := h.hold(ctx, projectName, "", "goes back to the release before", wait)
	if err != nil {
		return r, err
	}
	defer held.release()
	if err := h.site(ctx, projectName, "", "rollback", site.Change{Patience: int(patience.Seconds())}, &r); err != nil {
		return r, err
	}
	return r, resultError(r)
}

// Status says what there is of a project on the host. For one that is not deployed
// there the error, ErrNotDeployed, names what is left of it.
func (h *Host) Status(ctx context.Context, projectName string) (site.Status, error) {
	var st site.Status
	err := h.site(ctx, projectName, "", "status", struct{}{}, &st)
	if !errors.Is(err, ErrNotDeployed) {
		return st, err
	}
	left, failed := h.script(ctx, `cd "$HOME/$1" 2>/dev/null && ls -A || exit 0`, h.root(projectName))
	switch {
	case failed != nil:
		return st, failed
	case left != "":
		return st, fmt.Errorf("%w, and in ~/%s is %s", err, h.root(projectName), strings.Join(strings.Fields(left), ", "))
	}
	return st, err
}

// ErrNotDeployed is returned for a project that is not on the host, or has been
// removed from it.
var ErrNotDeployed = errors.New("it is not deployed there")

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}
