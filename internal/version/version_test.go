package version

import "testing"

func TestABuildAlwaysSaysWhichItIs(t *testing.T) {
	if String() == "" {
		t.Error("no version at all")
	}
	version = "v9.9.9"
	defer func() { version = "" }()
	if got := String(); got != "v9.9.9" {
		t.Errorf("the linker said v9.9.9, and the version is %s", got)
	}
}
