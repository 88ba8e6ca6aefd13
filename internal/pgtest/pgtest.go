// Package pgtest gives tests a PostgreSQL server of their own, which they may
// stop, freeze and kill.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestInsert(t *testing.T) {
//		url := pgtest.Shared(t).Database(t) // postgres://...
//	}
//
// [Shared] is one server for all tests of a process, [Start] one for a single
// test, to be ill-treated. Both are made of the installed programs, in PATH or
// where Debian, Homebrew and others put them, listen on 127.0.0.1 alone, and end
// with the test process, however that ends. A server doesn't run as root: a test
// that does starts it as the user postgres or nobody.
//
// Where the programs are missing, tests fail and say what to install. They are
// never skipped.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config is how a server is started. The zero value writes to the disk as a
// server in production does.
type Config struct {
	// NoSync turns fsync off. What is committed then survives the server's
	// death, not the machine's, and is much cheaper.
	NoSync bool
	// Settings are further settings, by their names in postgresql.conf.
	Settings map[string]string
	// Dir is where the server's directory is made, on a small volume for
	// instance. The user that the server runs as must be able to reach it. Empty:
	// the system's directory for temporary files.
	Dir string
}

// DirPattern is what the names of servers' directories are like.
const DirPattern = "shoal-pg-*"

// patience is how long a server may take to be ready or to be gone. Recovering
// from a kill under load takes the longest.
const patience = 2 * time.Minute

// Cluster is a server. Its methods may be called from any goroutine, one at a
// time.
type Cluster struct {
	cfg      Config
	programs string // directory of initdb and postgres
	dir      string // holds data, log and the socket
	port     int
	server   *process // nil while stopped
	guard    *process // not nil while frozen
	names    int
	mu       sync.Mutex
}

// Start makes a server and starts it. It is closed when the test ends.
func Start(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// New makes a server and starts it, outside a test. Close it.
func New(cfg Config) (_ *Cluster, err error) {
	c := &Cluster{cfg: cfg}
	if c.programs, err = findPrograms(); err != nil {
		return nil, err
	}
	if err := c.makeDir(); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	initdb := exec.Command(filepath.Join(c.programs, "initdb"), "--pgdata", c.data(), "--username", "postgres",
		"--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
	c.dress(initdb)
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pgtest: initdb: %w\n%s", err, out)
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	return c, nil
}

// Open starts a server in a directory that another cluster has left, see
// [Cluster.Dir], after it was stopped. The port is another.
func Open(dir string, cfg Config) (*Cluster, error) {
	c := &Cluster{cfg: cfg, dir: dir}
	var err error
	if c.programs, err = findPrograms(); err != nil {
		return nil, err
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	return c, nil
}

// begin starts the server on a free port.
func (c *Cluster) begin() (err error) {
	// Another process may take the port between looking and listening.
	for range 5 {
		if c.port, err = freePort(); err != nil {
			return fmt.Errorf("pgtest: %w", err)
		}
		if err = c.Restart(); err == nil || !strings.Contains(c.log(), "Address already in use") {
			break
		}
	}
	return err
}

// freePort looks below the ports that systems give to outgoing connections. On
// one of those, a client that dials a stopped server again and again would
// sometimes be connected to itself.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 15000 + rand.IntN(15000)
		var l net.Listener
		if l, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) log() string {
	b, _ := os.ReadFile(filepath.Join(c.dir, "log"))
	const enough = 8 << 10
	return string(b[max(0, len(b)-enough):])
}

// URL is the address of the database postgres, which is always there. It stays
// the same as long as the cluster lives.
func (c *Cluster) URL() string { return c.url("postgres") }

func (c *Cluster) url(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", c.port, database)
}

// Port is the server's TCP port on 127.0.0.1.
func (c *Cluster) Port() int { return c.port }

// Dir is the server's directory: data and log, and its Unix-domain socket.
func (c *Cluster) Dir() string { return c.dir }

// Database makes an empty database and returns its URL.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names++
	name := fmt.Sprintf("test%d", c.names)
	Exec(t, c.URL(), "CREATE DATABASE "+name)
	return c.url(name)
}

// Exec runs one statement.
func Exec(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		t.Fatal(err)
	}
}

// shared is the server of this process.
var shared struct {
	mu  sync.Mutex
	c   *Cluster
	err error
}

// Shared returns the server that all tests of this process have in common. Its
// fsync is off. [Main] ends it.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.c == nil && shared.err == nil {
		shared.c, shared.err = New(Config{NoSync: true})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.c
}
