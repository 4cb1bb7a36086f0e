package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"net/http"
	"strconv"
)

// method finds a function or method by its name.
func (s *source) method(name string) (*ast.FuncDecl, error) {
	for _, file := range s.files {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == name {
				return f, nil
			}
		}
	}
	return nil, fmt.Errorf("%s has no function %s", s.path, name)
}

// variable finds the value that a package-level variable begins with.
func (s *source) variable(name string) (ast.Expr, error) {
	for _, file := range s.files {
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.VAR {
				continue
			}
			for _, each := range decl.Specs {
				spec := each.(*ast.ValueSpec)
				for i, id := range spec.Names {
					if id.Name == name && i < len(spec.Values) {
						return spec.Values[i], nil
					}
				}
			}
		}
	}
	return nil, fmt.Errorf("%s has no variable %s", s.path, name)
}

// last is the name behind the dot, or the name alone.
func last(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// text is the first string within an expression.
func text(e ast.Expr) string {
	found := ""
	ast.Inspect(e, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && found == "" {
			found, _ = strconv.Unquote(lit.Value)
		}
		return found == ""
	})
	return found
}

// statuses are the constants of net/http that the proxy answers with.
var statuses = map[string]int{
	"StatusForbidden": http.StatusForbidden, "StatusBadGateway": http.StatusBadGateway,
	"StatusServiceUnavailable": http.StatusServiceUnavailable, "StatusGatewayTimeout": http.StatusGatewayTimeout,
}

// statusOf reads a function `Status() int` that is a switch over constants and a
// return behind it: the status of each constant, and that of the rest.
func (s *source) statusOf(function string) (map[string]int, int, error) {
	f, err := s.method(function)
	if err != nil {
		return nil, 0, err
	}
	each, rest := map[string]int{}, 0
	returned := func(list []ast.Stmt) int {
		if len(list) == 1 {
			if r, ok := list[0].(*ast.ReturnStmt); ok && len(r.Results) == 1 {
				return statuses[last(r.Results[0])]
			}
		}
		return 0
	}
	for _, statement := range f.Body.List {
		choice, ok := statement.(*ast.SwitchStmt)
		if !ok {
			rest = returned([]ast.Stmt{statement})
			continue
		}
		for _, c := range choice.Body.List {
			clause := c.(*ast.CaseClause)
			for _, e := range clause.List {
				each[last(e)] = returned(clause.Body)
			}
		}
	}
	for name, status := range each {
		if status == 0 {
			return nil, 0, fmt.Errorf("%s: the status of %s is not read: extend the list of statuses", s.path, name)
		}
	}
	if rest == 0 {
		return nil, 0, fmt.Errorf("%s: %s returns no status at its end", s.path, function)
	}
	return each, rest, nil
}
