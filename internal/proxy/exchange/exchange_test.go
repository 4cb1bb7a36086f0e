package exchange

import (
	"fmt"
	"slices"
	"testing"
)

func TestTheViewsOfAMessage(t *testing.T) {
	for _, tc := range []struct {
		message, method, target string
		fields                  []string
		body                    string
	}{
		{"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n", "GET", "/", []string{"host=a.example"}, ""},
		{"POST /a?b=%20c HTTP/1.1\r\nHost:a.example:80 \r\nX-A: \t1: 2\r\nX-A:\r\nContent-Length: 7\r\n\r\na\r\n\r\nbc", "POST", "/a?b=%20c",
			[]string{"Host=a.example:80", "X-A=1: 2", "X-A=", "Content-Length=7"}, "a\r\n\r\nbc"},
		{"OPTIONS * HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "OPTIONS", "*", []string{"host=a", "transfer-encoding=chunked"}, "3\r\nabc\r\n"},
		{"", "", "", nil, ""}, // only to read
	} {
		m := Message(tc.message)
		var fields []string
		for name, value := range m.Fields {
			fields = append(fields, name+"="+value)
		}
		if m.Method() != tc.method || m.Target() != tc.target || !slices.Equal(fields, tc.fields) || string(m.Body()) != tc.body {
			t.Errorf("%q is %q of %q, %q, %q", tc.message, m.Method(), m.Target(), fields, m.Body())
		}
		for name := range m.Fields { // a look-up ends at the first
			if name+"=" != tc.fields[0][:len(name)+1] {
				t.Errorf("the first field is %q", name)
			}
			break
		}
	}
}

// lines are fields in order.
type lines [][2]string

func (l lines) Values(lower string, yield func(string) bool) {
	for _, f := range l {
		if f[0] == lower && !yield(f[1]) {
			return
		}
	}
}

func TestARequestGivesAllValuesOfAFieldInOrder(t *testing.T) {
	x := Request{Fields: lines{{"a", "1"}, {"b", "2"}, {"a", "3"}}}
	var got []string
	x.Values("a", func(value string) bool { got = append(got, value); return true })
	x.Values("b", func(value string) bool { got = append(got, value); return false })
	new(Request).Values("a", func(value string) bool { got = append(got, value); return true }) // has none
	if fmt.Sprint(got) != "[1 3 2]" {
		t.Errorf("got %q", got)
	}
}

func TestVersionsAreWrittenAsInLogs(t *testing.T) {
	if HTTP11.String() != "HTTP/1.1" || HTTP10.String() != "HTTP/1.0" {
		t.Errorf("%v, %v", HTTP11, HTTP10)
	}
}
