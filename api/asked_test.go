package api

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
)

// What could not be asked is said without the address of the request, which nobody typed.
func TestAnErrorOfTheWayToTheDaemonNamesNoRequest(t *testing.T) {
	t.Parallel()
	cut := errors.New("the cable is cut")
	client := New(func(context.Context) (net.Conn, error) { return nil, cut })
	defer client.Close()
	if _, err := client.Run(t.Context(), "top-tracks"); !errors.Is(err, cut) || strings.Contains(err.Error(), "http://") {
		t.Errorf("the error is %v", err)
	}
}
