package archtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// exchange is what a request and response protocol is made of.
var exchange = []string{"message", "sharding", "internal/reqresp", "internal/wire", "internal/pb"}

// house says which of our packages each of them may import. Arrows point down
// only. A last element of * stands for any package below.
var house = map[string][]string{
	"message":  nil,
	"sharding": nil,

	"message/segment": nil,

	"internal/pb":       nil,
	"internal/wire":     {"internal/pb"},
	"internal/reqresp":  {"internal/wire"},
	"internal/metadata": {"internal/reqresp", "internal/wire", "internal/pb"},
	"internal/enr":      {"sharding"},
	"internal/discv5":   {"sharding", "internal/enr"},
	"internal/dnsdisc":  {"sharding", "internal/enr"},
	"internal/peers":    {"sharding", "internal/enr"},

	"relay":          {"message", "sharding"},
	"rln-free-dos":   {"message", "sharding"},
	"filter":         exchange,
	"lightpush":      exchange,
	"store":          exchange,
	"store/sqlite":   {"message", "sharding", "store"},
	"store/postgres": {"message", "sharding", "store", "internal/spool"},
	"internal/spool": nil,
	"peerexchange":   append([]string{"internal/enr"}, exchange...),
	"rendezvous":     append([]string{"internal/enr"}, exchange...),

	"waku": {
		"message", "message/segment", "sharding", "relay", "rln-free-dos", "filter", "lightpush", "store", "peerexchange", "rendezvous",
		"internal/metadata", "internal/reqresp", "internal/wire", "internal/enr",
		"internal/discv5", "internal/dnsdisc", "internal/peers",
	},
	"examples/*": {
		"waku", "message", "message/segment", "sharding", "relay", "rln-free-dos",
		"filter", "lightpush", "store", "store/sqlite", "store/postgres", "peerexchange", "rendezvous",
	},

	"internal/simnet": nil,
	"internal/model":  nil,
	"internal/scale":  {"message", "sharding", "relay", "rln-free-dos", "internal/simnet"},
	"examples/scale":  {"relay", "internal/scale", "internal/simnet", "internal/model"},

	"store/storetest":      {"message", "sharding", "store"},
	"internal/pgtest":      nil,
	"internal/p2ptest":     nil,
	"internal/archtest":    nil,
	"internal/scorecard":   nil,
	"internal/natlab":      nil,
	"internal/netspace":    nil,
	"internal/exampletest": nil,

	"internal/dnsdisc/dnstest": {"internal/enr"},

	"internal/storebench": {
		"message", "sharding", "store", "store/sqlite", "store/postgres", "internal/pgtest",
	},
}

// aids are packages that only tests and benchmarks import, whoever's tests.
var aids = []string{"internal/p2ptest", "internal/exampletest", "internal/netspace", "internal/pgtest", "internal/dnsdisc/dnstest", "store/storetest"}

// joiners are packages whose tests may import anything: they are there to join
// what is apart.
var joiners = []string{"internal/scorecard", "internal/natlab", "waku", "examples/*"}

// outside limits what packages may import from elsewhere, beside the standard
// library.
var outside = map[string][]string{
	"message":  {"google.golang.org/protobuf/encoding/protowire"},
	"sharding": {"golang.org/x/crypto/sha3"},

	"message/segment": {
		"google.golang.org/protobuf/encoding/protowire", "golang.org/x/crypto/sha3", "github.com/klauspost/reedsolomon",
	},
}

// owned names foreign code that only some packages may import: a path or a
// module, and who.
var owned = []struct {
	prefix string
	by     map[string][]string // package: which paths below prefix
}{
	{"github.com/ethereum/go-ethereum", map[string][]string{
		"internal/enr":     {"/p2p/enr", "/rlp"},
		"internal/discv5":  {""},
		"internal/dnsdisc": {"/p2p/dnsdisc", "/p2p/enode", "/crypto"}, // its tests; findC sees to that
	}},
	{"github.com/waku-org/go-discover", map[string][]string{"internal/discv5": {""}}},
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}

