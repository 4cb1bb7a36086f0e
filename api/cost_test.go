package api

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A file of at most MaxFileBytes may cost this much to refuse.
const mostBytes = 64 << 20

// full repeats a text as often as a file holds it, between two others.
func full(head, unit, tail string) string {
	return head + strings.Repeat(unit, (MaxFileBytes-len(head)-len(tail))/len(unit)) + tail
}

// numbered is full with a number in each unit.
func numbered(head, unit, tail string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len()+len(unit)+8+len(tail) < MaxFileBytes; i++ {
		fmt.Fprintf(&b, unit, i)
	}
	return b.String() + tail
}

const (
	inStatus = "kind: EgressRule\nmetadata: {name: a}\nstatus: "
	inSpec   = "kind: EgressRule\nmetadata: {name: a}\nspec: "
	wrong    = "\n---\nkind: Nothing\n" // what is at fault stands at the end
	rule     = `---
apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata:
  name: a%d
spec:
  destination:
    service: "*.example.com"
  ports:
  - port: 443
    protocol: https
`
	item = `- apiVersion: config.istio.io/v1alpha2
  kind: EgressRule
  metadata:
    name: a%d
  spec:
    destination:
      service: "*.example.com"
    ports:
    - port: 443
      protocol: https
`
	jsonItem = `{"kind":"EgressRule","metadata":{"name":"a%d"},"spec":{"destination":{"service":"a.com"},"ports":[{"port":443,"protocol":"https"}]}},`
)

