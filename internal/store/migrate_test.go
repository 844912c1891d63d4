package store

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"belfry/internal/run"
)

var update = flag.Bool("update", false, "write the dumps of schemas that have none")

// scene has a row for each table of a schema, by the version that made the
// table. What later versions add to a table must have a default.
var scene = map[int64][]string{
	1: {
		`INSERT INTO clock (scope, mark, high, era, boot) VALUES ('', 1783612800000, 1783612800001, 2, 'boot')`,
		`INSERT INTO definition (hash, body) VALUES ('h1', '{"project":"lake","name":"a","owner":"alice","schedules":["0 16 * * *"],"timezone":"UTC","command":{"text":"run a","shell":"/bin/sh"},"catch_up":"latest","overlap":"skip"}')`,
		`INSERT INTO job (id, project, name, owner, definition, source, line, timing, since) VALUES ('J1', 'lake', 'a', 'alice', 'h1', 'belfry.yaml', 3, 't', 1783612800000)`,
		`INSERT INTO job (id, project, name, owner, definition, source, line, timing, since, paused, removed_at) VALUES ('J2', 'lake', 'b', 'alice', 'h1', 'belfry.yaml', 5, 't', 1783612800000, 1, 1783612800005)`,
		`INSERT INTO run (id, job, key, cause, state, definition, fires_at, fires_until, named, attempt, token, node, queued_at, started_at) VALUES
			('R1', 'J1', 't/1', 'schedule', 'publishing', 'h1', 1783612800000, 1783612800000, '2026-07-09T16:00:00', 1, 1, 'node', 1783612800000, 1783612800002)`,
		`INSERT INTO run (id, job, key, cause, state, reason, definition, fires_at, fires_until, named, queued_at) VALUES
			('R2', 'J2', 'a/1', 'after', 'queued', 'dependency', 'h1', 1783612800000, 1783612800000, '2026-07-09T16:00:00', 1783612800000)`,
		`INSERT INTO run_parent (run, parent) VALUES ('R2', 'R1')`,
		`INSERT INTO attempt (run, number, token, node, boot, targets, started_at, ended_at, exit_code, user_cpu) VALUES ('R1', 1, 1, 'node', 'boot', '[{"to":"/lake"}]', 1783612800002, 1783612800003, 0, 7)`,
		`INSERT INTO outbox (id, run, kind, payload, state, created_at, next_at) VALUES ('O1', 'R1', 'publish', '{}', 'sending', 1783612800003, 1783612800003)`,
		`INSERT INTO outbox_target (item, target) VALUES ('O1', '/lake')`,
		`INSERT INTO target (target, item) VALUES ('/lake', 'O1')`,
	},
	4: {`INSERT INTO source (project, stamp, rows) VALUES ('lake', 's', 'r')`},
	5: {`INSERT INTO published (run, number, job, date, at, place, target, files, bytes, manifest) VALUES ('R1', 0, 'J1', '2026-07-09', 1783612800003, '/pond', '/pond/', 2, 7, 'abc')`},
	6: {`INSERT INTO audit (id, at, uid, person, action, job, run) VALUES ('A1', 1783612800003, 1000, 'alice', 'stop', 'J1', 'R1')`},
}

// versions lists those of our migrations.
func versions(t *testing.T) []int64 {
	t.Helper()
	var list []int64
	for _, name := range must(fs.Glob(migrations, "migrations/sqlite/*.sql"))(t) {
		list = append(list, must(goose.NumericComponent(name))(t))
	}
	return list
}

// atVersion makes a database of an earlier schema in dir.
func atVersion(t *testing.T, dir string, version int64) *sql.DB {
	t.Helper()
	path := filepath.Join(dir, FileName)
	check(t, os.WriteFile(path, nil, 0o600))
	db := must(open(path, "rw"))(t)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { check(t, db.Close()) })
	provider := must(goose.NewProvider(goose.DialectSQLite3, db, must(fs.Sub(migrations, "migrations/sqlite"))(t)))(t)
	must(provider.UpTo(t.Context(), version))(t)
	return db
}

