// Package early answers: how does a process become a job's program before the
// rest of us has begun? Jobs of other users start as this very binary (proc says
// why), and what its packages prepare for a daemon takes longer than all that has
// to be done.
//
// Packages are initialized in the order of their import paths, each as soon as
// those that it imports are: this one imports os and syscall alone, so that next to
// nothing comes before it. Nobody imports it but proc, which takes over where
// something is to be done, or said, that is not here.
package early

import (
	"os"
	"syscall"
)

// Name is what the process is called until it has become the program.
const Name = "belfry-prelude"

// descriptor is where its order comes from.
const descriptor = 3

// Order is what it is told.
type Order struct {
	UID, GID     uint32
	Groups       []uint32
	Cwd, CwdElse string   // the other one where the first cannot be entered; empty: none
	Args         []string // the first is a path; none: it is not done here
	Env          []string
	PWD          bool   // the environment gets PWD too, the folder by its name
	Rest         []byte // for whoever takes over
}

// Taken is the order of this process, once it has one and has not become the
// program. Became says that it is its user already.
var (
	Taken  *Order
	Became bool
)

func init() {
	if len(os.Args) != 1 || os.Args[0] != Name {
		return
	}
	syscall.CloseOnExec(descriptor)
	if Taken = read(); Taken != nil && len(Taken.Args) > 0 {
		Taken.carryOut()
	}
}

// Bytes is the order as it is sent: its length, and then each part with its own.
func (o *Order) Bytes() []byte {
	var b []byte
	number := func(n uint32) { b = append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24)) }
	number(0) // the length, which is not known yet
	text := func(s string) {
		number(uint32(len(s)))
		b = append(b, s...)
	}
	list := func(texts []string) {
		number(uint32(len(texts)))
		for _, s := range texts {
			text(s)
		}
	}
	number(o.UID)
	number(o.GID)
	number(uint32(len(o.Groups)))
	for _, gid := range o.Groups {
		number(gid)
	}
	text(o.Cwd)
	text(o.CwdElse)
	list(o.Args)
	list(o.Env)
	pwd := uint32(0)
	if o.PWD {
		pwd = 1
	}
	number(pwd)
	text(string(o.Rest))
	n := len(b) - 4
	b[0], b[1], b[2], b[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	return b
}

// read waits for an order; nil when it does not come whole.
func read() *Order {
	head := make([]byte, 4)
	if !fill(head) {
		return nil
	}
	b := make([]byte, number(head))
	if !fill(b) {
		return nil
	}
	return parse(b)
}

func fill(b []byte) bool {
	for len(b) > 0 {
		n, err := syscall.Read(descriptor, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

func number(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// parse reads what Bytes gives.
func parse(b []byte) *Order {
	next := func() (n uint32) {
		n, b = number(b), b[4:]
		return n
	}
	text := func() (s string) {
		n := next()
		s, b = string(b[:n]), b[n:]
		return s
	}
	list := func() (texts []string) {
		for range next() {
			texts = append(texts, text())
		}
		return texts
	}
	o := &Order{UID: next(), GID: next()}
	for range next() {
		o.Groups = append(o.Groups, next())
	}
	o.Cwd, o.CwdElse = text(), text()
	o.Args, o.Env = list(), list()
	o.PWD, o.Rest = next() == 1, []byte(text())
	return o
}
