package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"slices"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/refusal"
)

func writeReasons(b *bytes.Buffer, s sources) error {
	b.WriteString(`# Reasons

A denial or a failure has a code. It stands in the header ` + "`x-sluice-reason`" + ` of an answer, in
` + "`sluice flows`, in `sluice why`" + ` and in the report after ` + "`sluice run`" + `. The header ` + "`x-sluice-id`" + ` holds
the id that ` + "`sluice why ID`" + ` opens. What to do about each is said in
[troubleshooting](../guide/troubleshooting.md).
`)
	r := newReader(s.root)
	for _, write := range []func(*bytes.Buffer, *reader) error{reasons, helloErrors, sandboxErrors} {
		if err := write(b, r); err != nil {
			return err
		}
	}
	return nil
}

// ofType are the constants of a package that have one of its types.
func ofType(s *source, name string) []named {
	return slices.DeleteFunc(s.constants(), func(c named) bool { return !strings.HasSuffix(c.object.Type().String(), "."+name) })
}

// alerts are the names of the alerts, by the names of their constants.
func alerts(r *reader) (func(constant string) string, error) {
	sniff, err := r.load("internal/proxy/sniff")
	if err != nil {
		return nil, err
	}
	numbers := map[string]string{}
	for _, c := range ofType(sniff, "AlertCode") {
		numbers[c.name] = c.object.Val().String()
	}
	return func(constant string) string {
		var name strings.Builder
		for i, letter := range strings.TrimPrefix(constant, "Alert") {
			if i > 0 && letter >= 'A' && letter <= 'Z' {
				name.WriteByte(' ')
			}
			name.WriteString(strings.ToLower(string(letter)))
		}
		return fmt.Sprintf("%s (%s)", name.String(), numbers[constant])
	}, nil
}

// groups are the sections of reasons.
var groups = []struct {
	group      refusal.Group
	title, say string
}{
	{refusal.ByRule, "Denied", "The rules, or the lack of them, forbid it."},
	{refusal.NotReached, "Not reached", "The destination was allowed, and it was not reached or did not answer as it should."},
	{refusal.ByMessage, "Messages that are not taken", "The request itself is refused, whatever the rules say."},
	{refusal.ClientsDoing, "The client's doing", "The client went away: it is answered by nobody."},
}

// reasons are the codes of denials and failures.
func reasons(b *bytes.Buffer, r *reader) error {
	alert, err := alerts(r)
	if err != nil {
		return err
	}
	names := map[uint8]string{
		refusal.AlertAccessDenied: "AlertAccessDenied", refusal.AlertInternalError: "AlertInternalError", refusal.AlertUnrecognizedName: "AlertUnrecognizedName",
	}
	for _, g := range groups {
		fmt.Fprintf(b, "\n## %s\n\n%s\n\n", g.title, g.say)
		var rows [][]string
		for _, reason := range refusal.All() {
			if reason.Group() != g.group {
				continue
			}
			status := strconv.Itoa(reason.Status())
			if reason.Status() == 499 {
				status = "none"
			}
			rows = append(rows, []string{code(string(reason)), cell(reason.Text()), status, alert(names[reason.Alert()])})
		}
		table(b, []string{"code", "meaning", "HTTP status", "TLS alert"}, rows)
	}
	return nil
}

// helloErrors are the reasons for which a ClientHello is refused.
func helloErrors(b *bytes.Buffer, r *reader) error {
	source, err := r.load("internal/proxy/sniff")
	if err != nil {
		return err
	}
	alert, err := alerts(r)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, file := range source.files {
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if ok && last(lit.Type) == "HelloError" && len(lit.Elts) == 2 {
				rows = append(rows, []string{cell(text(lit.Elts[0])), alert(last(lit.Elts[1]))})
			}
			return true
		})
	}
	if len(rows) == 0 {
		return fmt.Errorf("internal/proxy/sniff refuses no ClientHello: mend the reference")
	}
	b.WriteString("\n## A first message of TLS that is refused\n\nThe flow's detail says which.\n\n")
	table(b, []string{"meaning", "TLS alert"}, rows)
	return nil
}

// sandboxErrors are the reasons for which a machine gives no sandbox.
func sandboxErrors(b *bytes.Buffer, r *reader) error {
	source, err := r.load("internal/sandbox")
	if err != nil {
		return err
	}
	value, err := source.variable("remedies")
	if err != nil {
		return err
	}
	var rows [][]string
	for _, e := range value.(*ast.CompositeLit).Elts {
		pair := e.(*ast.KeyValueExpr)
		texts := pair.Value.(*ast.CompositeLit).Elts
		rows = append(rows, []string{cell(text(texts[0])), cell(text(texts[1]))})
	}
	b.WriteString("\n## No sandbox\n\nWhere a machine gives no sandbox, `sluice run` and `sluice demo` end with exit status 125 or 1 and\none of these.\n\n")
	table(b, []string{"why", "what to do"}, rows)
	return nil
}
