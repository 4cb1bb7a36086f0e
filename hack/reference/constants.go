package main

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
)

const module = "sluice.dev/sluice"

// reader type-checks packages of the module as far as their constants need it:
// no function body is looked at, and of other modules only package time counts.
// What cannot be known that way has no value, and is then no part of a page.
type reader struct {
	root   string
	files  *token.FileSet
	read   map[string]*source
	fakes  map[string]*types.Package
	system build.Context
}

// source is one package: its syntax with comments, and its constants.
type source struct {
	path  string // below the module: "internal/record"
	files []*ast.File
	types *types.Package
}

func newReader(root string) *reader {
	r := &reader{root: root, files: token.NewFileSet(), read: map[string]*source{}, fakes: map[string]*types.Package{}, system: build.Default}
	// The same wherever it is generated.
	r.system.GOOS, r.system.GOARCH, r.system.CgoEnabled = "linux", "amd64", false
	return r
}

// load reads a package of the module by its folder.
func (r *reader) load(folder string) (*source, error) {
	return r.check(module+"/"+folder, filepath.Join(r.root, folder))
}

func (r *reader) check(path, dir string) (*source, error) {
	if s, ok := r.read[path]; ok {
		return s, nil
	}
	found, err := r.system.ImportDir(dir, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	s := &source{path: strings.TrimPrefix(path, module+"/")}
	for _, name := range found.GoFiles {
		file, err := parser.ParseFile(r.files, filepath.Join(dir, name), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, file)
	}
	config := types.Config{Importer: r, IgnoreFuncBodies: true, FakeImportC: true, Error: func(error) {}}
	s.types, _ = config.Check(path, r.files, s.files, nil) // errors are of what was not read
	r.read[path] = s
	return s, nil
}

// Import implements types.Importer.
func (r *reader) Import(path string) (*types.Package, error) {
	switch {
	case path == "time":
		s, err := r.check(path, filepath.Join(r.system.GOROOT, "src", path))
		if err != nil {
			return nil, err
		}
		return s.types, nil
	case strings.HasPrefix(path, module+"/"):
		s, err := r.load(strings.TrimPrefix(path, module+"/"))
		if err != nil {
			return nil, err
		}
		return s.types, nil
	}
	if r.fakes[path] == nil {
		r.fakes[path] = types.NewPackage(path, path[strings.LastIndexByte(path, '/')+1:])
		r.fakes[path].MarkComplete()
	}
	return r.fakes[path], nil
}

// named is one constant with what its comment says.
type named struct {
	name    string
	comment string
	group   string // comment of the block that it stands in
	object  *types.Const
}

// constants are the package's constants in the order of files and lines.
func (s *source) constants() []named {
	var list []named
	for _, file := range s.files {
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for _, each := range decl.Specs {
				spec := each.(*ast.ValueSpec)
				comment := words(spec.Doc) // above the line
				if comment == "" {
					comment = words(spec.Comment) // behind it
				}
				group := words(decl.Doc)
				if comment == "" && !decl.Lparen.IsValid() {
					comment, group = group, ""
				}
				for _, id := range spec.Names {
					if object, ok := s.types.Scope().Lookup(id.Name).(*types.Const); ok && object.Val().Kind() != constant.Unknown {
						list = append(list, named{id.Name, comment, group, object})
					}
				}
			}
		}
	}
	return list
}

func words(c *ast.CommentGroup) string {
	if c == nil {
		return ""
	}
	return strings.Join(strings.Fields(c.Text()), " ")
}
