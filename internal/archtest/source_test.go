package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// foreign are packages whose types stay out of exported signatures: generated
// code, drivers, other people's records.
var foreign = []string{
	module + "/internal/",
	"github.com/ethereum/go-ethereum",
	"github.com/waku-org/",
	"github.com/libp2p/go-libp2p-pubsub",
	"google.golang.org/protobuf",
	"github.com/decred/",
	"github.com/jackc/",
	"modernc.org/",
}

// undocumented are methods whose meaning is fixed by the standard library.
var undocumented = []string{"Error", "Unwrap", "Is", "As", "String"}

// source is one Go file of the module, whatever its build tags.
type source struct {
	path string // from the module's root
	file *ast.File
}

func (s source) dir() string     { return filepath.ToSlash(filepath.Dir(s.path)) }
func (s source) isTest() bool    { return strings.HasSuffix(s.path, "_test.go") }
func (s source) generated() bool { return ast.IsGenerated(s.file) }

// public tells whether strangers can import the file's package.
func (s source) public() bool {
	return s.file.Name.Name != "main" && !slices.Contains(strings.Split(s.dir(), "/"), "internal")
}

// sources parses all files below dir that belong to its module.
func sources(t testing.TB, dir string) (all []source) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			_, module := os.Stat(filepath.Join(path, "go.mod"))
			if path != dir && (module == nil || name == "testdata" || name[0] == '.' || name[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		all = append(all, source{path: rel, file: f})
		return err
	})
	require.NoError(t, err)
	return all
}

// uncommented returns the exported names of a package's files that have no
// comment, and the package itself if nothing is said about it.
func uncommented(all []source) (missing []string) {
	packages := make(map[string]bool)
	for _, s := range all {
		if s.isTest() || s.generated() {
			continue
		}
		said := s.file.Doc != nil && strings.TrimSpace(s.file.Doc.Text()) != ""
		packages[s.dir()] = packages[s.dir()] || said
		for _, d := range s.file.Decls {
			for _, name := range bare(d) {
				missing = append(missing, s.path+": "+name)
			}
		}
	}
	for dir, said := range packages {
		if !said {
			missing = append(missing, dir+": package")
		}
	}
	slices.Sort(missing)
	return missing
}

// bare returns the exported names that a declaration makes without a comment.
func bare(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			receiver := receiverName(d.Recv.List[0].Type)
			if !ast.IsExported(receiver) || slices.Contains(undocumented, name) {
				return nil
			}
			name = receiver + "." + name
		}
		if ast.IsExported(d.Name.Name) && d.Doc == nil {
			names = append(names, name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if ast.IsExported(spec.Name.Name) && spec.Doc == nil && (d.Doc == nil || len(d.Specs) > 1) {
					names = append(names, spec.Name.Name)
				}
			case *ast.ValueSpec:
				for _, n := range spec.Names {
					if n.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

func receiverName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiverName(e.X)
	case *ast.IndexExpr:
		return receiverName(e.X)
	case *ast.IndexListExpr:
		return receiverName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// handed are foreign types that applications hand in: a database they have opened.
var handed = map[string]string{"store/postgres": "pgxpool.Pool"}

// leaks returns the foreign types named in exported declarations of public
// packages: in signatures, fields, and the types of variables.
func leaks(all []source, names picture) (found []string) {
	for _, s := range all {
		if s.isTest() || !s.public() {
			continue
		}
		alien := make(map[string]bool) // local names of foreign packages
		for _, i := range s.file.Imports {
			from, _ := strconv.Unquote(i.Path.Value)
			if !slices.ContainsFunc(foreign, func(p string) bool { return strings.HasPrefix(from, p) }) {
				continue
			}
			switch {
			case i.Name != nil:
				alien[i.Name.Name] = true
			case names[from] != nil:
				alien[names[from].Name] = true
			default:
				alien[path.Base(from)] = true
			}
		}
		for _, d := range s.file.Decls {
			for _, e := range exported(d) {
				ast.Inspect(e, func(n ast.Node) bool {
					if sel, ok := n.(*ast.SelectorExpr); ok {
						x, ok := sel.X.(*ast.Ident)
						if ok && alien[x.Name] && handed[path.Dir(s.path)] != x.Name+"."+sel.Sel.Name {
							found = append(found, fmt.Sprintf("%s: %s.%s", s.path, x.Name, sel.Sel.Name))
						}
					}
					return true
				})
			}
		}
	}
	return found
}

// exported returns the parts of a declaration that users of the package see.
func exported(d ast.Decl) (parts []ast.Node) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if ast.IsExported(d.Name.Name) && (d.Recv == nil || ast.IsExported(receiverName(d.Recv.List[0].Type))) {
			parts = append(parts, d.Type)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if ast.IsExported(spec.Name.Name) {
					parts = append(parts, visible(spec.Type)...)
				}
			case *ast.ValueSpec:
				if spec.Type != nil && slices.ContainsFunc(spec.Names, (*ast.Ident).IsExported) {
					parts = append(parts, spec.Type)
				}
			}
		}
	}
	return parts
}

