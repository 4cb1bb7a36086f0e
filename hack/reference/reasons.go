package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"slices"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/httpproxy"
)

func writeReasons(b *bytes.Buffer, s sources) error {
	b.WriteString(`# Reasons

A denial or a failure has a code. It stands in the header ` + "`x-sluice-reason`" + ` of an answer, in
` + "`sluice flows`, in `sluice why`" + ` and in the words after ` + "`sluice run`" + `. The header ` + "`x-sluice-id`" + ` holds
the id that ` + "`sluice why ID`" + ` opens. What to do about each is said in
[troubleshooting](../guide/troubleshooting.md).
`)
	r := newReader(s.root)
	for _, write := range []func(*bytes.Buffer, *reader) error{denials, dialFailures, exchangeFailures, ownAnswers, helloErrors, sandboxErrors} {
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

// denials are the reasons of the decision.
func denials(b *bytes.Buffer, r *reader) error {
	source, err := r.load("internal/policy")
	if err != nil {
		return err
	}
	alert, err := alerts(r)
	if err != nil {
		return err
	}
	unrecognized, err := unrecognizedNames(r)
	if err != nil {
		return err
	}
	b.WriteString("\n## Denied\n\nPlain HTTP is answered with status 403, TLS with the alert below, any other connection with a\nreset.\n\n")
	var rows [][]string
	for _, c := range ofType(source, "Reason") {
		reason := policy.Reason(constant.StringVal(c.object.Val()))
		sent := "AlertAccessDenied"
		if unrecognized[c.name] {
			sent = "AlertUnrecognizedName"
		}
		rows = append(rows, []string{code(string(reason)), cell(reason.Text()), alert(sent)})
	}
	table(b, []string{"code", "meaning", "TLS alert"}, rows)
	return nil
}

// unrecognizedNames are the reasons that hangUp tells with another alert.
func unrecognizedNames(r *reader) (map[string]bool, error) {
	proxy, err := r.load("internal/proxy")
	if err != nil {
		return nil, err
	}
	f, err := proxy.method("hangUp")
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if clause, ok := n.(*ast.CaseClause); ok {
			for _, e := range clause.List {
				found[last(e)] = true
			}
		}
		return true
	})
	if len(found) == 0 {
		return nil, fmt.Errorf("hangUp tells every reason with one alert: mend the reference")
	}
	return found, nil
}

// dialFailures are the reasons of resolving, connecting and proving.
func dialFailures(b *bytes.Buffer, r *reader) error {
	resolve, err := r.load("internal/proxy/resolve")
	if err != nil {
		return err
	}
	each, rest, err := resolve.statusOf("Status")
	if err != nil {
		return err
	}
	proof, err := r.load("internal/proxy/proof")
	if err != nil {
		return err
	}
	alert, err := alerts(r)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "\n## Not reached\n\nThe destination was allowed and could not be reached. TLS is told by the alert %s, any other\nconnection by a reset.\n\n", alert("AlertInternalError"))
	var rows [][]string
	add := func(c named, status string) {
		about := strings.TrimPrefix(c.comment, c.name+": ")
		if about == "" {
			about = strings.ReplaceAll(constant.StringVal(c.object.Val()), "-", " ")
		}
		rows = append(rows, []string{code(constant.StringVal(c.object.Val())), cell(about), status})
	}
	for _, c := range ofType(resolve, "Reason") {
		status := rest
		if s, ok := each[c.name]; ok {
			status = s
		}
		add(c, strconv.Itoa(status))
	}
	for _, c := range ofType(proof, "Reason") {
		add(c, "502")
	}
	table(b, []string{"code", "meaning", "HTTP status"}, rows)
	return nil
}

// exchangeFailures are those of the HTTP engine.
func exchangeFailures(b *bytes.Buffer, r *reader) error {
	source, err := r.load("internal/proxy/httpproxy")
	if err != nil {
		return err
	}
	b.WriteString("\n## Failures of an HTTP exchange\n\n")
	var rows [][]string
	for _, c := range ofType(source, "Failure") {
		n, _ := constant.Int64Val(c.object.Val())
		if c.name == "None" || c.name == "failures" {
			continue
		}
		f := httpproxy.Failure(n)
		status := strconv.Itoa(f.Status())
		if f.Status() == 499 {
			status = "none: nobody reads it"
		}
		rows = append(rows, []string{code(f.String()), cell(f.Text()), status})
	}
	table(b, []string{"code", "meaning", "HTTP status"}, rows)
	return nil
}

// ownAnswers are what the proxy answers in other places: c.reply(status, code, text).
func ownAnswers(b *bytes.Buffer, r *reader) error {
	source, err := r.load("internal/proxy")
	if err != nil {
		return err
	}
	rows := map[string][]string{}
	for _, file := range source.files {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || last(call.Fun) != "reply" || len(call.Args) != 3 {
				return true
			}
			status, ok := call.Args[0].(*ast.BasicLit)
			reason, isText := call.Args[1].(*ast.BasicLit)
			if !ok || !isText || status.Kind != token.INT {
				return true
			}
			name := text(reason)
			said := strings.TrimRight(strings.ReplaceAll(text(call.Args[2]), "%s", "…"), ": ")
			if old, seen := rows[name]; !seen || len(said) > len(old[1]) {
				rows[name] = []string{code(name), cell(said), status.Value}
			}
			return true
		})
	}
	if len(rows) == 0 {
		return fmt.Errorf("internal/proxy answers nothing by itself: mend the reference")
	}
	b.WriteString("\n## Answers of the mesh\n\n")
	var list [][]string
	for _, row := range rows {
		list = append(list, row)
	}
	slices.SortFunc(list, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	table(b, []string{"code", "meaning", "HTTP status"}, list)
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
