package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"belfry/crontab"
)

func TestEntriesAreCalledAfterTheirProgram(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ command, want, why string }{
		{"/usr/bin/python3 /home/ec2-user/ttandaudio_to_s3.py", "ttandaudio_to_s3", "an interpreter is not what the line is about"},
		{"python3 -u related_artists.py --market KR", "related_artists", "options of the interpreter come before the script"},
		{"python3.12 -W ignore load.py", "load", "interpreters have versions, and options with values"},
		{"python3 -m reports.daily --date today", "reports.daily", "-m names a module"},
		{"python3 -c 'print(1)'", "python3", "a program on the line has no name of its own"},
		{"java -Xmx1g -cp a.jar:b.jar com.example.Main", "com.example.main", "java has long options with one dash"},
		{"java -jar /opt/etl.jar", "etl", "and -jar has none"},
		{"php -f /var/www/cron.php", "cron", ""},
		{"Rscript report.R", "report", "upper case is made lower"},
		{"cd ~/reports && python daily.py --date $(date -d yesterday +%F) 2>&1 | tee -a logs/daily.log", "daily", "cd only prepares"},
		{"cd /srv/app; ./run.sh", "run", ""},
		{"cd /srv/app", "app", "nothing but cd: where it goes"},
		{"flock -n /tmp/sync.lock rsync -a --delete src/ backup:/data/", "rsync", "flock takes a file before the program"},
		{"flock -w 10 /tmp/l -c 'cd /x && ./load.sh'", "load", "or a command in quotes"},
		{"/usr/bin/flock -xn /run/x bash -lc 'source venv/bin/activate && python etl.py'", "etl", "wrappers in wrappers"},
		{"nice -n 10 /opt/x/run.sh", "run", "-n takes a value"},
		{"nice -10 /opt/x/run.sh", "run", "the old way"},
		{"ionice -c3 nice -n19 backup --all", "backup", "a value may stand in the same word"},
		{"timeout -k 5 --signal KILL 30m ./load.sh", "load", "timeout takes a duration"},
		{"env -i FOO=1 BAR=2 /bin/x", "x", ""},
		{"FOO=1 /bin/x", "x", "assignments come first"},
		{"PATH=/a:$PATH; run.py", "run", "an assignment may be a command of its own"},
		{"sudo -u postgres pg_dump shop", "pg_dump", ""},
		{"su - postgres -c \"pg_dump shop\"", "pg_dump", ""},
		{"uv run --with requests fetch.py", "fetch", ""},
		{"poetry run python -m app.jobs", "app.jobs", ""},
		{"poetry install", "poetry", "not every use of it runs something"},
		{"test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }", "cron.daily", "Debian's own crontab: what it runs, not what it asks for"},
		{"cd / && run-parts --report /etc/cron.hourly", "cron.hourly", "a folder's name has no extension"},
		{"[ -f /etc/x ] && /usr/local/bin/heartbeat", "heartbeat", ""},
		{"if [ -f x ]; then ./y.sh; fi", "y", "keywords are no programs"},
		{"for f in *.csv; do python load.py $f; done", "load", ""},
		{"sleep 60 && /home/analyst/bin/tunnel", "tunnel", "waiting only prepares"},
		{"sleep 60", "sleep", "unless there is nothing else"},
		{"(cd /x; exec ./a.sh) >/dev/null 2>&1", "a", ""},
		{"mysqldump shop | gzip > /backup/shop-`date +%Y`.sql.gz", "mysqldump", "the first of a pipe"},
		{">/tmp/log 2>&1 ./a.sh", "a", "redirects may come first"},
		{"> /tmp/log ./a.sh", "a", "with a blank, too"},
		{"./a.sh &>/tmp/log", "a", ""},
		{"find /tmp/cache -mtime +7 -delete", "find", ""},
		{"/usr/bin/true >/dev/null 2>&1", "true", ""},
		{"echo \"odd Mondays\"", "echo", ""},
		{"/opt/tool-1.2/bin/tool-1.2", "tool-1.2", "a version is not an extension"},
		{"'/opt/My Tools/Nightly Load.sh' now", "nightly-load", "quotes hold a word together"},
		{"/home/me/일일보고.py", "job", "nothing is left that may stand in a name"},
		{"/home/me/일일report.py", "report", ""},
		{"python3 /home/me/보고/집계-kr.py", "kr", ""},
		{"$HOME/bin/load.sh", "load", ""},
		{"${SCRIPT}", "script", ""},
		{"/bin/sh", "sh", "a wrapper with nothing to run"},
		{"env", "env", ""},
		{"timeout", "timeout", ""},
		{"", "job", "there is always a name"},
		{" \t ", "job", ""},
		{"'", "job", "a quote that is not closed"},
		{"$(", "job", ""},
		{"((((", "job", ""},
		{"...", "job", "a name begins with no dot"},
		{strings.Repeat("x", 300), strings.Repeat("x", 90), "a name is short, with room for -1000"},
	} {
		if got := ProgramName(c.command); got != c.want {
			t.Errorf("ProgramName(%q) = %q, want %q %s", c.command, got, c.want, c.why)
		}
	}
}

