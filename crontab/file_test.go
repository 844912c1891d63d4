package crontab

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const opsCrontab = "\ufeff# the ops machine\r\n" +
	"MAILTO=ops@example.com\r\n" +
	"\r\n" +
	"#belfry: name=night timeout=30m note='two words'\r\n" +
	"#belfry: retry=3\r\n" +
	"5 4 * * * mail -s \"100\\% done\" boss%Dear boss,%%\\%\r\n" +
	"CRON_TZ=Asia/Seoul\n" +
	"MAILTO=\n" +
	"#belfry: name=orphan\n" +
	"\n" +
	"@hourly -n ./sync % \n" +
	"  0 9\t* * mon-fri   ./report # not a comment\n"

func TestAFileIsReadWithEverythingThatHoldsForItsEntries(t *testing.T) {
	f, err := Parse("ops", []byte(opsCrontab), Options{})
	if err != nil {
		t.Fatal(err)
	}
	seoul := []Var{{"MAILTO", ""}, {"CRON_TZ", "Asia/Seoul"}}
	want := []Entry{
		{
			Line: 6, Schedule: MustParseSchedule("5 4 * * *"),
			Command: `mail -s "100% done" boss`, Stdin: "Dear boss,\n\n%\n",
			Env: []Var{{"MAILTO", "ops@example.com"}},
			Options: []Option{
				{"name", "night", 4, 10}, {"timeout", "30m", 4, 21}, {"note", "two words", 4, 33}, {"retry", "3", 5, 10},
			},
		},
		{Line: 11, Schedule: MustParseSchedule("@hourly"), Command: "./sync ", Stdin: " \n", Env: seoul, Zone: "Asia/Seoul", MailOnFailure: true},
		{Line: 12, Schedule: MustParseSchedule("0 9\t* * mon-fri"), Command: "./report # not a comment", Env: seoul, Zone: "Asia/Seoul"},
	}
	if f.Name != "ops" || !reflect.DeepEqual(f.Entries, want) {
		t.Errorf("Parse(ops)\n got %+v\nwant %+v", f.Entries, want)
	}
}

