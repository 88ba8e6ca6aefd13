package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/status-im/shoal"
	root   = "../.."
)

// pkg is what go list says about a package.
type pkg struct {
	ImportPath   string
	Name         string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
	CgoFiles     []string
	Error        *struct{ Err string }
}

// picture is the house: our own packages and all they stand on.
type picture map[string]*pkg

func (p picture) clone() picture {
	out := make(picture, len(p))
	for path, x := range p {
		y := *x
		y.Imports = append([]string(nil), x.Imports...)
		y.TestImports = append([]string(nil), x.TestImports...)
		y.XTestImports = append([]string(nil), x.XTestImports...)
		out[path] = &y
	}
	return out
}

var whole struct {
	sync.Mutex
	picture
}

// listed is list without arguments, run once.
func listed(t testing.TB) picture {
	t.Helper()
	whole.Lock()
	defer whole.Unlock()
	if whole.picture == nil {
		whole.picture = list(t)
	}
	return whole.picture
}

// list runs go list over the whole module, with cgo on: without, C would hide.
func list(t testing.TB, args ...string) picture {
	t.Helper()
	args = append([]string{"list", "-deps",
		"-json=ImportPath,Name,Standard,Imports,TestImports,XTestImports,CgoFiles,Error"}, args...)
	cmd := exec.Command("go", append(args, "./...")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	p := make(picture)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		x := new(pkg)
		err := d.Decode(x)
		if errors.Is(err, io.EOF) {
			return p
		}
		require.NoError(t, err)
		require.Nil(t, x.Error, "%s", fmt.Sprint(x.Error))
		p[x.ImportPath] = x
	}
}
