package publish

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// pending is the content of _pending.json: all that may be at the target while a
// publish to S3 is under way, written before it puts anything. It goes when there
// is nothing left but what the manifest lists. One that is found is of a publish
// that came to no end, or is under way elsewhere: the next one removes what it
// lists, whoever began it, without having to list the bucket.
//
// It is a claim, too: where the service knows If-Match, one publish at a time has
// it. The next one may take it away, and the one before finds out before it does
// more; what it has put by then does no harm, for it puts everything again. What it
// deletes would: that may be what the next one has put since, and with mode append
// nobody has it twice. So while a publish deletes, its claim cannot be taken away,
// for sweepClaim, and it deletes no longer than sweepTime without claiming anew.
type pending struct {
	Job   string   `json:"job"`
	Run   string   `json:"run"`
	Files []string `json:"files"` // its own paths, and those that may have been there before
	// Claim is another one each time, so that no two are equal, nor their ETags.
	Claim    string `json:"claim"`
	Sweeping bool   `json:"sweeping,omitempty"`
}

// sweepTime leaves half of sweepClaim to what is still on its way then. The tests
// have less patience with a publish that they killed.
var sweepClaim, sweepTime = time.Minute, 30 * time.Second

// lookPending reads what an earlier publish left unfinished.
func (b *objects) lookPending(ctx context.Context) error {
	data, there, err := b.read(ctx, pendingName)
	if err != nil {
		return b.explain("s3:GetObject", pendingName, err)
	}
	b.pendingThere = there
	if len(data) == 0 {
		return nil
	}
	var left pending
	err = json.Unmarshal(data, &left)
	for _, path := range left.Files {
		if err == nil {
			err = checkPath(path)
		}
	}
	if err != nil {
		b.warn("%s: the %s there is not one of Belfry's, so what it lists stays: %v", b.to, pendingName, err)
		return nil
	}
	if left.Sweeping && there.age < sweepClaim {
		return fmt.Errorf("publish to %s: run %s is about to complete there, or was cut off just then; it is tried again", b.to, left.Run)
	}
	b.left = union(b.left, left.Files)
	b.cutOff = true
	return nil
}

// note puts what will be put. From here on this publish has the target: one that
// is under way elsewhere finds out before it completes.
func (b *objects) note(ctx context.Context) error { return b.claim(ctx, false) }

// claim puts the note, if what we know of still stands there.
func (b *objects) claim(ctx context.Context, sweeping bool) error {
	paths := make([]string, len(b.files))
	for i, f := range b.files {
		paths[i] = f.path
	}
	data, err := encode(pending{b.order.Job, b.order.Run, union(paths, b.left), rand.Text(), sweeping})
	if err != nil {
		return err
	}
	etag, err := b.replace(ctx, pendingName, data, b.pendingThere)
	b.pendingThere = standing{known: etag != "", etag: etag}
	return err
}

// mine fails when another publish has begun at the target meanwhile.
func (b *objects) mine(ctx context.Context) error {
	if !b.pendingThere.known {
		return nil
	}
	there, err := b.head(ctx, pendingName)
	switch {
	case isDenied(err):
		return nil
	case isAbsent(err), err == nil && there.etag != b.pendingThere.etag:
		return errElsewhere(b.to)
	}
	return b.explain("s3:GetObject", pendingName, err)
}

// nobodys fails when a publish is under way at the target, where ours has removed
// its note.
func (b *objects) nobodys(ctx context.Context) error {
	_, err := b.head(ctx, pendingName)
	switch {
	case err == nil:
		return errElsewhere(b.to)
	case isAbsent(err), isDenied(err):
		return nil
	}
	return b.explain("s3:GetObject", pendingName, err)
}

func errElsewhere(to string) error {
	return fmt.Errorf("publish to %s: somebody else has begun to publish there meanwhile; it is tried again", to)
}

// standing is what is known of an object: its ETag, "" when there is none.
type standing struct {
	known bool
	etag  string
	age   time.Duration // by the service's clock, endless when it does not say; found by read
}

// replace puts a small object if what stood there still does. It returns the new
// ETag.
func (b *objects) replace(ctx context.Context, name string, data []byte, there standing) (string, error) {
	etag, err := b.putSmall(ctx, name, data, there)
	if isStatus(err, http.StatusPreconditionFailed) || isStatus(err, http.StatusConflict) || there.etag != "" && isStatus(err, http.StatusNotFound) {
		// Ours, when the answer to the first sending was lost.
		if now, there, readErr := b.read(ctx, name); readErr == nil && bytes.Equal(now, data) {
			return there.etag, nil
		}
		return "", errElsewhere(b.to)
	}
	return etag, b.explain("s3:PutObject", name, err)
}
