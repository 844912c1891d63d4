package cli

import (
	"bytes"
	"errors"
	"testing"
)

func TestAStreamedArrayIsWrittenAsAWholeOne(t *testing.T) {
	t.Parallel()
	type item struct {
		Name string   `json:"name"`
		List []string `json:"list"`
	}
	for _, items := range [][]item{{}, {{"a<b>", nil}}, {{"종", []string{"x", "y"}}, {"", []string{}}}} {
		var whole, streamed bytes.Buffer
		if err := printJSON(&whole, items); err != nil {
			t.Fatal(err)
		}
		err := streamJSON(&streamed, func(each func(item) error) error {
			for _, i := range items {
				if err := each(i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || streamed.String() != whole.String() {
			t.Errorf("%v: %q, %v; want %q", items, &streamed, err, &whole)
		}
	}
	broken := errors.New("cut off")
	if err := streamJSON(&bytes.Buffer{}, func(func(item) error) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("an error of the list gives %v", err)
	}
}