// hostile is files that cost far more than they are long, by what they nest.
func hostile() map[string]string {
	files := map[string]string{
		"flow within a list":             full("- ", "[x],", ""),
		"numbered keys":                  numbered("", "%x:\n", ""),
		"numbered anchors":               numbered("", "- &%x\n", ""),
		"numbered tag directives":        numbered("", "%%TAG !%x! a\n", ""),
		"numbered labels":                numbered("kind: EgressRule\nmetadata:\n  name: a\n  labels:\n", "    a%x: a\n", ""),
		"numbered labels in flow":        numbered("kind: EgressRule\nmetadata: {name: a, labels: {", "a%x: a,", "}}"),
		"merge keys":                     full("a: &a {}\n", "<<: *a\n", ""),
		"aliases in flow":                full("[&a x", ",*a", "]"),
		"block scalar":                   full("|\n", " a\n", ""),
		"block scalar of empty lines":    full("|\n", "\n", ""),
		"folded scalar":                  full(">\n", " a\n", ""),
		"a long key":                     full("", "a", ":\n"),
		"a long key of status":           full(inStatus+"{", "a", ": [x, y, z]}"),
		"a long key above a list":        inStatus + "{" + strings.Repeat("a", 500_000) + ": [" + strings.Repeat("x,", 200_000) + "]}",
		"long keys in long keys":         inStatus + "\n" + ladder(60, 500) + strings.Repeat(" ", 61) + "[" + strings.Repeat("x,", 8000) + "]",
		"a long alias":                   inStatus + "{a: &a " + strings.Repeat("1", 500_000) + ", b: [" + strings.Repeat("*a,", 5000) + "]}",
		"a long number for a string":     full("kind: EgressRule\nmetadata: {name: ", "1", "}"),
		"a long number for many strings": "kind: EgressRule\nmetadata: {name: a, labels: &a {" + strings.Repeat("1", 500_000) + ": 1}}\n" + inSpec + "{destination: {service: a}}\n",
		"labels again and again":         "kind: List\napiVersion: v1\nitems:\n- kind: EgressRule\n  metadata: {name: a, labels: &a {" + manyKeys(100, 500) + "}}\n" + strings.Repeat("- {kind: EgressRule, metadata: {name: a, labels: *a}}\n", 4000),
		"a list in status":               full(inStatus+"[", "x,", "]"),
		"a list of numbers in status":    full(inStatus+"[", "1,", "]"),
		"mappings in status":             full(inStatus+"[", "{a: },", "]"),
		"a block list in status":         full(inStatus+"\n", "- a\n", ""),
		"a block list of lists":          full(inStatus+"\n", "- - a\n", ""),
		"ports in flow":                  full(inSpec+"{destination: {service: a}, ports: [", "{},", "]}"),
		"ports in block":                 full(inSpec+"\n  destination: {service: a}\n  ports:\n", "  - {}\n", ""),
		"hosts":                          full("kind: EgressPolicy\napiVersion: sluice.dev/v1alpha1\nmetadata: {name: a}\nspec:\n  egress:\n  - to:\n    - hosts:\n", "      - a\n", ""),
		"a List of scalars":              full("apiVersion: v1\nkind: List\nitems:\n", "- a\n", ""),
		"a List of wrong objects":        full("apiVersion: v1\nkind: List\nitems:\n", "- {kind: X}\n", ""),
		"a List of small objects":        full("apiVersion: v1\nkind: List\nitems:\n", "- {kind: EgressRule}\n", "- a"),
		"small objects, one wrong":       full("", "kind: EgressRule\n---\n", wrong),
		"named objects, one wrong":       numbered("", "kind: EgressRule\nmetadata: {name: a%d}\nspec: {}\n---\n", wrong),
		"rules, one wrong":               numbered("", rule, wrong),
		"a List of rules, one wrong":     numbered("apiVersion: v1\nkind: List\nitems:\n", item, "- kind: Nothing\n"),
		"JSON of rules, one wrong":       numbered(`{"apiVersion":"v1","kind":"List","items":[`, jsonItem, `{"kind":"Nothing"}]}`),
		"JSON list":                      full("[", "1,", "1]"),
		"JSON list of strings":           full("[", `"",`, "1]"),
		"JSON list of lists":             full("[", "[],", "1]"),
		"JSON list of objects":           full("[", "{},", "1]"),
		"JSON nested":                    strings.Repeat("[", MaxFileBytes/2) + strings.Repeat("]", MaxFileBytes/2),
		"JSON pairs":                     numbered("{", `"%x":1,`, `"x":1}`),
		"JSON in lines":                  full("", "{\"a\":[1]}\n---\n", ""),
		"values without a key":           full("[ ]\n", " :\n:\n", ""),
		"closed as never opened":         full("{a: ", "]{", ""),
		"documents that end in a list":   full("a: [[", "...\n", ""),
		"UTF-16":                         "\xff\xfe" + strings.Repeat("[\x00", MaxFileBytes/2-1),
		"UTF-16, big end first":          "\xfe\xff" + strings.Repeat("\x00[", MaxFileBytes/2-1),
		"text after a mark of order":     full("\uFEFF", "a", ""),
		"ever deeper":                    ladder(1400, 0),
		"60 lists deep, one document":    full("[", strings.Repeat("[", 60)+strings.Repeat("]", 60)+",", "]"),
		"60 lists deep, many documents":  full("", strings.Repeat("[", 60)+strings.Repeat("]", 60)+"\n---\n", ""),
	}
	for _, unit := range []string{
		"[", "{", "- ", "-\n", "? ", "?\n", ": ", "a:\n", "\"\": ", "---\n", "---\n-\n", "---\na\n", "--- [\n", "...\n", "kind: a\n---\n",
		"#\n", "- #\n", "#\n- a\n", "a: b #c\n#d\n\n", "#\n\n", " #\n#\n", "a: #\n", "- a #\n", "- &a\n", "&a ", "*a ", "!a ", `"" `, "'' ", "a ", "a\n", "a\n\n",
		"\n", " ", "\t", "\r", "\r\n", "%a\n", "%YAML 1.2\n", "[a,", "{a: [", "- - ", "- a: ", "? a\n: b\n", "? - a\n", "-\u2028", "a:\u0085", "|\n", "- |\n", "- >\n a\n",
		"\xff", "\x01", "\x00", "!!binary a\n", "- !a b\n", "- !<tag:a> b\n", "\"a\n", "'a", "- ''\n", "- \"\\u0061\"\n", "- 1\n", "- ~\n", "a: b\n", "  a: b\n", "- a: b\n", "- {}\n", "- []\n", "- [a]\n", "- {a: b}\n",
	} {
		files[fmt.Sprintf("%q", unit)] = full("", unit, "")
	}
	for _, unit := range []string{"x,", ",", "[],", "{},", "a: b,", "a,", `"":,`, "a:,", "?,", "? ,", "&a x,", "!a x,", "*a,", `"" `, "x\n", "x,\n", "#\n", "x, #\n", "- ", ": ", "::", "a:\n", "'',", "&a ", "!a "} {
		files[fmt.Sprintf("[ and %q", unit)] = full("[", unit, "]")
		files[fmt.Sprintf("{ and %q", unit)] = full("{", unit, "}")
		files[fmt.Sprintf("a: [[ and %q", unit)] = full("a: [[", unit, "]]")
	}
	return files
}

