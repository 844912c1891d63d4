package crontab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func FuzzParseSchedule(f *testing.F) {
	for _, expr := range []string{"* * * * *", "*/5 1,2,3 * * *", "@daily", "0 22-4 * * *", "~ 1~5 * jan-mar fri-sun", "5-64/30 * * * *", "0 0 31 2 *"} {
		f.Add(expr)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		s, err := ParseSchedule(expr)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Message == "" || e.Line != 1 || e.Column < 1 || e.Column > utf8.RuneCountInString(expr)+1 {
				t.Fatalf("ParseSchedule(%q): error without a place or a message: %#v", expr, err)
			}
			return
		}
		if again, err := ParseSchedule(s.String()); err != nil || again != s && !strings.Contains(expr, "~") {
			t.Errorf("ParseSchedule(%q) prints as %q, which reads as %+v, %v", expr, s, again, err)
		}
		if text := s.Explain(); text == "" || len(text) > 600 {
			t.Errorf("%q explains itself in %d bytes: %s", expr, len(text), text)
		}
		from := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
		next := s.Next(from)
		if next.IsZero() != strings.HasPrefix(s.Explain(), "never") && !s.Reboot() {
			t.Errorf("%q: next %v, and it says %q", expr, next, s.Explain())
		}
		if next.IsZero() {
			return
		}
		if !s.Match(next) || !next.After(from) {
			t.Errorf("%q: next after %v is %v, which does not match", expr, from, next)
		}
		if prev := s.Prev(next.Add(1)); !prev.Equal(next) {
			t.Errorf("%q: Prev just after %v is %v", expr, next, prev)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(opsCrontab), true)
	f.Add([]byte("A='x\n@daily a%b\\%c"), false)
	f.Add([]byte("#belfry: a=\"b\" c='\n-@reboot root -n x\n"), true)
	tabs, err := filepath.Glob("testdata/crontabs/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range tabs {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, strings.HasPrefix(filepath.Base(name), "system"))
	}
	f.Fuzz(func(t *testing.T, src []byte, system bool) {
		file, err := Parse("fuzz", src, Options{System: system, Seed: "seed"})
		if file == nil {
			t.Fatalf("Parse(%q) returns no file (%v)", src, err)
		}
		lines := strings.Count(string(src), "\n") + 1
		for _, e := range file.Entries {
			if e.Line < 1 || e.Line > lines || e.Schedule.IsZero() || system != (e.User != "") {
				t.Errorf("Parse(%q) has the entry %+v", src, e)
			}
			if e.Stdin != "" && !strings.HasSuffix(e.Stdin, "\n") {
				t.Errorf("Parse(%q): input %q has no newline at its end", src, e.Stdin)
			}
		}
		if err == nil {
			return
		}
		var all Errors
		if !errors.As(err, &all) {
			t.Fatalf("Parse(%q): %T, want Errors", src, err)
		}
		for _, e := range all {
			if e.File != "fuzz" || e.Line < 1 || e.Line > lines || e.Column < 1 || e.Message == "" {
				t.Errorf("Parse(%q): error without a place or a message: %#v", src, e)
			}
		}
	})
}

func FuzzAssignment(f *testing.F) {
	for _, line := range []string{"A=x", `"A B" = 'c' `, "A=", `A="`, "'", "* * * * * cmd"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		v, ok := assignment(line)
		if ok && !strings.Contains(line, "=") {
			t.Errorf("assignment(%q) = %q without =", line, v)
		}
		if ok && (!strings.Contains(line, v.Name) || !strings.Contains(line, v.Value)) {
			t.Errorf("assignment(%q) = %q, which does not stand there", line, v)
		}
	})
}
