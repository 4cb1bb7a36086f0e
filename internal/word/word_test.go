package word

import "testing"

type size uint8

var sizes = List{"", "small", "large"}

func TestEachValueIsReadFromItsOwnWord(t *testing.T) {
	for value := range uint8(3) {
		text, err := sizes.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var got size
		if err := Unmarshal(sizes, "size", text, &got); err != nil || got != size(value) {
			t.Errorf("%q is read as %d, %v", text, got, err)
		}
	}
}

func TestWhatIsNotAWordIsRefusedByName(t *testing.T) {
	got := size(1)
	err := Unmarshal(sizes, "size", []byte("huge"), &got)
	if err == nil || err.Error() != `"huge" is not a valid size (small, large)` || got != 1 {
		t.Errorf("%v, and the value became %d", err, got)
	}
	if _, err := sizes.Marshal(3); err == nil {
		t.Error("a value without a word is written")
	}
	if sizes.Of(3) != "unknown(3)" {
		t.Error(sizes.Of(3))
	}
}
