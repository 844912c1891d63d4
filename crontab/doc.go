// Package crontab is the crontab language: it answers what a line of a crontab means, and at which instants it fires.
//
// The language is cronie's, read strictly: five fields or an @nickname, environment lines, % and what follows it, a
// user column in system files. [Parse] reads a whole file, [ParseSchedule] one expression. A [Schedule] is a small value
// that can be compared, printed, explained in a sentence, and asked for the firing after or before an instant in any
// time zone, daylight saving included.
//
// The package has no clock and does no I/O; it never asks what time it is and it loads no zones. Whoever wants to run
// something at a firing, or to remember that it ran, wants the packages built on top of this one.
package crontab
