package secrets

import "testing"

func TestVeilStarsWholeValuesAndTheirLines(t *testing.T) {
	t.Parallel()
	hush := Veil([]string{"hunter22", "hunter22-renewed", "short", "", "-----BEGIN\r\nMIIEvQIB\n--\n"})
	if got, want := hush("hunter22-renewed, hunter22, short, MIIEvQIB, --"), "***, ***, short, ***, --"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}