// room returns the table's row for one of our packages.
func room(name string) (allowed []string, ok bool) {
	if allowed, ok = house[name]; ok {
		return allowed, true
	}
	for pattern, allowed := range house {
		if matches([]string{pattern}, name) {
			return allowed, true
		}
	}
	return nil, false
}

// ours returns a package's name within the module.
func ours(importPath string) (name string, ok bool) {
	return strings.CutPrefix(importPath, module+"/")
}

// check returns what contradicts the table, in a stable order.
func check(p picture) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, importPath := range slices.Sorted(maps.Keys(p)) {
		name, mine := ours(importPath)
		if !mine {
			continue
		}
		x := p[importPath]
		allowed, ok := room(name)
		if !ok {
			complain("%s: not in the table of house_test.go", name)
			continue
		}
		if len(x.CgoFiles) > 0 {
			complain("%s: uses cgo", name)
		}
		for _, i := range x.Imports {
			if other, ok := ours(i); ok {
				if !matches(allowed, other) {
					complain("%s: may not import %s", name, other)
				}
				continue
			}
			if only, ok := outside[name]; ok && !isStandard(p, i) && !slices.Contains(only, i) {
				complain("%s: may not import %s", name, i)
			}
		}
		for _, i := range slices.Concat(x.Imports, x.TestImports, x.XTestImports) {
			if !mayUse(name, i) {
				complain("%s: may not import %s", name, i)
			}
		}
		if matches(joiners, name) {
			continue
		}
		for _, i := range slices.Concat(x.TestImports, x.XTestImports) {
			if other, ok := ours(i); ok && other != name && !matches(allowed, other) && !matches(aids, other) {
				complain("%s: its tests may not import %s", name, other)
			}
		}
	}
	return append(wrong, findC(p)...)
}

func isStandard(p picture, importPath string) bool {
	x := p[importPath]
	return importPath == "C" || x != nil && x.Standard
}

func mayUse(name, importPath string) bool {
	for _, o := range owned {
		below, ok := strings.CutPrefix(importPath, o.prefix)
		if !ok {
			continue
		}
		return slices.ContainsFunc(o.by[name], func(allowed string) bool { return allowed == "" || allowed == below })
	}
	return true
}

// throughC is the only package of ours below which there may be C.
const throughC = "internal/discv5"

// findC looks for C outside the standard library on any way down that doesn't
// lead through throughC.
func findC(p picture) (wrong []string) {
	for _, importPath := range slices.Sorted(maps.Keys(p)) {
		name, mine := ours(importPath)
		if !mine || name == throughC {
			continue
		}
		came := map[string]string{importPath: ""} // who first imported it
		for queue := []string{importPath}; len(queue) > 0; {
			at := queue[0]
			queue = queue[1:]
			x := p[at]
			if x == nil || x.Standard {
				continue
			}
			if len(x.CgoFiles) > 0 && at != importPath {
				way := at
				for up := came[at]; up != ""; up = came[up] {
					way = up + " → " + way
				}
				wrong = append(wrong, "C: "+way)
				break
			}
			for _, i := range x.Imports {
				if _, seen := came[i]; !seen && i != module+"/"+throughC {
					came[i] = at
					queue = append(queue, i)
				}
			}
		}
	}
	return wrong
}

func TestHouse(t *testing.T) {
	p := listed(t)
	require.Contains(t, p, module+"/relay")
	require.Contains(t, p, "github.com/libp2p/go-libp2p")
	require.Empty(t, check(p))
}

