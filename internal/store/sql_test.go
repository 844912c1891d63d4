package store

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"belfry/internal/run"
)

// statements gives the SQL of the package by the function it stands in.
func statements(t *testing.T) map[string][]string {
	t.Helper()
	columns := map[string]string{"runColumns": runColumns, "runFields": runFields, "attemptColumns": attemptColumns, "itemColumns": itemColumns, "fromLast": fromLast, "removable": removable, "claiming": claiming, "logColumns": logColumns, "chunkColumns": chunkColumns, "publishedColumns": publishedColumns}
	found := map[string][]string{}
	for _, entry := range must(os.ReadDir("."))(t) {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), entry.Name(), nil, 0)
		check(t, err)
		var text func(e ast.Expr) (string, bool)
		text = func(e ast.Expr) (string, bool) {
			switch e := e.(type) {
			case *ast.BasicLit:
				s, err := strconv.Unquote(e.Value)
				return s, e.Kind == token.STRING && err == nil
			case *ast.Ident:
				s, ok := columns[e.Name]
				return s, ok
			case *ast.BinaryExpr:
				left, ok := text(e.X)
				right, ok2 := text(e.Y)
				return left + right, ok && ok2
			}
			return "", false
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				e, ok := n.(ast.Expr)
				if !ok {
					return true
				}
				s, ok := text(e)
				if ok && regexp.MustCompile(`^(SELECT|INSERT INTO|UPDATE|DELETE FROM) `).MatchString(s) {
					found[f.Name.Name] = append(found[f.Name.Name], s)
					return false
				}
				return true
			})
		}
	}
	return found
}

// places counts the parameters of a statement.
func places(query string) []any {
	var n int
	for _, m := range parameter.FindAllStringSubmatch(query, -1) {
		i, _ := strconv.Atoi(m[1])
		n = max(n, i)
	}
	return make([]any, n)
}

// ofLogs matches the statements on the other file.
var ofLogs = regexp.MustCompile(`(FROM|INTO|UPDATE) (log|chunk) `)

func runsQueryOf(t *testing.T, f RunFilter) (string, []any) {
	t.Helper()
	query, args, err := runsQuery(f)
	check(t, err)
	return query, args
}

func plans(t *testing.T, s *Store, query string, args []any) []string {
	t.Helper()
	db := s.read
	if ofLogs.MatchString(query) {
		db = s.logs.read
	}
	return must(list(t.Context(), db, func(scan func(...any) error) (string, error) {
		var id, parent, unused int
		var detail string
		err := scan(&id, &parent, &unused, &detail)
		return detail, err
	}, "EXPLAIN QUERY PLAN "+query, args...))(t)
}

func TestNoStatementReadsTheWholeHistory(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	scan := regexp.MustCompile(`SCAN (run|attempt|outbox|run_parent|outbox_target|other|log|chunk|published|audit)\b`)
	all, count := statements(t), 0
	for name, queries := range all {
		for _, query := range queries {
			if name == "runsQuery" || name == "publishedQuery" || name == "actsQuery" {
				continue // built, see below
			}
			count++
			for _, step := range plans(t, s, query, places(query)) {
				if scan.MatchString(step) && !strings.HasSuffix(step, "INDEX outbox_open") && !strings.HasSuffix(step, "INDEX log_open") { // holds open items only
					t.Errorf("%s: %s\n%s", name, step, query)
				}
				if strings.HasSuffix(step, "(job=?)") && !strings.Contains(query, "LIMIT") {
					t.Errorf("%s reads all runs of a job: %s\n%s", name, step, query)
				}
			}
		}
	}
	for _, name := range []string{"waiting", "Running", "FailedBefore", "Unfinished", "QueuedFirings", "Untried", "Pending", "ItemsOf", "settleChildren", "claimRun", "Begin", "LastRuns", "LastStates", "candidates", "remove", "dropDefinition", "OpenLogs", "ChunkBehind", "DropLogs", "LogsWithoutRun"} {
		if len(all[name]) == 0 {
			t.Errorf("no statement was found in %s: this test is blind", name)
		}
	}
	if count < 30 {
		t.Errorf("only %d statements were found: this test is blind", count)
	}
}

func TestRunsOfAJobAreReadInOrderFromAnIndex(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for _, c := range []struct {
		filter RunFilter
		index  string
	}{
		{RunFilter{}, "run_by_time"},
		{RunFilter{Limit: 50}, "run_by_time"},
		{RunFilter{Job: "x"}, "run_by_job"},
		{RunFilter{Job: "x", State: "failed", Limit: 1}, "run_trouble_by_job"},
		{RunFilter{Job: "x", State: "succeeded", Limit: 1}, "run_by_job"},
		{RunFilter{State: "failed", Limit: 50}, "run_trouble "},
		{RunFilter{State: "missed"}, "run_trouble "},
		{RunFilter{State: "succeeded", Limit: 50}, "run_by_time"},
		{RunFilter{After: &run.Run{}, Limit: 50}, "run_by_time"},
		{RunFilter{Job: "x", After: &run.Run{}, Limit: 50}, "run_by_job"},
		{RunFilter{State: "failed", After: &run.Run{}, Limit: 50}, "run_trouble "},
	} {
		query, args := runsQueryOf(t, c.filter)
		steps := strings.Join(plans(t, s, query, args), "; ")
		if !strings.Contains(steps, c.index) || strings.Contains(steps, "ORDER BY") {
			t.Errorf("%+v is read by %s, want %s and no sorting", c.filter, steps, c.index)
		}
	}
}

