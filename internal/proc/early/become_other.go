//go:build !linux

package early

// carryOut leaves all to whoever takes over.
func (o *Order) carryOut() {}
