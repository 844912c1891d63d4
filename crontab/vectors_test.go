package crontab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func readVectors[T any](t *testing.T, name string) []T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	var v []T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(v) == 0 {
		t.Fatalf("%s has no vectors", name)
	}
	return v
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func mustParse(t testing.TB, expr string) Schedule {
	t.Helper()
	s, err := ParseSchedule(expr)
	if err != nil {
		t.Fatalf("ParseSchedule(%q): %v", expr, err)
	}
	return s
}

// nextN gives the first n firings after from as text.
func nextN(s Schedule, from time.Time, n int) []string {
	var got []string
	for t := s.Next(from); len(got) < n && !t.IsZero(); t = s.Next(t) {
		got = append(got, t.Format(time.RFC3339))
	}
	return got
}

func TestNextAgreesWithCronOnOrdinaryDays(t *testing.T) {
	type vector struct {
		ID, Expr, TZ string
		From         time.Time
		Next         []string
	}
	for _, v := range readVectors[vector](t, "general.json") {
		t.Run(v.ID, func(t *testing.T) {
			s := mustParse(t, v.Expr)
			want := instants(t, v.Next, zone(t, v.TZ))
			got := nextN(s, v.From.In(zone(t, v.TZ)), max(1, len(want)))
			if !slices.Equal(got, want) {
				t.Errorf("%q in %s after %v\n got %v\nwant %v", v.Expr, v.TZ, v.From, got, want)
			}
		})
	}
}

func TestNextAgreesWithCronWhereClocksChange(t *testing.T) {
	type vector struct {
		ID, Expr, TZ, Class string
		From                time.Time
		Next                []string
		ScheduledForLocal   []string `json:"scheduled_for_local"`
	}
	for _, v := range readVectors[vector](t, "dst.json") {
		t.Run(v.ID, func(t *testing.T) {
			s := mustParse(t, v.Expr)
			if got, want := s.Wildcard(), v.Class == "wildcard"; got != want {
				t.Errorf("%q.Wildcard() = %v, want %v", v.Expr, got, want)
			}
			loc := zone(t, v.TZ)
			all := instants(t, v.Next, loc)
			want := slices.Compact(slices.Clone(all)) // several times of one gap fire once
			got := nextN(s, v.From.In(loc), len(want))
			if !slices.Equal(got, want) {
				t.Errorf("%q in %s after %v\n got %v\nwant %v", v.Expr, v.TZ, v.From, got, want)
			}
			if v.ID == "D131" {
				return // its scheduled_for_local are cronie's, which is a day late after Samoa's; its next are Debian's
			}
			for _, instant := range got {
				firing, err := time.ParseInLocation(time.RFC3339, instant, loc)
				if err != nil {
					t.Fatal(err)
				}
				firing = firing.In(loc)
				wantNamed := v.ScheduledForLocal[slices.Index(all, instant)]
				if got := s.Named(firing).Format("2006-01-02T15:04"); got != wantNamed {
					t.Errorf("%q.Named(%v) = %s, want %s", v.Expr, firing, got, wantNamed)
				}
			}
		})
	}
}

// instants rewrites RFC 3339 times as loc would write them.
func instants(t *testing.T, texts []string, loc *time.Location) []string {
	t.Helper()
	var all []string
	for _, text := range texts {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, at.In(loc).Format(time.RFC3339))
	}
	return all
}

// Where we depart from cronie on purpose, by line, and why. cron-semantics.md is the page that recommends it.
var departures = map[string]struct{ why, message string }{
	"\r":                  {why: "an empty line of a file with Windows line endings; nothing can be meant by it (accepted)"},
	"\ufeff5 5 * * * cmd": {why: "a byte order mark in front of a file is an editor's, not the user's (accepted)"},
	"* 22-4 * * * cmd":    {why: "§1.3: a reversed range never fires in cronie, silently", message: `write "22-23,0-4"`},
	"* * * nov-feb * cmd": {why: "§1.3: the same with names", message: `write "nov-dec,jan-feb"`},
	"* * * * 6-1 cmd":     {why: "§1.3: the same in the week", message: `write "6-7,1"`},
	"* 3-0 * * * cmd":     {why: "§1.3: cronie reads 3-7, a slip: a-0 is a-7 in the week alone", message: `write "3-23,0"`},
	"* * * * 5-0/1 cmd":   {why: "§1.3: cronie's a-0 works only without a step and is empty with one; here it is 5,6,7 (accepted)"},
}