// tables lists the tables of a database.
func tables(t *testing.T, db *sql.DB) []string {
	t.Helper()
	return texts(t, db, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid`)
}

func texts(t *testing.T, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	return must(list(context.Background(), newPrepared(db, "test"), value[string], query, args...))(t)
}

// dump gives the SQL that makes a database.
func dump(t *testing.T, db *sql.DB) string {
	t.Helper()
	var b strings.Builder
	for _, statement := range texts(t, db, `SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid`) {
		fmt.Fprintf(&b, "%s;\n", statement)
	}
	for _, table := range tables(t, db) {
		columns := texts(t, db, `SELECT name FROM pragma_table_info($1)`, table)
		for _, row := range texts(t, db, `SELECT quote(`+strings.Join(columns, `) || ', ' || quote(`)+`) FROM `+table) {
			fmt.Fprintf(&b, "INSERT INTO %s (%s) VALUES (%s);\n", table, strings.Join(columns, ", "), row)
		}
	}
	return b.String()
}

func TestTheDumpOfEveryEarlierSchemaIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	all := versions(t)
	for _, version := range all {
		file := filepath.Join("testdata", "schema", fmt.Sprintf("%05d.sql", version))
		text, err := os.ReadFile(file)
		if err != nil && *update { // one that is there is what a release has written: it stays
			db := atVersion(t, t.TempDir(), version)
			for _, v := range all {
				for _, statement := range scene[v] {
					if v <= version {
						must(db.ExecContext(t.Context(), statement))(t)
					}
				}
			}
			text = []byte(dump(t, db))
			check(t, os.MkdirAll(filepath.Dir(file), 0o755))
			err = os.WriteFile(file, text, 0o644)
		}
		if err != nil {
			t.Errorf("%v: go test ./internal/store -run Dump -update writes it", err)
			continue
		}
		dir := t.TempDir()
		path := filepath.Join(dir, FileName)
		check(t, os.WriteFile(path, nil, 0o600))
		db := must(open(path, "rw"))(t)
		must(db.ExecContext(t.Context(), "PRAGMA foreign_keys = 0;"+string(text)))(t)
		rows := map[string][]string{}
		columns := map[string]string{}
		for _, table := range tables(t, db) {
			columns[table] = strings.Join(texts(t, db, `SELECT name FROM pragma_table_info($1)`, table), ") || quote(")
			rows[table] = texts(t, db, `SELECT quote(`+columns[table]+`) FROM `+table)
			if len(rows[table]) == 0 {
				t.Errorf("%s has no row of %s: add one to the scene", file, table)
			}
		}
		check(t, db.Close())

		s := openIn(t, dir)
		for table, want := range rows {
			got := texts(t, s.pool, `SELECT quote(`+columns[table]+`) FROM `+table)
			if table == "goose_db_version" {
				got = got[:len(want)] // those that were applied now stand behind
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s holds\n%v\nwant\n%v", file, table, got, want)
			}
		}
		if found := must(s.Check(t.Context()))(t); len(found) > 0 {
			t.Errorf("%s: %v", file, found)
		}
		if k := must(s.KnownJobs(t.Context(), "lake"))(t); len(k) != 2 || k[0].Command != "run a" || k[0].Removed || !k[1].Removed {
			t.Errorf("%s: known are %+v", file, k)
		}
		item := must(s.PublishOf(t.Context(), "R1"))(t)
		item.State = "sent"
		check(t, move(t.Context(), s, run.Move{Run: "R1", From: run.Publishing, To: run.Succeeded, Token: 1, At: night, Settled: &item}))
		wantState(t, s, "R2", run.Queued, "")
	}
}

func TestMigrationsOnlyAdd(t *testing.T) {
	t.Parallel()
	// defined gives what each table, index … is made by, with single spaces.
	defined := func(db *sql.DB) map[string]string {
		is := map[string]string{}
		for _, pair := range texts(t, db, `SELECT type || ' ' || name || char(0) || COALESCE(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'`) {
			name, text, _ := strings.Cut(pair, "\x00")
			is[name] = strings.Join(strings.Fields(text), " ")
		}
		return is
	}
	all := versions(t)
	for i, version := range all[1:] {
		old, young := defined(atVersion(t, t.TempDir(), all[i])), defined(atVersion(t, t.TempDir(), version))
		for name, was := range old {
			is, there := young[name]
			if is == was || there && strings.HasPrefix(name, "table ") && among(parts(was), parts(is)) {
				continue
			}
			t.Errorf("migration %d takes away or changes %s, which the release before relies on:\nwas %s\nis  %s", version, name, was, is)
		}
		for name, is := range young {
			if table := tableOf(is); strings.HasPrefix(is, "CREATE UNIQUE INDEX") && old["table "+table] != "" && old[name] == "" {
				t.Errorf("migration %d forbids rows that the release before writes: %s", version, is)
			}
		}
		// The release before inserts without the new columns.
		db := atVersion(t, t.TempDir(), version)
		for _, v := range all[:i+1] {
			for _, statement := range scene[v] {
				if _, err := db.ExecContext(t.Context(), statement); err != nil {
					t.Errorf("on schema %d the release before cannot write: %v\n%s", version, err, statement)
				}
			}
		}
	}
}

// parts gives the columns and constraints of a CREATE TABLE.
func parts(create string) []string {
	_, body, _ := strings.Cut(create, "(")
	body = strings.TrimSuffix(strings.TrimSpace(body), ")")
	var list []string
	depth, from := 0, 0
	for i, r := range body {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			list, from = append(list, strings.TrimSpace(body[from:i])), i+1
		}
	}
	return append(list, strings.TrimSpace(body[from:]))
}

// among reports whether all of old stand in young, in their order.
func among(old, young []string) bool {
	for _, part := range young {
		if len(old) > 0 && old[0] == part {
			old = old[1:]
		}
	}
	return len(old) == 0
}

// tableOf gives the table that CREATE … INDEX … ON table (…) is on.
func tableOf(index string) string {
	_, rest, _ := strings.Cut(index, " ON ")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

func TestASchemaThatIsNewerThanOursIsUsedAsFarAsWeKnowIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(t.Context(), dir)
	check(t, err)
	ids := family(t, s, nightly("a"))
	write(t, s, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)`)
	check(t, s.update(t.Context(), "alter", func(tx *tx) error {
		_, err := tx.raw.ExecContext(tx.ctx, `ALTER TABLE run ADD COLUMN mood TEXT NOT NULL DEFAULT 'good'`)
		return err
	}))
	check(t, s.Close())
	s = openIn(t, dir)
	end(t, s, ids["a"], run.Succeeded)
	reader, err := OpenReadOnly(dir)
	check(t, err)
	wantState(t, reader, ids["a"], run.Succeeded, "")
	check(t, reader.Close())
}

func TestAnOlderSchemaIsNotReadButNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	atVersion(t, dir, 1)
	if _, err := OpenReadOnly(dir); err == nil || !strings.Contains(err.Error(), "is of an older belfry") {
		t.Errorf("got %v", err)
	}
}
