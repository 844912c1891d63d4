package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"belfry/internal/outbox"
	"belfry/internal/run"
)

// publishes takes a run of a job through an attempt that puts a set to each of
// the places.
func publishes(t *testing.T, s *Store, id string, at time.Time, places ...string) {
	t.Helper()
	item := publishing(t, s, id, places...)
	item.State, item.Result = outbox.Sent, []byte(`{}`)
	var sets []run.Published
	for i, place := range places {
		sets = append(sets, run.Published{To: place + "/", Place: place, Files: i + 1, Bytes: 7, Manifest: "abc"})
	}
	check(t, move(t.Context(), s, run.Move{Run: id, From: run.Publishing, To: run.Succeeded, Token: 1, At: at, Settled: &item, Published: sets}))
}

// published lists what a filter finds: the job, the place and, when it was
// replaced, by which.
func published(t *testing.T, s *Store, f PublishedFilter, names map[string]string) string {
	t.Helper()
	var found []string
	check(t, s.EachPublished(t.Context(), f, func(p run.Published) error {
		line := p.Name + p.To
		if p.ReplacedBy != "" {
			line += "<" + names[p.ReplacedBy]
		}
		found = append(found, line)
		return nil
	}))
	return strings.Join(found, " ")
}

func TestWhatStandsWhereIsToldAndWhatStoodThereBefore(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b"), nightly("c"))
	names := map[string]string{}
	for name, id := range ids {
		names[id] = name
	}
	publishes(t, s, ids["a"], night.Add(time.Minute), "/x", "/y")
	publishes(t, s, ids["b"], night.Add(2*time.Minute), "/y")
	publishes(t, s, ids["c"], night.Add(2*time.Minute), "/y", "/z")
	b := read(t, s, ids["b"])
	for _, c := range []struct {
		filter PublishedFilter
		want   string
	}{
		{PublishedFilter{}, "c/y/ c/z/ a/x/"},
		{PublishedFilter{Limit: 2}, "c/y/ c/z/"},
		{PublishedFilter{All: true}, "c/y/ c/z/ b/y/<c a/x/ a/y/<b"},
		{PublishedFilter{Job: b.Job}, ""},
		{PublishedFilter{Job: b.Job, All: true}, "b/y/<c"},
		{PublishedFilter{Job: b.Job, All: true, Date: "2026-07-09"}, "b/y/<c"},
		{PublishedFilter{Run: ids["a"]}, "a/x/"},
		{PublishedFilter{Run: ids["a"], All: true}, "a/x/ a/y/<b"},
		{PublishedFilter{Date: "2026-07-09"}, "c/y/ c/z/ a/x/"},
		{PublishedFilter{Date: "2026-07-10"}, ""},
	} {
		if got := published(t, s, c.filter, names); got != c.want {
			t.Errorf("%+v: %s, want %s", c.filter, got, c.want)
		}
	}
	var first run.Published
	check(t, s.EachPublished(t.Context(), PublishedFilter{Run: ids["a"]}, func(p run.Published) error { first = p; return nil }))
	if want := (run.Published{
		Run: ids["a"], Job: read(t, s, ids["a"]).Job, Project: "lake", Name: "a", Date: "2026-07-09", At: night.Add(time.Minute), To: "/x/", Place: "/x", Files: 1, Bytes: 7, Manifest: "abc",
	}); first != want {
		t.Errorf("it is %+v, want %+v", first, want)
	}
	// What is said of a run goes with it.
	write(t, s, `DELETE FROM run WHERE id = $1`, ids["a"])
	if got := published(t, s, PublishedFilter{All: true}, names); got != "c/y/ c/z/ b/y/<c" {
		t.Errorf("without the first run there is %s", got)
	}
}

func TestALongListOfWhatWasPublishedIsGivenOnce(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	fill(t, s, 3, pageSize) // each publishes to three targets
	seen := map[string]bool{}
	check(t, s.EachPublished(t.Context(), PublishedFilter{All: true}, func(p run.Published) error {
		key := fmt.Sprint(p.Run, p.Number)
		if seen[key] {
			t.Errorf("%s is given twice", key)
		}
		seen[key] = true
		return nil
	}))
	if want := len(must(s.Runs(t.Context(), RunFilter{State: run.Succeeded}))(t)) * 3; len(seen) != want {
		t.Errorf("%d are given, want %d", len(seen), want)
	}
}

func TestWhatAnEarlierBelfryPublishedIsKnown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := atVersion(t, dir, 4)
	for _, v := range versions(t) {
		for _, statement := range scene[v] {
			if v <= 4 {
				must(db.ExecContext(t.Context(), statement))(t)
			}
		}
	}
	for i, at := range []int64{1783612800005, 1783612800009} {
		must(db.ExecContext(t.Context(), `INSERT INTO run (id, job, key, cause, state, definition, fires_at, fires_until, named, queued_at, ended_at, published)
			VALUES ($1, 'J1', $1, 'schedule', 'succeeded', 'h1', $2, $2, '2026-07-09T16:00:00', $2, $2, $3)`, fmt.Sprint("P", i), at,
			`{"targets":[{"to":"/lake/x/","files":2,"bytes":3,"manifest":"m"},{"to":"s3://lake/`+fmt.Sprint(i)+`","files":1,"bytes":1,"manifest":"n"}]}`))(t)
	}
	check(t, db.Close())
	s := openIn(t, dir)
	if got := published(t, s, PublishedFilter{All: true}, map[string]string{"P1": "P1"}); got != "a/lake/x/ as3://lake/1 a/lake/x/<P1 as3://lake/0" {
		t.Errorf("there is %s", got)
	}
}