func TestWhatWasPublishedIsReadInOrderFromAnIndex(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for _, c := range []struct {
		filter PublishedFilter
		index  string
	}{
		{PublishedFilter{}, "published_now"},
		{PublishedFilter{Job: "x"}, "published_now_by_job"},
		{PublishedFilter{Date: "2026-07-09"}, "published_by_date"},
		{PublishedFilter{Job: "x", Date: "2026-07-09"}, "published_by_date"},
		{PublishedFilter{All: true}, "published_by_time"},
		{PublishedFilter{All: true, Job: "x"}, "published_by_job"},
		{PublishedFilter{All: true, Job: "x", Date: "2026-07-09"}, "published_by_date"},
		{PublishedFilter{Run: "x"}, "sqlite_autoindex_published_1"},
		{PublishedFilter{after: &run.Published{}}, "published_now"},
		{PublishedFilter{All: true, after: &run.Published{}}, "published_by_time"},
	} {
		query, args := publishedQuery(c.filter)
		steps := strings.Join(plans(t, s, query, args), "; ")
		if !regexp.MustCompile(`\b`+c.index+`\b`).MatchString(steps) || strings.Contains(steps, "ORDER BY") && c.filter.Run == "" {
			t.Errorf("%+v is read by %s, want %s and no sorting", c.filter, steps, c.index)
		}
	}
}

func TestWhatPeopleDidIsReadInOrderFromAnIndex(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for _, c := range []struct {
		filter ActFilter
		index  string
	}{
		{ActFilter{Limit: 50}, "sqlite_autoindex_audit_1"},
		{ActFilter{Run: "x"}, "audit_run"},
		{ActFilter{Backfill: "x"}, "audit_backfill"},
		{ActFilter{Job: "x", Action: run.ActPause, Limit: 1}, "audit_job"},
	} {
		query, args := actsQuery(c.filter)
		steps := strings.Join(plans(t, s, query, args), "; ")
		if !strings.Contains(steps, c.index) || strings.Contains(steps, "ORDER BY") {
			t.Errorf("%+v is read by %s, want %s and no sorting", c.filter, steps, c.index)
		}
	}
}

func TestSQLIsWrittenForBothDatabases(t *testing.T) {
	t.Parallel()
	query, _ := runsQueryOf(t, RunFilter{Job: "j", State: "failed", Covering: time.Unix(1, 0), Limit: 3})
	all := statements(t)
	all["runsQuery"] = []string{query}
	query, _ = publishedQuery(PublishedFilter{Run: "r", Job: "j", Date: "d", after: &run.Published{}})
	all["publishedQuery"] = []string{query}
	query, _ = actsQuery(ActFilter{Run: "r", Backfill: "b", Job: "j", Action: run.ActPause, Limit: 3})
	all["actsQuery"] = []string{query}
	for name, queries := range all {
		for _, query := range queries {
			for _, c := range []struct{ pattern, why string }{
				{`\?`, "a parameter is $N"},
				{`(?i)\b(INSERT OR|REPLACE INTO|IFNULL|rowid|strftime|datetime\(|GLOB|AUTOINCREMENT|json_)`, "only SQLite knows it"},
				{`"`, "text stands in single quotes"},
				{`== `, "equality is ="},
			} {
				if regexp.MustCompile(c.pattern).MatchString(query) {
					t.Errorf("%s: %s: %s", name, c.why, query)
				}
			}
			used := map[string]bool{}
			for _, m := range parameter.FindAllStringSubmatch(query, -1) {
				used[m[1]] = true
			}
			for i := range places(query) {
				if !used[fmt.Sprint(i+1)] {
					t.Errorf("%s: $%d is left out, whose type PostgreSQL could not tell: %s", name, i+1, query)
				}
			}
		}
	}
}

func TestTheRunOfAFiringIsFoundWithoutReadingItsJobsHistory(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	query, args := runsQueryOf(t, RunFilter{Job: "x", Covering: night, Limit: 1})
	steps := strings.Join(plans(t, s, query, args), "; ")
	for _, want := range []string{"run_firing (job=? AND fires_at=?)", "run_many (job=? AND fires_until>?)", "SEARCH run USING INDEX sqlite_autoindex_run_1 (id=?)"} {
		if !strings.Contains(steps, want) {
			t.Errorf("it is read by %s; want %s", steps, want)
		}
	}
}
