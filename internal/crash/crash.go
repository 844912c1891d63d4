// Package crash answers: where may a daemon die between a decision and the
// moment it is announced? Its points are nothing in the binary that people run;
// built with the tag crashpoints, a daemon kills itself at the one that
// BELFRY_CRASH names, and the campaign in crashtest looks at what is left.
package crash

// The points, in the order in which a run passes them.
const (
	Decided   = "decided"   // what is due is known and not written
	Recorded  = "recorded"  // it is written, and nobody is told
	Admitted  = "admitted"  // a run may start and is not claimed
	Claimed   = "claimed"   // it is claimed, and its directory is not made
	Prepared  = "prepared"  // its directory is made, and the keeper knows nothing
	Started   = "started"   // the keeper has taken it
	Ended     = "ended"     // its end was told and is not written
	Settled   = "settled"   // its end is written, and the keeper has not forgotten
	Forgotten = "forgotten" // the keeper has forgotten it
	Replaced  = "replaced"  // why a run is to end is written, and it is not told
	Begun     = "begun"     // what is owed is taken for sending
	Sent      = "sent"      // it is sent, and that is not written
	Told      = "told"      // that is written
)

// Points lists them.
func Points() []string {
	return []string{Decided, Recorded, Admitted, Claimed, Prepared, Started, Ended, Settled, Forgotten, Replaced, Begun, Sent, Told}
}
