//go:build !unix

package pgtest

import (
	"errors"
	"os/exec"
)

// Mode is how a server is told to stop.
type Mode int

// The modes of pg_ctl.
const (
	Smart     Mode = iota // waits until clients have left
	Fast                  // rolls back what is under way
	Immediate             // leaves recovery to the next start
)

var errSystem = errors.New("pgtest: servers are stopped and frozen with signals, which this system doesn't have")

func (c *Cluster) makeDir() error  { return errSystem }
func (c *Cluster) dress(*exec.Cmd) {}

// Restart starts a server that was stopped or killed.
func (c *Cluster) Restart() error { return errSystem }

// Stop stops the server.
func (c *Cluster) Stop(Mode) error { return errSystem }

// Kill ends the server and all its processes at once.
func (c *Cluster) Kill() error { return errSystem }

// Pause freezes the server.
func (c *Cluster) Pause() error { return errSystem }

// Resume thaws it.
func (c *Cluster) Resume() error { return errSystem }

// Close ends the server and removes its directory.
func (c *Cluster) Close() error { return nil }