func TestASystemFileHasAUserColumn(t *testing.T) {
	f, err := Parse("etc/crontab", []byte("-*/5 * * * * root /bin/true\n@daily\tdb -n\tdump  all\n"), Options{System: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{Line: 1, Schedule: MustParseSchedule("*/5 * * * *"), User: "root", Command: "/bin/true", NoLog: true},
		{Line: 2, Schedule: MustParseSchedule("@daily"), User: "db", Command: "dump  all", MailOnFailure: true},
	}
	if !reflect.DeepEqual(f.Entries, want) {
		t.Errorf("got %+v\nwant %+v", f.Entries, want)
	}
}

func TestErrorsSayWhereAndWhatAndWhatWouldBeRight(t *testing.T) {
	system := Options{System: true}
	for _, c := range []struct {
		why     string
		src     string
		options Options
		want    string
	}{
		{"a value out of range", "0 25 * * * x\n", Options{}, `ops:1:3: "25" is not an hour (0–23)`},
		{"a number that overflows cronie's int and is read as 5", "4294967301 * * * * x\n", Options{}, `"4294967301" is not a minute`},
		{"columns are characters, not bytes", "# ä\n é 1 * * * x\n", Options{}, `ops:2:2: "é" is not a minute (0–59)`},
		{"the offending part of a list", "0 0 1,2,40 * * x\n", Options{}, `ops:1:9: "40" is not a day of the month (1–31)`},
		{"a field too few", "0 0 * *\n", Options{}, "ops:1:8: the day of the week is missing"},
		{"a field too few in front of a command", "0 0 * * ./run\n", Options{}, `ops:1:9: "./run" is not a day of the week (0–7 or sun–sat); is a field missing in front of the command?`},
		{"no command", "30 1 * * *\n", Options{}, `ops:1:11: the command is missing after "30 1 * * *"`},
		{"no user column", "30 1 * * * reboot\n", system, "ops:1:18: the command is missing: in a system crontab the user comes before it"},
		{"a user and nothing more", "@daily\n", system, `ops:1:7: the user and the command are missing after "@daily"`},
		{"half a range", "5- * * * * x\n", Options{}, `ops:1:1: "5-" is half a range`},
		{"a reversed range", "0 22-4 * * * x\n", Options{}, `ops:1:3: "22-4" runs backwards and would never match; write "22-23,0-4"`},
		{"a reversed range of weekdays", "0 0 * * fri-mon x\n", Options{}, `"fri-mon" runs backwards and would never match; write "fri-sun,mon"`},
		{"a reversed range with a step", "0 22-4/3 * * * x\n", Options{}, `write "22,1,4"`},
		{"Sunday at the far end", "0 0 * * 7-3 x\n", Options{}, `write "0-3"`},
		{"the last line without a newline", "@daily a\n@daily b", Options{}, "ops:2:9: the last line does not end in a newline"},
		{"a comment line without a newline is no loss", "@daily a\n# b", Options{}, ""},
		{"a NUL byte", "@daily a\x00b\n", Options{}, "ops:1:9: a NUL byte"},
		{"a zone in front of a schedule", "CRON_TZ=Asia/Seoul 0 5 * * * x\n", Options{}, "put CRON_TZ=Asia/Seoul on a line of its own"},
		{"a leading - in a user's crontab", "-@daily x\n", Options{}, `ops:1:1: "-" in front of the schedule`},
		{"and in root's", "-@daily x\n", Options{Root: true}, ""},
		{"the shell's export", "export A=1\n", Options{}, `"export" is the shell's; write "A=1"`},
		{"another language's comment", "-- nightly\n", Options{}, `"--" does not begin a comment: "#" does`},
		{"a wrong separator", "1;2 * * * * x\n", Options{}, "separated by commas"},
		{"an option line", "#belfry: name\n@daily x\n", Options{}, `ops:1:10: "name" is not an option: write key=value`},
		{"an open quote", "#belfry: name=\"a b\n@daily x\n", Options{}, `ops:1:15: the quote of name is not closed`},
		{"an option line above nothing is a comment", "#belfry: name\n#@daily x\n", Options{}, ""},
	} {
		t.Run(c.why, func(t *testing.T) {
			_, err := Parse("ops", []byte(c.src), c.options)
			if c.want == "" {
				if err != nil {
					t.Errorf("Parse(%q): %v, want no error", c.src, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Parse(%q)\n got %v\nwant %s", c.src, err, c.want)
			}
		})
	}
}

func TestABadLineHidesNeitherErrorsNorEntries(t *testing.T) {
	f, err := Parse("ops", []byte("0 25 * * * a\n@daily b\n@Daily c\n5 5 * * * d\n* * *\n"), Options{})
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 3 || errs[0].Line != 1 || errs[1].Line != 3 || errs[2].Line != 5 {
		t.Errorf("got errors %v, want one on each of the lines 1, 3 and 5", err)
	}
	var first *Error
	if !errors.As(err, &first) || first != errs[0] {
		t.Errorf("errors.As finds %v, want %v", first, errs[0])
	}
	if len(f.Entries) != 2 || f.Entries[0].Command != "b" || f.Entries[1].Command != "d" {
		t.Errorf("got entries %+v, want b and d", f.Entries)
	}
}

func TestAssignmentsAreReadByCroniesStateMachine(t *testing.T) {
	for _, c := range []struct {
		line string
		want string // NAME|VALUE; empty: not an assignment
	}{
		{"A=x", "A|x"},
		{"A = x ", "A|x"},
		{"A='x'", "A|x"},
		{`"A B"=x`, "A B|x"},
		{"A=", "A|"},
		{"MAILTO = ", "MAILTO|"},
		{`A=""`, "A|"},
		{`A=" x "`, "A| x "},
		{"A=x # c", "A|x # c"},
		{`A=x"y"`, `A|x"y"`},
		{`A="x"y`, ""},
		{`A="x`, ""},
		{`A='x"`, ""},
		{"A=$HOME/bin", "A|$HOME/bin"},
		{`A=a\nb`, `A|a\nb`},
		{`A=\"`, `A|\"`},
		{"1=2", "1|2"},
		{"*=1", "*|1"},
		{"@daily=1", "@daily|1"},
		{"-x=1", "-x|1"},
		{"=1", "|1"},
		{"A:=1", "A:|1"},
		{"export A=1", ""},
		{"5 =6", "5|6"},
		{`"A=B"=1`, ""},
		{`A="x" `, "A|x"},
		{"A=x=y", "A|x=y"},
		{`"`, ""},
		{`A="`, ""},
		{"A", ""},
		{"'A'", ""},
		{`"A"B=1`, ""},
	} {
		v, ok := assignment(c.line)
		got := ""
		if ok {
			got = v.Name + "|" + v.Value
		}
		if got != c.want {
			t.Errorf("assignment(%q) = %q, want %q", c.line, got, c.want)
		}
	}
}

func TestThePercentSignSplitsAsInCronie(t *testing.T) {
	for _, c := range []struct{ text, command, stdin, why string }{
		{"cmd", "cmd", "", "no %: an empty pipe"},
		{"cmd%", "cmd", "", "nothing after it: the same"},
		{"cmd%a%b", "cmd", "a\nb\n", "further % are newlines, the last is added"},
		{"cmd%a%", "cmd", "a\n", "and not added twice"},
		{`date +\%F`, "date +%F", "", "an escaped % is a %"},
		{`printf 'a\\n'`, `printf 'a\\n'`, "", "other backslashes stay"},
		{`a\\%b`, `a\\`, "b\n", "an escaped backslash does not escape"},
		{`a%b\\%c`, "a", "b\\%c\n", "in the input it does"},
		{`a%b\x\`, "a", "b\\x\\\n", "and stays otherwise, also at the end"},
		{`a\`, `a\`, "", "a lone backslash"},
		{`%in`, "", "in\n", "an empty command is accepted"},
	} {
		command, stdin := splitInput(c.text, false)
		if command != c.command || stdin != c.stdin {
			t.Errorf("%s: splitInput(%q) = %q, %q; want %q, %q", c.why, c.text, command, stdin, c.command, c.stdin)
		}
	}
}

func TestDebiansDialectIsDebians(t *testing.T) {
	const text = "CRON_TZ=not a zone\n0 1 * * * printf 'a\\\\n\\%' \\x \\\\%in\\\\%put\n"
	for debian, want := range map[bool]Entry{
		true:  {Command: `printf 'a\n%' \x \`, Stdin: "in\\%put\n"},
		false: {Command: `printf 'a\\n%' \x \\`, Stdin: "in\\%put\n", Zone: "not a zone"},
	} {
		file, err := Parse("tab", []byte(text), Options{Debian: debian})
		if (err == nil) != debian {
			t.Errorf("Debian %v: the zone is told as %v", debian, err)
		}
		got := file.Entries[0]
		if got.Command != want.Command || got.Stdin != want.Stdin || got.Zone != want.Zone || len(got.Env) != 1 {
			t.Errorf("Debian %v: %q is %+v, want %+v", debian, text, got, want)
		}
	}
}

func TestARandomFieldIsDrawnFromTheSeedAndTheLine(t *testing.T) {
	draw := func(seed, line string) Schedule {
		f, err := Parse("ops", []byte("# above\n"+line+"\n"), Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		return f.Entries[0].Schedule
	}
	a := draw("host/ops", "~ 0~5 * * * x")
	if again := draw("host/ops", "~ 0~5 * * * x"); a != again {
		t.Errorf("the same line is drawn anew: %b and %b", a.minute, again.minute)
	}
	seen := map[uint64]bool{}
	for _, line := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		s := draw("host/ops", "~ 0~5 * * * "+line)
		if set(s.minute).len() != 1 || set(s.hour).len() != 1 || set(s.hour).max() > 5 || s.Wildcard() {
			t.Errorf("~ 0~5 * * * %s drew %v and %v", line, setText(s, minuteField), setText(s, hourField))
		}
		seen[s.minute] = true
	}
	if len(seen) < 6 {
		t.Errorf("ten lines drew only %d different minutes", len(seen))
	}
	if other := draw("another/ops", "~ 0~5 * * * x"); other == a {
		t.Errorf("another host draws the same: %q", other.Explain())
	}
}

func TestParseTakesAsManyAssignmentsAsCron(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range maxAssignments + 1 {
		fmt.Fprintf(&text, "V%d=%d\n", i, i)
	}
	text.WriteString("* * * * * true\n")
	file, err := Parse("big", []byte(text.String()), Options{})
	want := "big:1001:1: this is one assignment too many: cron takes 1000 from a crontab"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if len(file.Entries) != 1 || len(file.Entries[0].Env) != maxAssignments {
		t.Errorf("the entry below has %d variables, want %d", len(file.Entries[0].Env), maxAssignments)
	}
}
