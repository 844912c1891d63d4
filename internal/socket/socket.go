// Package socket answers: how is a unix socket bound and dialled whose path is
// too long for an address? It uses the standard library only, because api does.
package socket

// addressLength is how long an address may be on the systems that belfry runs
// on, in bytes: Linux has 107, macOS 103.
const addressLength = 103

// nameLength is how long the name of a socket may be within its folder.
const nameLength = 16

// In calls do with a name of dir that leaves room for the name of a socket, of
// at most 16 bytes, in an address. It is good until do returns. The folder must
// be readable.
func In(dir string, do func(short string) error) error {
	if len(dir)+len("/")+nameLength <= addressLength {
		return do(dir)
	}
	return shortened(dir, do)
}
