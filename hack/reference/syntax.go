package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"strconv"
)

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
