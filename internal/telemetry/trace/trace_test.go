package trace

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
)

type fields map[string][]string

func (f fields) Values(lower string, yield func(string) bool) {
	for _, value := range f[lower] {
		if !yield(value) {
			return
		}
	}
}

const (
	id     = "4bf92f3577b34da6a3ce929d0e0e4736"
	span   = "00f067aa0ba902b7"
	other  = "11111111111111112222222222222222"
	parent = "00-" + id + "-" + span + "-01"
)

func one(pairs ...string) fields {
	f := fields{}
	for i := 0; i < len(pairs); i += 2 {
		f[pairs[i]] = append(f[pairs[i]], pairs[i+1])
	}
	return f
}

func TestARequestGoesOnWithTheTraceThatItNames(t *testing.T) {
	for name, x := range map[string]struct {
		fields        fields
		share         Share
		trace, parent string // "": a trace begins
		sampled       bool
	}{
		"W3C":                     {one(Parent, parent), 0, id, span, true},
		"W3C not sampled":         {one(Parent, "00-"+id+"-"+span+"-00"), All, id, span, false},
		"W3C of a later version":  {one(Parent, "cc-"+id+"-"+span+"-01-more"), 0, id, span, true},
		"W3C before B3":           {one(Parent, parent, "b3", other+"-"+span+"-0", "x-b3-traceid", other, "x-b3-spanid", span), 0, id, span, true},
		"W3C twice, so B3":        {one(Parent, parent, Parent, parent, "b3", other+"-"+span+"-1"), 0, other, span, true},
		"b3":                      {one("b3", id+"-"+span+"-1"), 0, id, span, true},
		"b3 with a parent":        {one("b3", id+"-"+span+"-d-"+span), 0, id, span, true},
		"b3 that leaves it open":  {one("b3", id+"-"+span), All, id, span, true},
		"b3 that says no":         {one("b3", "0"), All, "", "", false},
		"b3 of 64 bits":           {one("b3", id[16:]+"-"+span+"-1"), 0, strings.Repeat("0", 16) + id[16:], span, true},
		"B3":                      {one("x-b3-traceid", id, "x-b3-spanid", span, "x-b3-sampled", "1"), 0, id, span, true},
		"B3 not sampled":          {one("x-b3-traceid", id, "x-b3-spanid", span, "x-b3-sampled", "0"), All, id, span, false},
		"B3 for debugging":        {one("x-b3-traceid", id, "x-b3-spanid", span, "x-b3-flags", "1"), 0, id, span, true},
		"B3 that leaves it open":  {one("x-b3-traceid", id, "x-b3-spanid", span), 0, id, span, false},
		"B3 that says no":         {one("x-b3-sampled", "0"), All, "", "", false},
		"B3 that says yes":        {one("x-b3-sampled", "1"), 0, "", "", true},
		"B3 that says debugging":  {one("x-b3-flags", "1", "x-b3-sampled", "0"), 0, "", "", true},
		"nothing":                 {one(), All, "", "", true},
		"nothing, and no sample":  {one(), 0, "", "", false},
		"W3C of version ff":       {one(Parent, "ff-"+id+"-"+span+"-01"), 0, "", "", false},
		"W3C with more":           {one(Parent, parent+"-more"), 0, "", "", false},
		"W3C in capitals":         {one(Parent, strings.ToUpper(parent)), 0, "", "", false},
		"W3C of no trace":         {one(Parent, "00-"+strings.Repeat("0", 32)+"-"+span+"-01"), 0, "", "", false},
		"W3C of no span":          {one(Parent, "00-"+id+"-"+strings.Repeat("0", 16)+"-01"), 0, "", "", false},
		"b3 with too many parts":  {one("b3", id+"-"+span+"-1-"+span+"-1"), 0, "", "", false},
		"B3 without a span":       {one("x-b3-traceid", id), 0, "", "", false},
		"B3 with half an id":      {one("x-b3-traceid", id[:30], "x-b3-spanid", span), 0, "", "", false},
		"B3 with another's bytes": {one("x-b3-traceid", id[:31]+"\n", "x-b3-spanid", span), 0, "", "", false},
	} {
		var r Reader
		c, had := r.Read(x.fields, x.share)
		if x.trace == "" {
			if c.Trace.String() == id || c.Trace.String() == other || c.Parent != (SpanID{}) {
				t.Errorf("%s: it goes on with %v of %v", name, c.Trace, c.Parent)
			}
		} else if c.Trace.String() != x.trace || c.Parent.String() != x.parent {
			t.Errorf("%s: %v of %v", name, c.Trace, c.Parent)
		}
		if c.Sampled != x.sampled || c.Span == (SpanID{}) || c.Span == c.Parent || c.Trace == (ID{}) || had.B3 != (len(x.fields["b3"]) == 1) || had.W3C != (strings.HasPrefix(name, "W3C") && c.Trace.String() == id) {
			t.Errorf("%s: %+v, %+v", name, c, had)
		}
	}
}