// Every rule, broken: in the picture, and once in the source itself.
func TestHouseNoticesBreaches(t *testing.T) {
	p := listed(t)
	edit := func(name string, f func(x *pkg)) picture {
		q := p.clone()
		if q[module+"/"+name] == nil {
			q[module+"/"+name] = &pkg{ImportPath: module + "/" + name}
		}
		f(q[module+"/"+name])
		return q
	}
	imports := func(name, importPath string) picture {
		return edit(name, func(x *pkg) { x.Imports = append(x.Imports, importPath) })
	}
	tests := func(name, importPath string) picture {
		return edit(name, func(x *pkg) { x.XTestImports = append(x.XTestImports, importPath) })
	}
	withC := func(q picture, importPath string) picture {
		q[importPath] = &pkg{ImportPath: importPath, CgoFiles: []string{"c.go"}}
		return q
	}
	const secp = "github.com/ethereum/go-ethereum/crypto/secp256k1"
	discv5 := imports("waku", module+"/internal/discv5")
	discv5[module+"/internal/discv5"] = &pkg{ImportPath: module + "/internal/discv5", Imports: []string{secp}}

	for name, c := range map[string]struct {
		p    picture
		want string // "" for what is allowed
	}{
		"sibling":                {imports("relay", module+"/rln-free-dos"), "relay: may not import rln-free-dos"},
		"sibling to be":          {imports("filter", module+"/lightpush"), "filter: may not import lightpush"},
		"sibling in a test":      {tests("relay", module+"/rln-free-dos"), "relay: its tests may not import rln-free-dos"},
		"upwards":                {imports("store", module+"/waku"), "store: may not import waku"},
		"vocabulary":             {imports("message", module+"/sharding"), "message: may not import sharding"},
		"vocabulary and others":  {imports("sharding", "github.com/libp2p/go-libp2p"), "sharding: may not import github.com/libp2p/go-libp2p"},
		"standard library":       {imports("sharding", "net/http"), ""},
		"example":                {imports("waku", module+"/examples/chat"), "waku: may not import examples/chat"},
		"examples of each other": {imports("examples/chat", module+"/examples/community"), "examples/chat: may not import examples/community"},
		"example and internal":   {imports("examples/chat", module+"/internal/enr"), "examples/chat: may not import internal/enr"},
		"test aid":               {imports("relay", module+"/internal/p2ptest"), "relay: may not import internal/p2ptest"},
		"test aid in a test":     {tests("relay", module+"/internal/p2ptest"), ""},
		"newcomer":               {imports("internal/util", "fmt"), "internal/util: not in the table of house_test.go"},
		"geth":                   {imports("waku", "github.com/ethereum/go-ethereum/p2p/enr"), "waku: may not import github.com/ethereum/go-ethereum/p2p/enr"},
		"geth in a test":         {tests("relay", "github.com/ethereum/go-ethereum/rlp"), "relay: may not import github.com/ethereum/go-ethereum/rlp"},
		"more of geth":           {imports("internal/enr", "github.com/ethereum/go-ethereum/p2p/enode"), "internal/enr: may not import github.com/ethereum/go-ethereum/p2p/enode"},
		"discv5's own":           {imports("internal/discv5", "github.com/waku-org/go-discover/discover"), ""},
		"cgo":                    {edit("internal/wire", func(x *pkg) { x.CgoFiles = []string{"x.go"} }), "internal/wire: uses cgo"},
		"C below":                {withC(imports("store/sqlite", "example.org/sqlite3"), "example.org/sqlite3"), "C: " + module + "/store/sqlite → example.org/sqlite3"},
		"C through discv5":       {withC(discv5, secp), ""},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := check(c.p)
			if c.want == "" {
				require.Empty(t, wrong)
				return
			}
			require.Contains(t, wrong, c.want)
		})
	}
}

// The same from end to end: a file that isn't there, but for go list.
func TestSiblingInTheSource(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "breach.go")
	require.NoError(t, os.WriteFile(file, []byte("package relay\n\nimport _ \""+module+"/rln-free-dos\"\n"), 0o600))
	at, err := filepath.Abs(filepath.Join(root, "relay", "breach.go"))
	require.NoError(t, err)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{at: file}})
	require.NoError(t, err)
	config := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(config, overlay, 0o600))
	require.Equal(t, []string{"relay: may not import rln-free-dos"}, check(list(t, "-overlay", config)))
}