func TestProgramNameOfAnythingIsAName(t *testing.T) {
	t.Parallel()
	words := rapid.SampledFrom([]string{
		"cd", "&&", "/x/y.py", "flock", "-n", "bash", "-c", "'", "\"", "$(", ")", "`", "su", "{", "}", ";", "|", ">", "2>&1",
		"env", "A=b", "timeout", "uv", "run", "python3", "-m", "--", "한글", "\\", "a.b", "run-parts", "sudo", "\n", "\xff",
	})
	rapid.Check(t, func(t *rapid.T) {
		command := strings.Join(rapid.SliceOfN(words, 0, 12).Draw(t, "words"), rapid.SampledFrom([]string{" ", ""}).Draw(t, "between"))
		if rapid.Bool().Draw(t, "any text") {
			command = rapid.String().Draw(t, "command")
		}
		name := ProgramName(command)
		if err := CheckName(name + "-1000"); err != nil {
			t.Errorf("ProgramName(%q) = %q: %v", command, name, err)
		}
	})
}

func TestCheckNameSaysWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, want string }{
		{"top-tracks", ""},
		{"a", ""},
		{"x.y_z-1", ""},
		{strings.Repeat("x", 100), ""},
		{"", "a name is missing"},
		{"Top Tracks", `"Top Tracks" cannot be a name; use a–z, 0–9, dot, dash and underscore, as in "top-tracks"`},
		{"a/b", `"a/b" cannot be a name; use a–z, 0–9, dot, dash and underscore, as in "a-b"`},
		{".hidden", `".hidden" cannot be a name; use a–z, 0–9, dot, dash and underscore, as in "hidden"`},
		{"..", `".." cannot be a name; use a–z, 0–9, dot, dash and underscore, as in "job"`},
		{"일일보고", `"일일보고" cannot be a name; use a–z, 0–9, dot, dash and underscore, as in "job"`},
		{strings.Repeat("보", 50), `"` + strings.Repeat("보", 20) + `…" is too long for a name: 100 characters at most`},
	} {
		got := ""
		if err := CheckName(c.name); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("CheckName(%q)\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// line is an entry of a crontab as a person edits it.
type line struct{ name, command string }

// fleet is what a store remembers of a crontab over reloads.
type fleet struct {
	known []Known
	next  int
}

// load matches lines and remembers the outcome as the store does. It gives
// key:name for each line.
func (f *fleet) load(lines ...line) []string {
	jobs := make([]*Job, len(lines))
	for i, l := range lines {
		jobs[i] = &Job{ID: ID{Project: "alice", Name: l.name}, Settings: &Settings{Crontab: true}, Command: Command{Text: l.command, Shell: "/bin/sh"}}
	}
	keys := Match(jobs, f.known)
	var known []Known
	var told []string
	for i, j := range jobs {
		if keys[i] == "" {
			f.next++
			keys[i] = fmt.Sprint(f.next)
		}
		known = append(known, Known{Key: keys[i], Name: j.Name, Command: j.Command.String(), Timing: j.Timing()})
		told = append(told, keys[i]+":"+j.Name)
	}
	for _, k := range f.known {
		if !slices.Contains(keys, k.Key) {
			k.Removed = true
			known = append(known, k)
		}
	}
	f.known = known
	return told
}

func TestMatchKeepsJobsOverEdits(t *testing.T) {
	t.Parallel()
	lines := func(commands ...string) (list []line) {
		for _, command := range commands {
			list = append(list, line{command: command})
		}
		return list
	}
	for _, c := range []struct {
		why     string
		edits   [][]line
		want    string // after the last edit
		history string // key:name of jobs that are removed then
	}{
		{
			"a first load names jobs after their programs, in file order",
			[][]line{lines("/x/a.sh", "b", "/y/a.sh")},
			"1:a 2:b 3:a-2", "",
		},
		{
			"lines are swapped",
			[][]line{lines("a", "b", "c"), lines("c", "b", "a")},
			"3:c 2:b 1:a", "",
		},
		{
			"a schedule is edited: the command is the same",
			[][]line{lines("a 1", "a 2"), lines("a 1", "a 2")},
			"1:a 2:a-2", "",
		},
		{
			"the arguments of one are edited",
			[][]line{lines("load.py --kr", "load.py --us"), lines("load.py --kr", "load.py --jp")},
			"1:load 2:load-2", "",
		},
		{
			"an equal line is inserted above: the first two are the old ones",
			[][]line{lines("a", "a"), lines("a", "a", "a")},
			"1:a 2:a-2 3:a-3", "",
		},
		{
			"one of three equal lines is deleted: the last one goes",
			[][]line{lines("a", "a", "a"), lines("a", "a")},
			"1:a 2:a-2", "3:a-3",
		},
		{
			"a line moves and another is edited at once",
			[][]line{lines("x.py 1", "x.py 2", "b"), lines("b", "x.py 2", "x.py 3")},
			"3:b 2:x-2 1:x", "",
		},
		{
			"an unnamed entry is given a name",
			[][]line{lines("a", "b"), {{"nightly", "a"}, {"", "b"}}},
			"1:nightly 2:b", "",
		},
		{
			"a name is taken off again: it stays what the job is called",
			[][]line{{{"nightly", "a"}}, lines("a")},
			"1:nightly", "",
		},
		{
			"a named entry is renamed with its command unchanged",
			[][]line{{{"old", "a"}}, {{"new", "a"}}},
			"1:new", "",
		},
		{
			"a named entry goes, and another line has its program: that is another job",
			[][]line{{{"secret", "echo a"}}, lines("echo b")},
			"2:echo", "1:secret",
		},
		{
			"a named entry gets another command: the name decides",
			[][]line{{{"n", "a"}, {"", "b"}}, {{"n", "b"}, {"", "c"}}},
			"1:n 3:c", "2:b",
		},
		{
			"two named entries swap their names",
			[][]line{{{"x", "a"}, {"y", "b"}}, {{"y", "a"}, {"x", "b"}}},
			"2:y 1:x", "",
		},
		{
			"two named entries swap their places",
			[][]line{{{"x", "a"}, {"y", "a"}}, {{"y", "a"}, {"x", "a"}}},
			"2:y 1:x", "",
		},
		{
			"a job that was removed comes back",
			[][]line{lines("a", "b"), lines("b"), lines("b", "a")},
			"2:b 1:a", "",
		},
		{
			"one that was removed yields to one that is there",
			[][]line{lines("a 1", "a 2"), lines("a 2"), lines("a 2", "a 1")},
			"2:a-2 1:a", "",
		},
		{
			"a new job takes the history of a removed one of the same program",
			[][]line{lines("load.py --kr"), nil, lines("load.py --us")},
			"1:load", "",
		},
		{
			"a name that is given now is not taken by a job that comes back",
			[][]line{lines("a"), nil, {{"a", "b"}, {"", "a"}}},
			"1:a 2:a-2", "",
		},
		{
			"an unnamed job never bears a name that another was given",
			[][]line{{{"", "a"}, {"a", "b"}}},
			"1:a-2 2:a", "",
		},
		{
			"a name that an unnamed job bore is given to another line: the history goes with the name",
			[][]line{lines("a", "b"), {{"", "a"}, {"a", "c"}}},
			"3:a-2 1:a", "2:b",
		},
	} {
		var f fleet
		var got []string
		for _, edit := range c.edits {
			got = f.load(edit...)
		}
		var history []string
		for _, k := range f.known {
			if k.Removed {
				history = append(history, k.Key+":"+k.Name)
			}
		}
		if strings.Join(got, " ") != c.want || strings.Join(history, " ") != c.history {
			t.Errorf("%s: %v\n got %q, removed %q\nwant %q, removed %q", c.why, c.edits, got, history, c.want, c.history)
		}
	}
}

func TestAThousandEqualLinesAreAThousandJobsAndStayThem(t *testing.T) {
	t.Parallel()
	lines := make([]line, 1000)
	for i := range lines {
		lines[i].command = "/usr/bin/true >/dev/null 2>&1"
	}
	var f fleet
	first := f.load(lines...)
	if first[0] != "1:true" || first[1] != "2:true-2" || first[999] != "1000:true-1000" {
		t.Fatalf("got %s, %s … %s, want 1:true, 2:true-2 … 1000:true-1000", first[0], first[1], first[999])
	}
	if again := f.load(lines...); !slices.Equal(first, again) {
		t.Error("a reload made other jobs of the same lines")
	}
	if fewer := f.load(lines[:999]...); !slices.Equal(first[:999], fewer) {
		t.Error("without the last line, the others are other jobs")
	}
	if back := f.load(lines...); !slices.Equal(first, back) {
		t.Error("when the last line came back, it was not the job that it had been")
	}
}

func TestMatchOfAYAMLProjectGoesByNameOnly(t *testing.T) {
	t.Parallel()
	jobs := []*Job{
		{ID: ID{Name: "b"}, Settings: &Settings{}, Command: Command{Text: "x"}},
		{ID: ID{Name: "c"}, Settings: &Settings{}, Command: Command{Text: "y"}},
	}
	keys := Match(jobs, []Known{{Key: "1", Name: "a", Command: "x"}, {Key: "2", Name: "c", Command: "x"}})
	if want := []string{"", "2"}; !slices.Equal(keys, want) {
		t.Errorf("got %q, want %q: a job of a belfry.yaml is what it is called", keys, want)
	}
}

func TestMatchNeverLetsNamesCollideAndSettlesAtOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var f fleet
		commands := rapid.SampledFrom([]string{"a", "a 1", "a 2", "x/b", "b", "cd /x && a", "a-2", ""})
		names := rapid.SampledFrom([]string{"", "", "", "a", "a-2", "b", "n"})
		for range rapid.IntRange(1, 5).Draw(t, "edits") {
			used := map[string]bool{}
			var lines []line
			for range rapid.IntRange(0, 8).Draw(t, "lines") {
				l := line{names.Draw(t, "name"), commands.Draw(t, "command")}
				if used[l.name] {
					l.name = ""
				}
				used[l.name] = true
				lines = append(lines, l)
			}
			got := f.load(lines...)
			seenKeys, seenNames := map[string]bool{}, map[string]bool{}
			for i, told := range got {
				key, name, _ := strings.Cut(told, ":")
				if name == "" || seenNames[name] || seenKeys[key] {
					t.Fatalf("%v became %v: a name or key is empty or stands twice", lines, got)
				}
				if lines[i].name != "" && lines[i].name != name {
					t.Fatalf("%v became %v: a given name was not kept", lines, got)
				}
				seenKeys[key], seenNames[name] = true, true
			}
			if again := f.load(lines...); !slices.Equal(again, got) {
				t.Fatalf("%v\nbecame %v\n  then %v, though nothing was edited", lines, got, again)
			}
		}
	})
}

