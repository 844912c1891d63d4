package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"belfry/internal/socket"
)

// Client talks to one daemon. Its methods return *Error for what the daemon
// refused, and other errors when there was no answer.
type Client struct {
	http *http.Client
}

// Unix gives a Client for the daemon that owns the data folder.
func Unix(data string) *Client {
	return New(func(ctx context.Context) (net.Conn, error) { return DialUnix(ctx, data) })
}

// New gives a Client for the daemon that dial reaches.
func New(dial func(ctx context.Context) (net.Conn, error)) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}}
}

// DialUnix connects to the daemon that owns the data folder, however long the
// path of its socket is.
func DialUnix(ctx context.Context, data string) (conn net.Conn, err error) {
	err = socket.In(data, func(short string) error {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, "unix", filepath.Join(short, SocketName))
		return err
	})
	return conn, err
}

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Health asks the daemon how it is.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return call[Health](ctx, c, http.MethodGet, "/health", nil)
}

// JobFilter says what is wanted of the jobs. Its zero value is all.
type JobFilter struct {
	// Short leaves out what a table has no room for: Owner, Drawn, Python, Source,
	// and all of Last but its State and FiresAt.
	Short bool
}

// Jobs lists the jobs.
func (c *Client) Jobs(ctx context.Context, f JobFilter) ([]Job, error) {
	jobs := []Job{}
	err := c.EachJob(ctx, f, func(j Job) error {
		jobs = append(jobs, j)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return jobs, nil
}

// EachJob gives each the jobs as they come.
func (c *Client) EachJob(ctx context.Context, f JobFilter, each func(Job) error) error {
	path := "/jobs"
	if f.Short {
		path += "?short=true"
	}
	return eachOf(ctx, c, path, each)
}

// RunFilter says which runs are wanted. Its zero value is all of them.
type RunFilter struct {
	Job      string
	State    string
	Backfill string
	Limit    int
	Commands bool // with the user and the command of each
}

// Runs lists runs, what was queued last first.
func (c *Client) Runs(ctx context.Context, f RunFilter) ([]Run, error) {
	runs := []Run{}
	err := c.EachRun(ctx, f, func(r Run) error {
		runs = append(runs, r)
		return nil
	})
	return runs, err
}

// EachRun gives each the runs, what was queued last first, as they come: the
// history may be longer than what memory should hold.
func (c *Client) EachRun(ctx context.Context, f RunFilter, each func(Run) error) error {
	query := url.Values{}
	if f.Job != "" {
		query.Set("job", f.Job)
	}
	if f.State != "" {
		query.Set("state", f.State)
	}
	if f.Backfill != "" {
		query.Set("backfill", f.Backfill)
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.Commands {
		query.Set("commands", "true")
	}
	return eachOf(ctx, c, "/runs?"+query.Encode(), each)
}

// eachOf gives each the values of a list as they come.
func eachOf[T any](ctx context.Context, c *Client, path string, each func(T) error) error {
	response, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	decoder := json.NewDecoder(response.Body)
	if _, err := decoder.Token(); err != nil { // the list's beginning
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	for decoder.More() {
		var v T
		if err := decoder.Decode(&v); err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		if err := each(v); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil { // and its end
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// Run gives one run with its attempts. ref is the beginning of its id, JOB for
// the job's newest run, or JOB@TIME.
func (c *Client) Run(ctx context.Context, ref string) (Run, error) {
	return call[Run](ctx, c, http.MethodGet, "/runs/"+url.PathEscape(ref), nil)
}

// Await gives the run as soon as it is no longer as it was seen, or after half
// a minute.
func (c *Client) Await(ctx context.Context, seen Run) (Run, error) {
	query := url.Values{"unless": {Version(seen)}}
	return call[Run](ctx, c, http.MethodGet, "/runs/"+url.PathEscape(seen.ID)+"?"+query.Encode(), nil)
}

// Version is a text that changes with each step of a run's life, and with each
// try to publish.
func Version(r Run) string {
	tries := 0
	for _, n := range r.Notices {
		if n.Kind == "publish" && n.State == "pending" {
			tries += n.Tries
		}
	}
	return fmt.Sprintf("%s/%d/%d/%s", r.State, r.Attempt, tries, r.Reason)
}

// Start asks for a run, and with WithAfter for those that come after it. The
// first is the one that was asked for.
func (c *Client) Start(ctx context.Context, r RunRequest) ([]Run, error) {
	return call[[]Run](ctx, c, http.MethodPost, "/runs", r)
}

// Stop ends a run.
func (c *Client) Stop(ctx context.Context, ref string, r StopRequest) (Run, error) {
	return call[Run](ctx, c, http.MethodPost, "/runs/"+url.PathEscape(ref)+"/stop", r)
}

// Retry has a run that has ended tried once more, or its output published again.
func (c *Client) Retry(ctx context.Context, ref string, r RetryRequest) (Run, error) {
	return call[Run](ctx, c, http.MethodPost, "/runs/"+url.PathEscape(ref)+"/retry", r)
}

// Pause makes a job fire no more, or again from now on.
func (c *Client) Pause(ctx context.Context, r PauseRequest) (Job, error) {
	return call[Job](ctx, c, http.MethodPost, "/jobs/pause", r)
}

// StartBackfill asks for a run of each firing of a range. The answer has the
// runs; without any there is nothing to do.
func (c *Client) StartBackfill(ctx context.Context, r BackfillRequest) (Backfill, error) {
	return call[Backfill](ctx, c, http.MethodPost, "/backfills", r)
}

// AwaitBackfill says how far a backfill has come as soon as that is other than
// it was seen, or after half a minute.
func (c *Client) AwaitBackfill(ctx context.Context, seen Backfill) (Backfill, error) {
	query := url.Values{"unless": {seen.Version()}}
	return call[Backfill](ctx, c, http.MethodGet, "/backfills/"+url.PathEscape(seen.ID)+"?"+query.Encode(), nil)
}

// StopBackfill gives the rest of a backfill up.
func (c *Client) StopBackfill(ctx context.Context, id string, r StopBackfillRequest) (Backfill, error) {
	return call[Backfill](ctx, c, http.MethodPost, "/backfills/"+url.PathEscape(id)+"/stop", r)
}

// Backfill gives how far a backfill has come.
func (c *Client) Backfill(ctx context.Context, id string) (Backfill, error) {
	return call[Backfill](ctx, c, http.MethodGet, "/backfills/"+url.PathEscape(id), nil)
}

// PublishedFilter says which sets are wanted. Its zero value is all that stand at
// a target now.
type PublishedFilter struct {
	Job   string
	Date  string // 2006-01-02
	All   bool   // also those that were replaced
	Limit int    // 0: any number
}

// EachPublished gives each what was published, the newest first, as it comes.
func (c *Client) EachPublished(ctx context.Context, f PublishedFilter, each func(Published) error) error {
	query := url.Values{}
	if f.Job != "" {
		query.Set("job", f.Job)
	}
	if f.Date != "" {
		query.Set("date", f.Date)
	}
	if f.All {
		query.Set("all", "true")
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	return eachOf(ctx, c, "/published?"+query.Encode(), each)
}

// Inspect has a look at what stands at a target, in the environment of its job,
// and tells progress how far that is.
func (c *Client) Inspect(ctx context.Context, r InspectRequest, progress func(Progress)) (Inspection, error) {
	query := url.Values{"run": {r.Run}, "to": {r.To}, "verify": {strconv.FormatBool(r.Verify)}}
	response, err := c.do(ctx, http.MethodGet, "/published/inspect?"+query.Encode(), nil)
	if err != nil {
		return Inspection{}, err
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	for decoder := json.NewDecoder(response.Body); ; {
		var line Inspecting
		if err := decoder.Decode(&line); err != nil {
			return Inspection{}, fmt.Errorf("read the daemon's answer: %w", err)
		}
		switch {
		case line.Error != nil:
			return Inspection{}, line.Error
		case line.Inspection != nil:
			return *line.Inspection, nil
		case line.Progress != nil:
			progress(*line.Progress)
		}
	}
}

// Audit lists what people did, to a job or, with an empty name, at all, the newest
// first; with a limit of 0 all of it.
func (c *Client) Audit(ctx context.Context, job string, limit int) ([]Act, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if job != "" {
		query.Set("job", job)
	}
	return call[[]Act](ctx, c, http.MethodGet, "/audit?"+query.Encode(), nil)
}

// LogRequest says which part of a run's output is wanted.
type LogRequest struct {
	Attempt int       // 0: the newest
	Offset  int64     // where to begin, as Log.Offset gives it
	Since   time.Time // begin with what was printed then; zero: at Offset
	Tail    int       // begin with the last so many lines; 0: at Offset
	Follow  bool      // until the attempt has ended
}

// Log gives the output of an attempt. The caller closes it.
func (c *Client) Log(ctx context.Context, ref string, r LogRequest) (*Log, error) {
	query := url.Values{"parts": {"true"}, "offset": {strconv.FormatInt(r.Offset, 10)}}
	if !r.Since.IsZero() {
		query.Set("since", r.Since.UTC().Format(time.RFC3339Nano))
	}
	if r.Tail > 0 {
		query.Set("tail", strconv.Itoa(r.Tail))
	}
	if r.Attempt > 0 {
		query.Set("attempt", strconv.Itoa(r.Attempt))
	}
	if r.Follow {
		query.Set("follow", "true")
	}
	response, err := c.do(ctx, http.MethodGet, "/runs/"+url.PathEscape(ref)+"/log?"+query.Encode(), nil) //nolint:bodyclose // Log.Close does
	if err != nil {
		return nil, err
	}
	return &Log{body: response.Body, parts: bufio.NewReader(response.Body), offset: r.Offset}, nil
}

// Log is an attempt's output, as it comes. In the place of what was not kept
// stands a line that says so.
//
// With parts=true the daemon sends it in parts: a line with two numbers, the
// offset behind the part and its length, and then the part. The first is empty
// and tells where the output begins. A part that is as long as the way from the
// offset before it is what the job printed; another is the daemon's own line, for
// what was left out. Without, it is sent as it is.
type Log struct {
	body   io.Closer
	parts  *bufio.Reader
	left   int64 // of the part that is being read
	next   int64 // the offset behind it
	line   bool  // the part is the daemon's line
	offset int64
	begun  bool
}

// Read gives the output itself.
func (l *Log) Read(p []byte) (int, error) {
	for l.left == 0 {
		header, err := l.parts.ReadString('\n')
		if err != nil {
			if err == io.EOF && header != "" {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if _, err := fmt.Sscanf(header, "%d %d\n", &l.next, &l.left); err != nil || l.left < 0 {
			return 0, fmt.Errorf("read the daemon's answer: %q does not begin a part of a log", header)
		}
		l.begun, l.line = true, l.next-l.offset != l.left
		if l.left == 0 {
			l.offset = l.next
		}
	}
	n, err := l.parts.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	switch {
	case l.left == 0:
		l.offset = l.next
	case !l.line:
		l.offset += int64(n)
	}
	if err == io.EOF && l.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Offset is where to go on when the output was cut off: behind the last byte of
// the job's that was read.
func (l *Log) Offset() int64 { return l.offset }

// Begun reports whether it is known where the output begins.
func (l *Log) Begun() bool { return l.begun }

// Close ends it.
func (l *Log) Close() error { return l.body.Close() }

// Backup has the account, and what jobs printed, copied into a folder, by
// whoever owns it.
func (c *Client) Backup(ctx context.Context, path string) error {
	_, err := call[BackupRequest](ctx, c, http.MethodPost, "/db/backup", BackupRequest{path})
	return err
}

// Check says what is wrong in the account, a sentence each.
func (c *Client) Check(ctx context.Context) ([]string, error) {
	return call[[]string](ctx, c, http.MethodGet, "/db/check", nil)
}

// Vacuum gives the room that removed runs have left back to the disk.
func (c *Client) Vacuum(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/db/vacuum", nil)
	return err
}

func call[T any](ctx context.Context, c *Client, method, path string, body any) (answer T, err error) {
	response, err := c.do(ctx, method, path, body)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return answer, nil
}

// do gives the response to a request that succeeded, or an error.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("ask the daemon: %w", err)
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://belfry"+Path+path, content)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		var asked *url.Error // whose words are about an address that nobody typed
		if errors.As(err, &asked) {
			err = asked.Err
		}
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	problem := Error{Code: Internal}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&problem); err != nil || problem.Message == "" {
		problem.Message = "the daemon answered " + response.Status
	}
	return nil, &problem
}

// Time is how an optional time stands in the API: in UTC, nil for the zero time.
func Time(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
