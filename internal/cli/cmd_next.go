package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belfry/crontab"
)

// nextTimes is one answer of next --json.
type nextTimes struct {
	Expr  string      `json:"expr"`
	TZ    string      `json:"tz"`
	Next  []time.Time `json:"next,omitempty"`
	Error string      `json:"error,omitempty"`
}

func (c *command) nextCommand() *cobra.Command {
	var t times
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "next EXPR…",
		Short: "Print the next times of schedules, bare",
		Long: `Print the next times of each schedule, a line each, as RFC 3339 in its time zone.
With --json an object a line: expr, tz and next, or error. "-" reads expressions from
standard input, one a line.`,
		Example: "  belfry next -n 3 --tz Asia/Seoul '0 1 * * *'\n  belfry next --json - < expressions",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			zone, err := t.zone()
			if err != nil {
				return err
			}
			from, err := t.begin(zone)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(c.out)
			print := func(expr string) error {
				s, err := crontab.ParseSchedule(expr)
				switch {
				case asJSON:
					answer := nextTimes{Expr: expr, TZ: zone.String()}
					if err != nil {
						answer.Error = err.Error()
					} else {
						answer.Next = firings(s, from, t.n)
					}
					return json.NewEncoder(out).Encode(answer)
				case err != nil:
					return expressionError(expr, err)
				}
				list := firings(s, from, t.n)
				if len(list) == 0 && t.n > 0 {
					fmt.Fprintf(c.err, "belfry: %s fires at no time\n", expr)
				}
				for _, at := range list {
					fmt.Fprintln(out, at.Format(time.RFC3339))
				}
				return nil
			}
			for _, arg := range args {
				if arg != "-" {
					if err := print(arg); err != nil {
						return flushed(out, err)
					}
					continue
				}
				lines := bufio.NewScanner(c.in)
				for lines.Scan() {
					if strings.TrimSpace(lines.Text()) == "" {
						continue
					}
					if err := print(lines.Text()); err != nil {
						return flushed(out, err)
					}
				}
				if err := lines.Err(); err != nil {
					return flushed(out, fmt.Errorf("read standard input: %w", err))
				}
			}
			return out.Flush()
		},
	}
	t.flags(cmd, 5)
	cmd.Flags().BoolVar(&asJSON, "json", false, "an object a line")
	return cmd
}

// flushed writes what there is before err is told.
func flushed(out *bufio.Writer, err error) error {
	if flushErr := out.Flush(); flushErr != nil {
		return flushErr
	}
	return err
}