func TestANewLineIsNotPausedBecauseARemovedOneOfItsProgramWas(t *testing.T) {
	t.Parallel()
	line := func(command string) []*Job {
		return []*Job{{Settings: &Settings{Crontab: true}, Command: Command{Text: command}}}
	}
	for _, c := range []struct {
		why     string
		removed bool
		command string
		want    string
	}{
		{"another line, long after", true, "curl b", ""},
		{"the same line is put back", true, "curl a", "1"},
		{"its arguments are edited", false, "curl b", "1"},
	} {
		keys := Match(line(c.command), []Known{{Key: "1", Name: "curl", Command: "curl a", Removed: c.removed, Paused: true}})
		if keys[0] != c.want {
			t.Errorf("%s: it is job %q, want %q", c.why, keys[0], c.want)
		}
	}
}

func TestMatchKeepsEqualCommandsOfDifferentSchedulesApart(t *testing.T) {
	t.Parallel()
	at := func(expr string) *Job {
		return &Job{Settings: &Settings{Crontab: true, Zone: time.UTC}, Command: Command{Text: "sync"}, Schedules: []crontab.Schedule{crontab.MustParseSchedule(expr)}}
	}
	early, late := at("0 1 * * *"), at("0 13 * * *")
	known := []Known{
		{Key: "early", Name: "sync", Command: "sync", Timing: early.Timing()},
		{Key: "late", Name: "sync-2", Command: "sync", Timing: late.Timing()},
	}
	for _, c := range []struct {
		why  string
		jobs []*Job
		want []string
	}{
		{"the lines are swapped", []*Job{late, early}, []string{"late", "early"}},
		{"one schedule is edited: the other keeps its own", []*Job{at("0 13 * * *"), at("0 2 * * *")}, []string{"late", "early"}},
	} {
		if keys := Match(c.jobs, known); !slices.Equal(keys, c.want) {
			t.Errorf("%s: keys %v, want %v", c.why, keys, c.want)
		}
	}
}

