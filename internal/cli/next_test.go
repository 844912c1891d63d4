package cli

import (
	"bufio"
	"bytes"
	"io"
	"testing"
)

func TestNextAnswersWhoeverWaitsForTheAnswer(t *testing.T) {
	in, questions := io.Pipe()
	answers, out := io.Pipe()
	n := &nextPrinter{times: times{n: 1, from: "2026-07-09", tz: "UTC"}, asJSON: true, out: bufio.NewWriter(out), zones: map[string]nextZone{}}
	done := make(chan error)
	go func() { done <- n.lines(in) }()
	lines := bufio.NewReader(answers)
	for _, c := range []struct{ question, want string }{
		{"0 1 * * *\n", `{"expr":"0 1 * * *","tz":"UTC","next":["2026-07-09T01:00:00Z"]}`},
		{`{"expr": "@daily", "tz": "Asia/Seoul"}` + "\n", `{"expr":"@daily","tz":"Asia/Seoul","next":["2026-07-10T00:00:00+09:00"]}`},
	} {
		if _, err := io.WriteString(questions, c.question); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); err != nil || got != c.want+"\n" {
			t.Errorf("%s: %v\n got %swant %s", c.question, err, got, c.want)
		}
	}
	if err := questions.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The measure is lines a second: a hundred thousand are wanted.
func BenchmarkNextAnswersLines(b *testing.B) {
	expressions := []string{
		"* * * * *", "*/5 1,2,3 * * *", "0 16 * * *", "0 0 1 1 *", "0 0 29 2 *",
		"15 3 * * 1-5", "0 0 13 * 5", "30 2 * * 0", "0 9-17/2 * * 1-5", "61 * * * *",
	}
	for _, c := range []struct {
		name, before, after string
		n                   int
	}{
		{name: "expressions", n: 1},
		{name: "expressions, 5 times", n: 5},
		{name: "objects", before: `{"expr": "`, after: `", "tz": "Asia/Seoul", "from": "2026-07-09T02:30:00Z", "n": 1}`},
		{name: "objects, 5 times", before: `{"expr": "`, after: `", "tz": "Asia/Seoul"}`, n: 5},
	} {
		b.Run(c.name, func(b *testing.B) {
			var in bytes.Buffer
			const lines = 10000
			for i := range lines {
				in.WriteString(c.before + expressions[i%len(expressions)] + c.after + "\n")
			}
			b.ReportAllocs()
			for b.Loop() {
				n := &nextPrinter{
					times: times{n: c.n, from: "2026-07-09", tz: "America/New_York"}, asJSON: true,
					out: bufio.NewWriter(io.Discard), zones: map[string]nextZone{},
				}
				if err := n.lines(bytes.NewReader(in.Bytes())); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(lines*b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
