package run

import "time"

// Person is who asked for a change, as the kernel knows them.
type Person struct {
	UID  int
	Name string
}

// Act is a change that a person made: what, and on what. It is written together
// with the change, or before it where that is not in the store.
type Act struct {
	Person
	ID       string // sorts by time
	At       time.Time
	Action   Action
	Job      string // the store's id of the job
	Project  string // of the job, as Name; known when it is read
	JobName  string
	Run      string // empty: it was on no single one
	Backfill string
	Detail   string // in words
}

// Action is what a person did, in the words of the command line.
type Action string

// The actions.
const (
	ActRun          Action = "run"
	ActStop         Action = "stop"
	ActKill         Action = "stop --kill"
	ActRetry        Action = "retry"
	ActPublish      Action = "retry --publish"
	ActPause        Action = "pause"
	ActResume       Action = "resume"
	ActBackfill     Action = "backfill"
	ActStopBackfill Action = "stop backfill"
	ActCrontab      Action = "crontab"
	ActNoCrontab    Action = "crontab -r"
)

// act is what by does to a run now.
func (r *Runner) act(by Person, action Action, run Run) *Act {
	return &Act{Person: by, At: r.o.Now(), Action: action, Job: run.Job, Run: run.ID}
}
