package pgtest

import (
	"cmp"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// places are where systems put PostgreSQL's programs that aren't in PATH, by
// version.
var places = []string{
	"/usr/lib/postgresql/*/bin",          // Debian, Alpine
	"/usr/pgsql-*/bin",                   // Red Hat, PostgreSQL's own packages
	"/opt/homebrew/opt/postgresql@*/bin", // Homebrew
	"/usr/local/opt/postgresql@*/bin",
	"/usr/local/pgsql/bin",
}

var errMissing = errors.New("pgtest: PostgreSQL's programs initdb and postgres aren't installed, " +
	"and these tests are never skipped: apt-get install postgresql (Debian, Ubuntu), " +
	"brew install postgresql@17 (macOS), or put their directory into PATH")

// findPrograms returns the directory of the newest initdb that has a postgres
// beside it. Debian has neither in PATH.
func findPrograms() (string, error) {
	var dirs []string
	if p, err := exec.LookPath("initdb"); err == nil {
		// A link in PATH may stand alone.
		if p, err = filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(p))
		}
	}
	for _, pattern := range places {
		found, _ := filepath.Glob(pattern)
		slices.SortFunc(found, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		_, err1 := exec.LookPath(filepath.Join(dir, "initdb"))
		_, err2 := exec.LookPath(filepath.Join(dir, "postgres"))
		if err1 == nil && err2 == nil {
			return dir, nil
		}
	}
	return "", errMissing
}

// version is the number in a path, 0 if there is none.
func version(path string) int {
	digits := make([]byte, 0, 2)
	for _, b := range []byte(path) {
		if '0' <= b && b <= '9' {
			digits = append(digits, b)
		}
	}
	n, _ := strconv.Atoi(string(digits))
	return n
}
