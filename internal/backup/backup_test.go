package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/api"
)

const rules = `
apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {name: googleapis, namespace: default, labels: {team: books}, annotations: {note: "a <b> & \"c\""}}
spec: {destination: {service: "*.googleapis.com"}, ports: [{port: 443, protocol: https}]}
---
apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: books, namespace: default}
spec: {to: {hosts: [www.example.com], ports: [{port: 443, protocol: https}]}}
`

func objects(t testing.TB) []api.Object {
	t.Helper()
	all, err := api.Decode("rules.yaml", strings.NewReader(rules))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func written(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, Head{Taken: time.Unix(1000, 0).UTC(), By: "v1", Revision: "17"}, objects(t)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWhatWasWrittenIsRead(t *testing.T) {
	head, got, err := Read("b", strings.NewReader(written(t)))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Head{1, "sluice-backup", time.Unix(1000, 0).UTC(), "v1", "17"}); head != want {
		t.Errorf("head %+v, want %+v", head, want)
	}
	want := objects(t)
	if len(got) != len(want) {
		t.Fatalf("%d objects, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(Plain(&got[i]), Plain(&want[i])) {
			t.Errorf("got  %+v\nwant %+v", Plain(&got[i]), Plain(&want[i]))
		}
	}
}

// sealed gives lines the last one that they need.
func sealed(lines string, count int) string {
	sum := sha256.Sum256([]byte(lines))
	return lines + fmt.Sprintf("{\"objects\":%d,\"sha256\":%q}\n", count, hex.EncodeToString(sum[:]))
}

func TestAFileThatIsNotAWholeBackupIsRefusedWithTheReason(t *testing.T) {
	whole := written(t)
	lines := strings.SplitAfter(whole, "\n")
	const head = `{"format":1,"kind":"sluice-backup"}` + "\n"
	for name, c := range map[string]struct{ file, want string }{
		"empty":                  {"", "b:1: it is not a backup of Sluice: it is empty"},
		"a file of rules":        {rules, "files of rules are for sluice apply -f"},
		"another JSON":           {"{\"kind\":\"List\"}\n", "b:1: it is not a backup of Sluice"},
		"cut off behind a line":  {lines[0] + lines[1], "b:3: it is not whole: its last line is missing"},
		"cut off within a line":  {whole[:len(whole)-10], "b:4: it is not whole"},
		"one letter changed":     {strings.Replace(whole, "www.example.com", "www.exomple.com", 1), "b:4: it was changed since it was written"},
		"an object left out":     {lines[0] + lines[2] + lines[3], "b:3: it was changed since it was written: 1 objects"},
		"more behind its end":    {whole + "{}\n", "b:5: something follows its last line"},
		"a later format":         {strings.Replace(whole, `"format":1`, `"format":2`, 1), "b:1: the backup has format 2; this Sluice reads format 1: upgrade this Sluice"},
		"a kind that is unknown": {sealed(head+`{"apiVersion":"sluice.dev/v1alpha1","kind":"EgresPolicy","metadata":{"name":"a"}}`+"\n", 1), "EgresPolicy"},
		"a field that is unknown": {sealed(head+`{"apiVersion":"sluice.dev/v1alpha1","kind":"EgressPolicy","metadata":{"name":"a","namespace":"default"},"spec":{"too":[]}}`+"\n", 1),
			"too"},
		"an object that is not valid": {sealed(head+`{"apiVersion":"sluice.dev/v1alpha1","kind":"EgressPolicy","metadata":{"name":"A_","namespace":"default"},"spec":{}}`+"\n", 1), "A_"},
		"an object twice":             {sealed(lines[0]+lines[1]+lines[1], 2), "b:3: egress-rule/default/googleapis is in line 2 too"},
		"a long line":                 {head + strings.Repeat("x", MaxLine) + "\n", "b:2: a line is longer than 2097152 bytes"},
	} {
		_, got, err := Read("b", strings.NewReader(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %d objects and %v, want the error %q", name, len(got), err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	whole := written(f)
	f.Add([]byte(whole))
	f.Add([]byte(whole[:len(whole)/2]))
	f.Add([]byte(`{"format":9,"kind":"sluice-backup"}` + "\n"))
	f.Add([]byte(sealed(`{"format":1,"kind":"sluice-backup"}`+"\n", 0)))
	f.Fuzz(func(t *testing.T, file []byte) {
		head, got, err := Read("b", bytes.NewReader(file))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := Write(&again, head, got); err != nil {
			t.Fatal(err)
		}
		_, reread, err := Read("b", &again)
		if err != nil || len(reread) != len(got) {
			t.Fatalf("what was read and written anew: %d objects, %v; want %d", len(reread), err, len(got))
		}
	})
}