func TestLinesThatCronRejectsAreErrors(t *testing.T) {
	type vector struct{ ID, Line, Category, Reason string }
	for _, v := range readVectors[vector](t, "invalid.json") {
		t.Run(v.ID, func(t *testing.T) {
			f, err := Parse("tab", []byte(v.Line+"\n"), Options{})
			if _, ok := departures[v.Line]; ok {
				if err != nil {
					t.Errorf("Parse(%q): %v, want none: it is a departure", v.Line, err)
				}
				return
			}
			if err == nil {
				t.Fatalf("Parse(%q) accepts it (%+v); cronie does not: %s", v.Line, f, v.Reason)
			}
			t.Log(err)
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("Parse(%q): %T, want Errors", v.Line, err)
			}
			for _, e := range all {
				if e.File != "tab" || e.Line != 1 || e.Column < 1 || e.Message == "" || e.Reason == "" {
					t.Errorf("Parse(%q): error without a place, a message or cron's reason: %#v", v.Line, e)
				}
			}
		})
	}
}

func TestLinesThatLookWrongAndAreValidMeanWhatTheyMeanToCronie(t *testing.T) {
	type read struct {
		Accepted                                             bool
		Kind, Minute, Hour, Dom, Month, Dow, Flags, Cmd, Env string
	}
	type vector struct {
		ID, Line, Note string
		Cronie         read
	}
	for _, v := range readVectors[vector](t, "valid.json") {
		t.Run(v.ID, func(t *testing.T) {
			line, want := v.Line, v.Cronie
			departure, departs := departures[line]
			if want.Kind == "env" { // an entry below shows what was assigned
				line += "\n@daily cmd"
			}
			f, err := Parse("tab", []byte(line+"\n"), Options{})
			if departs && departure.message != "" {
				if err == nil || !strings.Contains(err.Error(), departure.message) {
					t.Errorf("Parse(%q): error %v, want one that says %q", line, err, departure.message)
				}
				return
			}
			if !want.Accepted {
				if err == nil {
					t.Errorf("Parse(%q) accepts it; cronie does not", line)
				}
				return
			}
			if err != nil || len(f.Entries) != 1 {
				t.Fatalf("Parse(%q) = %+v, %v; want one entry", line, f, err)
			}
			e := f.Entries[0]
			if want.Kind == "env" {
				if len(e.Env) != 1 || e.Env[0].Name+"="+e.Env[0].Value != want.Env {
					t.Errorf("Parse(%q) assigns %q, want %q", line, e.Env, want.Env)
				}
				return
			}
			if departs {
				want.Dow = "0,5,6"
			}
			s := e.Schedule
			got := read{
				Accepted: true, Kind: "job", Cmd: want.Cmd, Flags: flagText(e),
				Minute: setText(s, minuteField), Hour: setText(s, hourField), Dom: setText(s, domField),
				Month: setText(s, monthField), Dow: setText(s, dowField),
			}
			if command, _ := splitInput(want.Cmd, false); e.Command != command {
				t.Errorf("Parse(%q): command %q, want %q", line, e.Command, command)
			}
			if strings.Contains(s.text, "~") { // cronie's draw is not ours
				if got.Minute, want.Minute = "", ""; set(s.minute).len() != 1 {
					t.Errorf("Parse(%q) draws %b", line, s.minute)
				}
			}
			if got != want {
				t.Errorf("Parse(%q)\n got %+v\nwant %+v", line, got, want)
			}
		})
	}
}

func setText(s Schedule, f *field) string {
	if s.field(f) == f.full() {
		return "*"
	}
	var values []string
	for v := range s.field(f).each() {
		values = append(values, fmt.Sprint(v))
	}
	return strings.Join(values, ",")
}

func flagText(e Entry) string {
	text := ""
	for i, f := range []flags{minuteStar, hourStar, domStar, dowStar} {
		if e.Schedule.flags&f != 0 {
			text += "MHDW"[i : i+1]
		}
	}
	if e.MailOnFailure {
		text += "N"
	}
	return text
}
