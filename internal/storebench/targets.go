package main

import (
	"fmt"
	"strings"
)

// target is what a figure, or the ratio of two systems' figures, is meant to be.
type target struct {
	system string
	figure string
	unit   string
	over   string // the system whose figure it is divided by; empty: none
	least  bool   // bound is the least; otherwise the most
	bound  float64
}

// The figures that targets speak of.
const (
	oneNode   = "insert, 1 node"
	fourNodes = "insert, 4 nodes, distinct"
	inBatches = "insert, batches of 50"
	ackP99    = "acknowledged p99"
	perRow    = "bytes per message"
)

// targets are those of the Store, for a million messages.
var targets = []target{
	{postgres, oneNode, "/s", "", true, 10_000},
	{postgres, oneNode, "", today, true, 3},
	{postgres, fourNodes, "/s", "", true, 8_000},
	{postgres, fourNodes, "", today, true, 4},
	{postgres, ackP99, "ms", "", false, 50},
	{sqlite, inBatches, "/s", "", true, 3_000},
	{postgres, "10 hashes p95", "ms", "", false, 10},
	{postgres, "10 hashes, 10 clients p95", "ms", "", false, 25},
	{postgres, "100 hashes p95", "ms", "", false, 30},
	{postgres, "1 h, 10 hot topics, with data p90", "ms", "", false, 12},
	{postgres, "1 h, 10 hot topics, hashes only p90", "ms", "", false, 10},
	{postgres, "1 h, 10 hot topics, with data, 10 clients", "/s", "", true, 500},
	{postgres, perRow, "", "", false, 3_500},
	{postgres, "page deep in history / newest", "", "", false, 1.25},
	{postgres, "200 clients, 500/s inserted: errors", "", "", false, 0},
	{postgres, "200 clients, inserting flat out: errors", "", "", false, 0},
	{sqlite, "10 hashes p95", "ms", "", false, 10},
	{sqlite, "100 hashes p95", "ms", "", false, 30},
	{sqlite, "1 h, 10 hot topics, with data p90", "ms", "", false, 12},
	{sqlite, "1 h, 10 hot topics, with data, 10 clients", "/s", "", true, 500},
	{sqlite, perRow, "", "", false, 3_500},
	{sqlite, "page deep in history / newest", "", "", false, 1.25},
}

// growth is how many times as long a question may take of ten times the messages,
// warm against warm and cold against cold.
const growth = 2

// grows tells whether that is said of a figure.
func grows(f figure) bool {
	return f.Unit == "ms" && !strings.Contains(f.Name, "CPU") &&
		(strings.HasPrefix(f.Name, warm) || strings.HasPrefix(f.Name, cold))
}

func (t target) name() string {
	switch {
	case t.over != "":
		return fmt.Sprintf("%s: %s, times that of %s", t.system, t.figure, t.over)
	case t.unit != "":
		return fmt.Sprintf("%s: %s (%s)", t.system, t.figure, t.unit)
	}
	return fmt.Sprintf("%s: %s", t.system, t.figure)
}

func (t target) value(r *report) float64 {
	v := r.get(t.system, t.figure)
	if t.over != "" {
		v /= r.get(t.over, t.figure)
	}
	return v
}

func (t target) sign() string {
	if t.least {
		return ">="
	}
	return "<="
}

func (t target) met(v float64) bool {
	if t.least {
		return v >= t.bound
	}
	return v <= t.bound
}