// visible returns a type's parts, of a struct the exported fields alone.
func visible(e ast.Expr) (parts []ast.Node) {
	st, ok := e.(*ast.StructType)
	if !ok {
		return []ast.Node{e}
	}
	for _, f := range st.Fields.List {
		if len(f.Names) == 0 || slices.ContainsFunc(f.Names, (*ast.Ident).IsExported) {
			parts = append(parts, visible(f.Type)...)
		}
	}
	return parts
}

func importsC(s source) bool {
	return slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"C"` })
}

func TestEveryExportedNameHasAComment(t *testing.T) {
	require.Empty(t, uncommented(sources(t, root)))
}

func TestNoForeignTypesInExportedSignatures(t *testing.T) {
	require.Empty(t, leaks(sources(t, root), listed(t)))
}

func TestNoCgo(t *testing.T) {
	all := sources(t, root)
	require.Greater(t, len(all), 50)
	for _, s := range all {
		require.False(t, importsC(s), s.path)
	}
}

// What the checks above must notice.
func TestSourceChecksNoticeBreaches(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("a/a.go", `package a

import (
	geth "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/status-im/shoal/internal/pb"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

type Bare struct{ N int }

// Said is commented.
type Said struct {
	Record *geth.Record
	hidden *geth.Record
}

func Loud(m pb.Metadata) {}

// Quiet is commented.
func Quiet() { _ = pb.Metadata{} }

func (*Said) Method() map[string][]*pb.Metadata { return nil }
func (*Said) String() string                    { return "" }
func (unexported) Fine()                        {}

type unexported struct{}

const (
	One = 1
	Two = 2 // commented
)

// Both are commented.
var Three, Four int

var Five pb.Metadata

// Key is commented.
type Key interface{ Public() *secp256k1.PublicKey }
`)
	write("a/a_test.go", "package a\n\nfunc Helper() {}\n")
	write("a/a.pb.go", "// Code generated by x. DO NOT EDIT.\n\npackage a\n\ntype Gen struct{}\n")
	write("b/b.go", "//go:build never\n\n// Package b is commented.\npackage b\n\nimport \"C\"\n")
	write("internal/c/c.go", "// Package c is commented.\npackage c\n\nimport \"google.golang.org/protobuf/proto\"\n\n// F is commented.\nfunc F(proto.Message) {}\n")
	write("other/go.mod", "module other\n")
	write("other/x.go", "package x\n\nfunc X() {}\n")
	write("testdata/x.go", "package x\n\nfunc X() {}\n")

	all := sources(t, dir)
	require.Equal(t, []string{
		"a/a.go: Bare", "a/a.go: Five", "a/a.go: Loud", "a/a.go: One", "a/a.go: Said.Method", "a: package",
	}, uncommented(all))
	require.Equal(t, []string{
		"a/a.go: geth.Record", "a/a.go: pb.Metadata", "a/a.go: pb.Metadata", "a/a.go: pb.Metadata",
		"a/a.go: secp256k1.PublicKey",
	}, leaks(all, picture{"github.com/decred/dcrd/dcrec/secp256k1/v4": {Name: "secp256k1"}}))
	var c []string
	for _, s := range all {
		if importsC(s) {
			c = append(c, s.path)
		}
	}
	require.Equal(t, []string{"b/b.go"}, c)
}
