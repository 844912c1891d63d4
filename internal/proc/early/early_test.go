package early

import (
	"reflect"
	"testing"
)

func TestAnOrderIsReadAsItWasSent(t *testing.T) {
	t.Parallel()
	for _, o := range []Order{
		{},
		{UID: 1 << 31, GID: 65534, Groups: []uint32{0, 1 << 20}, Cwd: "/home/밤", CwdElse: "/", Args: []string{"/bin/sh", "-c", ""}, Env: []string{"A=\xff\n", "B="}, PWD: true, Rest: []byte(`{"a":1}`)},
		{Args: []string{"/x"}, Rest: make([]byte, 300<<10)},
	} {
		sent := o.Bytes()
		got := parse(sent[4:])
		if len(got.Rest) == 0 {
			got.Rest = nil
		}
		if int(number(sent)) != len(sent)-4 || !reflect.DeepEqual(*got, o) {
			t.Errorf("sent %+v with %d bytes behind its length %d, read %+v", o, len(sent)-4, number(sent), got)
		}
	}
}