func TestMatchGoesByWhatStayedTheSame(t *testing.T) {
	t.Parallel()
	parse := func(text string) []*Job {
		return parseCrontab(t, strings.ReplaceAll(text, "; ", "\n")+"\n")
	}
	for _, c := range []struct {
		why    string
		before string
		after  string
		want   string
	}{
		{
			"all arguments are edited and a line is added above: the schedules are unchanged",
			"0 1 * * * echo one; 5 2 * * * echo two; 10 3 * * * echo three",
			"1 1 1 * * echo new; 0 1 * * * echo -n one; 5 2 * * * echo -n two; 10 3 * * * echo -n three",
			"echo-4 echo echo-2 echo-3",
		},
		{
			"one schedule for all: the words tell",
			"@daily echo one; @daily echo two; @daily echo three",
			"@daily echo new; @daily echo -n three; @daily echo -n one; @daily echo -n two",
			"echo-4 echo-3 echo echo-2",
		},
		{
			"schedules and arguments are edited: the words tell",
			"0 1 * * * echo one; 5 2 * * * echo two",
			"9 9 * * * echo new; 0 7 * * * echo -n two; 5 8 * * * echo -n one",
			"echo-3 echo-2 echo",
		},
		{
			"most words go before some",
			"@daily load a b c; @daily load a x y",
			"@daily load a x z; @daily load a b d",
			"load-2 load",
		},
		{
			"a line is deleted and the others are edited",
			"0 1 * * * echo one; 5 2 * * * echo two; 10 3 * * * echo three",
			"5 2 * * * echo -n two; 10 3 * * * echo -n three",
			"echo-2 echo-3",
		},
		{
			"nothing but the program and the order is left",
			"0 1 * * * load --kr; 0 2 * * * load --us",
			"0 3 * * * load --fr; 0 4 * * * load --de",
			"load load-2",
		},
	} {
		jobs := parse(c.before)
		Match(jobs, nil)
		known := knownOf(jobs)
		jobs = parse(c.after)
		Match(jobs, known)
		var got []string
		for _, j := range jobs {
			got = append(got, j.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q became %q\n got %s\nwant %s", c.why, c.before, c.after, got, c.want)
		}
	}
}

func TestALineThatHasOnlyItsProgramInCommonWithARemovedOneIsNew(t *testing.T) {
	t.Parallel()
	known := knownOf(parseCrontab(t, "0 1 * * * curl -s http://a/old\n"))
	known[0].Name, known[0].Removed = "curl", true
	for _, c := range []struct{ why, line, want string }{
		{"another line", "0 2 * * * curl http://a/new", ""},
		{"a word is the same", "0 2 * * * curl -m 5 http://a/old", "0"},
		{"the schedule is the same", "0 1 * * * curl http://a/new", "0"},
	} {
		if keys := Match(parseCrontab(t, c.line+"\n"), known); keys[0] != c.want {
			t.Errorf("%s: %q is job %q, want %q", c.why, c.line, keys[0], c.want)
		}
	}
}
