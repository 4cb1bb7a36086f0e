package kubeapi

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const egressPolicies = "/apis/sluice.dev/v1alpha1/namespaces/default/egresspolicies"

// table asks as kubectl does and returns the names and the cells of its answer.
func (s *testServer) table(t testing.TB, path string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", "http://sluice"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func TestTheCellsOfATableAreForPeopleInListsAndInWatches(t *testing.T) {
	s := start(t, "", acceptAll)
	for _, object := range []string{
		`{"apiVersion":"sluice.dev/v1alpha1","kind":"EgressPolicy","metadata":{"name":"books","annotations":{"a":"[1]"}},"spec":{"from":{"labels":{"version":"v2","app":"details"},"serviceAccounts":["books"]},` +
			`"to":{"hosts":["a.example.com","b.example.com","c.example.com","d.example.com"],"ports":[{"port":443,"protocol":"https"},{"port":80,"protocol":"http"}]}}}`,
		`{"apiVersion":"sluice.dev/v1alpha1","kind":"EgressPolicy","metadata":{"name":"net"},"spec":{"to":{"cidrs":["192.0.2.0/24"],"ports":[{"port":5432,"protocol":"tcp"}]}}}`,
	} {
		if code, body := s.do(t, "POST", egressPolicies, "application/json", object); code != http.StatusCreated {
			t.Fatalf("%d %s", code, body)
		}
	}
	const want = "books|a.example.com,b.example.com,c.example.com + 1 more||443/https,80/http|app=details,version=v2|books\n" +
		"net||192.0.2.0/24|5432/tcp||\n"
	list := s.table(t, egressPolicies)
	var listed metav1.Table
	if err := json.NewDecoder(list.Body).Decode(&listed); err != nil {
		t.Fatal(err)
	}
	if got := rowsOf(t, listed.ColumnDefinitions, &listed); got != want {
		t.Errorf("a list says\n%swant\n%s", got, want)
	}
	if len(listed.Rows[0].Object.Raw) == 0 || !strings.Contains(string(listed.Rows[0].Object.Raw), `"a":"[1]"`) {
		t.Errorf("the object beside the cells is %s", listed.Rows[0].Object.Raw)
	}
	// kubectl get -o wide alone shows these.
	var wide []string
	for _, column := range listed.ColumnDefinitions {
		if column.Priority > 0 {
			wide = append(wide, column.Name)
		}
	}
	if got := strings.Join(wide, " "); got != "From Accounts Message" {
		t.Errorf("the columns of -o wide are %s", got)
	}

	watch := s.table(t, egressPolicies+"?watch=1&resourceVersion=0&pretty=true")
	lines, got := bufio.NewReader(watch.Body), ""
	for range 2 {
		line, err := lines.ReadBytes('\n')
		var event struct {
			Type   string
			Object metav1.Table
		}
		if err != nil || json.Unmarshal(line, &event) != nil || event.Type != "ADDED" {
			t.Fatalf("%s: %v", line, err)
		}
		got += rowsOf(t, listed.ColumnDefinitions, &event.Object) // the first event alone says the columns
	}
	if got != want {
		t.Errorf("a watch says\n%swant\n%s", got, want)
	}
	if code, body := s.do(t, "GET", egressPolicies+"/books", "", ""); code != http.StatusOK || !strings.Contains(body, `"hosts":["a.example.com"`) {
		t.Errorf("an object that was asked for as one: %d %s", code, body)
	}
	missing := s.table(t, egressPolicies+"/nothing")
	var status metav1.Status
	if err := json.NewDecoder(missing.Body).Decode(&status); err != nil || missing.StatusCode != http.StatusNotFound || status.Reason != metav1.StatusReasonNotFound {
		t.Errorf("of what is not there: %d %+v %v", missing.StatusCode, status, err)
	}
}

// rowsOf returns the cells of a table that say something of a spec.
func rowsOf(t testing.TB, columns []metav1.TableColumnDefinition, table *metav1.Table) (text string) {
	t.Helper()
	for _, row := range table.Rows {
		var cells []string
		for i, column := range columns {
			switch column.Name {
			case "Name", "Hosts", "CIDRs", "Ports", "From", "Accounts":
				if row.Cells[i] == nil {
					row.Cells[i] = ""
				}
				cells = append(cells, fmt.Sprint(row.Cells[i]))
			}
		}
		text += strings.Join(cells, "|") + "\n"
	}
	return text
}

func TestATableThatArrivesInPiecesIsMadeReadableOnceItIsWhole(t *testing.T) {
	const table = `{"kind":"Table","rows":[{"cells":["a","[\"x\",\"y\"]",12345678901234567,null,"[not json","[{\"a\":1}]","{\"port\":1}"]}]}`
	const want = `{"kind":"Table","rows":[{"cells":["a","x,y",12345678901234567,null,"[not json","{\"a\":1}","port=1"]}]}` + "\n"
	for kind, want := range map[string]string{"application/json": want + want, "application/yaml": table + "\n" + table} {
		answer := httptest.NewRecorder()
		request := httptest.NewRequest("GET", egressPolicies, nil)
		request.Header.Set("Accept", kind+";as=Table")
		readableTables(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Length", fmt.Sprint(2*len(table)+1))
			for _, b := range []byte(table + "\n" + table) { // the last one without an end of its line
				if n, err := w.Write([]byte{b}); n != 1 || err != nil {
					t.Fatal(n, err)
				}
			}
		})).ServeHTTP(answer, request)
		if got := answer.Body.String(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", kind, got, want)
		}
		if length := answer.Header().Get("Content-Length"); (length == "") != (kind == "application/json") {
			t.Errorf("%s has a Content-Length of %q", kind, length)
		}
	}
}
