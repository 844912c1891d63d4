package project

import (
	"slices"
	"strings"

	"belfry/crontab"
	"belfry/internal/job"
)

// after checks what comes after what, puts parents before their children, and
// gives each child without a schedule those of its parents.
func (p *parser) after() {
	byName := map[string]*job.Job{}
	for _, j := range p.project.Jobs {
		byName[j.Name] = j
	}
	for _, j := range p.project.Jobs {
		for i, parent := range j.After {
			switch {
			case byName[parent] == nil:
				p.errorf(p.lines[j.Name], "%s comes after %q, which is not a job of this file%s", j.Name, parent, nearestJob(parent, p.project.Jobs))
			case slices.Contains(j.After[:i], parent):
				p.errorf(p.lines[j.Name], "%s comes after %q twice", j.Name, parent)
			case onlyReboot(byName[parent]):
				p.errorf(p.lines[j.Name], "%s comes after %q, which runs at @reboot only: nothing comes after that", j.Name, parent)
			}
		}
		if len(j.After) > 0 && onlyReboot(j) {
			p.errorf(p.lines[j.Name], "%s runs at @reboot only, and so comes after nothing; take after away, or give it a time", j.Name)
		}
	}
	if len(p.errs) > 0 {
		return
	}
	if cycle := findCycle(p.project.Jobs, byName); cycle != nil {
		p.errorf(p.lines[cycle[0]], "these jobs wait for each other: %s", strings.Join(append(cycle, cycle[0]), " → "))
		return
	}
	var sorted []*job.Job
	done := map[string]bool{}
	var add func(j *job.Job)
	add = func(j *job.Job) {
		if done[j.Name] {
			return
		}
		done[j.Name] = true
		for _, parent := range j.After {
			add(byName[parent])
		}
		sorted = append(sorted, j)
		p.inherit(j, byName)
	}
	for _, j := range p.project.Jobs {
		add(j)
	}
	p.project.Jobs = sorted
}

// inherit gives j the rhythms of its parents, when it has none of its own.
func (p *parser) inherit(j *job.Job, byName map[string]*job.Job) {
	if len(j.Schedules) > 0 {
		return
	}
	for _, name := range j.After {
		parent := byName[name]
		j.Zone = parent.Zone
		for _, r := range parent.Rhythms() {
			if len(r.Schedules) > 0 && !slices.ContainsFunc(j.Inherited, r.Equal) {
				j.Inherited = append(j.Inherited, r)
			}
		}
	}
}

func onlyReboot(j *job.Job) bool {
	return len(j.Schedules) > 0 && !slices.ContainsFunc(j.Schedules, func(s crontab.Schedule) bool { return !s.Reboot() })
}

func nearestJob(name string, jobs []*job.Job) string {
	var keys []key
	for _, j := range jobs {
		keys = append(keys, key{name: j.Name})
	}
	return suggestion(name, keys)
}

// findCycle gives the names of jobs that wait for each other, or nil.
func findCycle(jobs []*job.Job, byName map[string]*job.Job) []string {
	state := map[string]int{} // 1: on the path, 2: done
	var path []string
	var visit func(j *job.Job) []string
	visit = func(j *job.Job) []string {
		state[j.Name] = 1
		path = append(path, j.Name)
		for _, parent := range j.After {
			if state[parent] == 1 {
				return slices.Clone(path[slices.Index(path, parent):])
			}
			if state[parent] == 0 {
				if cycle := visit(byName[parent]); cycle != nil {
					return cycle
				}
			}
		}
		path = path[:len(path)-1]
		state[j.Name] = 2
		return nil
	}
	for _, j := range jobs {
		if state[j.Name] == 0 {
			if cycle := visit(j); cycle != nil {
				return cycle
			}
		}
	}
	return nil
}
