package secrets

import "testing"

func TestVeilStarsWholeValues(t *testing.T) {
	t.Parallel()
	hush := Veil([]string{"hunter22", "hunter22-renewed", "short", ""})
	if got, want := hush("hunter22-renewed, hunter22, short"), "***, ***, short"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}
