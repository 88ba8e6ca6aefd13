// Package exampletest gives tests the examples as programs.
package exampletest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Built is where the environment names a directory with all of the examples, as CI has
// built them once for all tests.
const Built = "SHOAL_PROGRAMS"

// Programs returns a directory with the named examples, without cgo, and what removes
// it. They are built now unless CI has done so.
func Programs(names ...string) (dir string, remove func(), err error) {
	if dir := os.Getenv(Built); dir != "" {
		return dir, func() {}, nil
	}
	if dir, err = os.MkdirTemp("", "shoal"); err != nil {
		return "", nil, err
	}
	args := []string{"build", "-buildvcs=false", "-o", dir + "/"}
	for _, name := range names {
		args = append(args, "github.com/status-im/shoal/examples/"+name)
	}
	build := exec.Command("go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	var said strings.Builder
	build.Stdout, build.Stderr = &said, &said
	if err := build.Run(); err != nil {
		os.RemoveAll(dir)
		return "", nil, fmt.Errorf("building %v: %w\n%s", names, err, said.String())
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}
