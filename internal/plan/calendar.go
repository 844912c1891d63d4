package plan

import (
	"container/heap"
	"slices"
	"time"

	"belfry/internal/job"
)

// Calendar is the jobs that are planned, made once when they are loaded. It
// remembers when each fires next, so that a decision costs what it decides and
// not what there is: with a hundred thousand jobs an idle minute looks at one
// number. What it remembers changes no decision. It is not safe for use by
// several goroutines.
type Calendar struct {
	jobs     []Job
	parents  [][]int // the places of each job's parents; nil when no job has any
	children [][]int
	reboot   []int // the jobs with @reboot

	from time.Time // next holds the first firing of each job after it
	next nextFirings
}

// NewCalendar makes the calendar of jobs, in which parents stand before the
// jobs that come after them.
func NewCalendar(jobs []Job) *Calendar {
	c := &Calendar{jobs: jobs}
	family := map[job.ID]int{} // parents, by what their children call them
	for _, j := range jobs {
		for _, name := range j.After {
			family[job.ID{Project: j.Project, Name: name}] = -1
		}
	}
	if len(family) > 0 {
		c.parents, c.children = make([][]int, len(jobs)), make([][]int, len(jobs))
	}
	for i, j := range jobs {
		if j.Reboot() {
			c.reboot = append(c.reboot, i)
		}
		for _, name := range j.After {
			if parent := family[job.ID{Project: j.Project, Name: name}]; parent >= 0 {
				c.parents[i] = append(c.parents[i], parent)
				c.children[parent] = append(c.children[parent], i)
			}
		}
		if _, isParent := family[j.ID]; isParent {
			family[j.ID] = i
		}
	}
	return c
}

func (c *Calendar) parentsOf(i int) []int {
	if c.parents == nil {
		return nil
	}
	return c.parents[i]
}

func (c *Calendar) isParent(i int) bool { return c.children != nil && len(c.children[i]) > 0 }

// due lists the jobs with a schedule that may have a firing in (after, until],
// and turns the calendar to until.
func (c *Calendar) due(after, until time.Time) []int {
	if c.from.IsZero() || after.Before(c.from) { // the first time, or after a clock was set back
		c.turn(after)
	}
	var due []int
	for len(c.next) > 0 && c.next[0].at <= until.Unix() {
		due = append(due, c.next[0].job)
		at := c.jobs[c.next[0].job].ownNext(until)
		if at.IsZero() {
			heap.Pop(&c.next)
			continue
		}
		c.next[0].at = at.Unix()
		heap.Fix(&c.next, 0)
	}
	if until.After(c.from) {
		c.from = until
	}
	return due
}

// turn looks up the next firing of every job anew.
func (c *Calendar) turn(from time.Time) {
	c.from = from
	if c.next == nil {
		c.next = make(nextFirings, 0, len(c.jobs)) // at once: to let it grow leaves twice as much behind
	}
	c.next = c.next[:0]
	for i := range c.jobs {
		if at := c.jobs[i].ownNext(from); !at.IsZero() {
			c.next = append(c.next, nextFiring{at.Unix(), i})
		}
	}
	heap.Init(&c.next)
}

// wake is the first firing after the instant that the calendar is turned to;
// zero when none comes.
func (c *Calendar) wake() time.Time {
	if len(c.next) == 0 {
		return time.Time{}
	}
	return time.Unix(c.next[0].at, 0)
}

// coming counts the jobs that fire at wake.
func (c *Calendar) coming() int {
	n := 0
	for look := []int{0}; len(look) > 0; {
		i := look[len(look)-1]
		look = look[:len(look)-1]
		if i < len(c.next) && c.next[i].at == c.next[0].at { // what is below in a heap is not earlier
			n++
			look = append(look, 2*i+1, 2*i+2)
		}
	}
	return n
}

// concerned lists the jobs, in their order, that may have something to account
// for: those that may fire in (after, until], those that come after one of
// them, and at a new boot those with @reboot.
func (c *Calendar) concerned(after, until time.Time, booted bool) []int {
	list := c.due(after, until)
	if booted {
		list = append(list, c.reboot...)
	}
	if c.children != nil {
		seen := map[int]bool{}
		for i := 0; i < len(list); i++ { // which grows
			if !seen[list[i]] {
				seen[list[i]] = true
				list = append(list, c.children[list[i]]...)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// ownNext is the next firing of the job's own schedules.
func (j *Job) ownNext(t time.Time) time.Time {
	if len(j.Schedules) == 0 {
		return time.Time{}
	}
	return j.Next(t)
}

// nextFirings is a heap by time.
type nextFirings []nextFiring

type nextFiring struct {
	at  int64 // Unix seconds: schedules fire on whole ones
	job int
}

func (f nextFirings) Len() int           { return len(f) }
func (f nextFirings) Less(i, j int) bool { return f[i].at < f[j].at }
func (f nextFirings) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *nextFirings) Push(x any)        { *f = append(*f, x.(nextFiring)) }
func (f *nextFirings) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}