// What is written is read as a child of what wrote it, by W3C and by each way of B3.
func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	for _, c := range []Context{Begin(All), Begin(0), {Trace: ID{1}, Span: SpanID{2}, Parent: SpanID{3}, Sampled: true}} {
		var w Writer
		written := fields{}
		w.Write(&c, true, func(name, value string) { written[name] = append(written[name], strings.Clone(value)) })
		for _, without := range [][]string{{}, {Parent}, {Parent, "b3"}} {
			f := maps.Clone(written)
			for _, name := range without {
				delete(f, name)
			}
			var r Reader
			got, _ := r.Read(f, 0)
			if got.Trace != c.Trace || got.Parent != c.Span || got.Sampled != c.Sampled {
				t.Errorf("without %v: %+v becomes %+v", without, c, got)
			}
		}
	}
}

func TestTheShareOfTracesIsSampled(t *testing.T) {
	for share, within := range map[Share][2]int{0: {0, 0}, All / 100: {50, 150}, All: {10_000, 10_000}} {
		n := 0
		for range 10_000 {
			if c := Begin(share); c.Sampled {
				n++
			}
		}
		if n < within[0] || n > within[1] {
			t.Errorf("a share of %d samples %d of 10,000", share, n)
		}
	}
}

func TestIDsAreHexInJSON(t *testing.T) {
	c := Begin(All)
	data, err := json.Marshal(&c)
	var back Context
	if err == nil {
		err = json.Unmarshal(data, &back)
	}
	if err != nil || back != c {
		t.Errorf("%s becomes %+v: %v", data, back, err)
	}
	for _, bad := range []string{"", id[1:], strings.Repeat("0", 32), strings.ToUpper(id), id + "0"} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestARequestOfATraceAllocatesNothing(t *testing.T) {
	var r Reader
	var w Writer
	var f Fields = one(Parent, parent)
	n := 0
	set := func(string, string) { n++ }
	if got := testing.AllocsPerRun(1000, func() {
		c, had := r.Read(f, All)
		w.Write(&c, had.B3, set)
	}); got != 0 || n == 0 {
		t.Errorf("%v allocations", got)
	}
}

func FuzzWhateverIsReadIsATraceThatCanBeWritten(f *testing.F) {
	f.Add(parent, "", "", "", "")
	f.Add("", id+"-"+span+"-1-"+span, "", "", "")
	f.Add("", "", id, span, "1")
	f.Add("cc-"+id+"-"+span+"-01-", "0", id[16:], span, "true")
	f.Fuzz(func(t *testing.T, w3c, b3, traceID, spanID, said string) {
		var r Reader
		c, had := r.Read(one(Parent, w3c, "b3", b3, "x-b3-traceid", traceID, "x-b3-spanid", spanID, "x-b3-sampled", said), All/2)
		if c.Trace == (ID{}) || c.Span == (SpanID{}) {
			t.Fatalf("%+v", c)
		}
		var w Writer
		w.Write(&c, had.B3, func(name, value string) {
			if strings.Trim(value, "0123456789abcdef-") != "" || len(value) > 68 {
				t.Errorf("%s: %q", name, value)
			}
		})
	})
}

func BenchmarkATrace(b *testing.B) {
	var r Reader
	var w Writer
	var f Fields = one(Parent, parent)
	set := func(string, string) {}
	b.ReportAllocs()
	for b.Loop() {
		c, had := r.Read(f, All/100)
		w.Write(&c, had.B3, set)
	}
}