// ladder is mappings within one another, with keys of a length.
func ladder(depth, key int) string {
	var b strings.Builder
	for i := 1; i <= depth; i++ {
		b.WriteString(strings.Repeat(" ", i) + strings.Repeat("a", key+1) + ":\n")
	}
	return b.String()
}

// manyKeys is entries of a mapping in flow style, with keys of a length.
func manyKeys(n, length int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s%d: a,", strings.Repeat("a", length), i)
	}
	return b.String()
}

func TestWhatAFileNestsCostsAtMost64MiB(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates for itself")
	}
	var before, after runtime.MemStats
	for name, text := range hostile() {
		if len(text) > MaxFileBytes {
			t.Fatalf("%s: %d bytes are refused for their number", name, len(text))
		}
		runtime.ReadMemStats(&before)
		start := time.Now()
		objects, err := Decode("f", strings.NewReader(text))
		if err == nil {
			err = ValidateAll(objects)
		}
		took := time.Since(start)
		said := fmt.Sprint(err)
		runtime.ReadMemStats(&after)
		cost := after.TotalAlloc - before.TotalAlloc
		t.Logf("%4d MiB %5d ms  %-34s %d objects, %.120q", cost>>20, took.Milliseconds(), name, len(objects), said)
		if cost > mostBytes {
			t.Errorf("%s: cost %d MiB", name, cost>>20)
		}
	}
}

func TestAFileIsFullOfRulesUpToItsBytesAlone(t *testing.T) {
	for name, text := range map[string]string{
		"documents": numbered("", rule, ""),
		"a List":    numbered("apiVersion: v1\nkind: List\nitems:\n", item, ""),
		"JSON":      strings.TrimSuffix(numbered(`{"apiVersion":"v1","kind":"List","items":[`, jsonItem, ""), ",") + "]}",
	} {
		objects, err := Decode("f", strings.NewReader(text))
		if err != nil || len(text) < MaxFileBytes*99/100 || len(objects) < 4000 {
			t.Errorf("%s: %d objects of %d bytes, %v", name, len(objects), len(text), err)
		}
	}
}

func TestManyMarksAreCountedWhereTheyBelong(t *testing.T) {
	list := "[" + strings.Repeat("x,", 2000) + "x]"
	many := strings.Repeat("- a: "+list+"\n", 100) // far more than maxTokens, in lists of which none is
	if _, err := Decode("f", strings.NewReader("kind: EgressRule\nmetadata: {name: a}\nstatus:\n"+many[:200_000]+"]\n")); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"status:\n- a\n- [" + strings.Repeat("x,\n", maxTokens+3000) + "]\n": "more than 16000 marks and values in one [ ] or { }, or on one line: write them in block style",
		strings.Repeat(`"" `, 2*maxTokens):                                   "f:1: more than 16000 marks and values",
		strings.Repeat("- a: b\n", 100_000):                                  "too many values, documents and comments for one file: split it",
		"[" + strings.Repeat("1,", maxValues+1) + "1]":                       "f:1: more than 240000 values for one file: split it",
		"kind: a\n" + strings.Repeat("k", maxKey+1) + ": 1":                  "f:2: a key of 513 bytes: at most 512 are supported",
		"\xff\xfea\x00": "UTF-16 is not supported: save the file as UTF-8",
	} {
		if _, err := Decode("f", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q...: got %.200v, want %s", text, err, want)
		}
	}
}
