package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(b)
}

// The README's Go code is the code of the example that runs in package waku.
func TestREADMEShowsTheExample(t *testing.T) {
	example := read(t, "../../waku/example_test.go")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "../../README.md"), -1)
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		indented := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(b[1], "\t$1")
		assert.True(t, strings.Contains(example, b[1]) || strings.Contains(example, indented),
			"not in waku/example_test.go:\n%s", b[1])
	}
}

// Every flag that the README's table names is one of servicenode's, and the other
// way round.
func TestREADMENamesServicenodesFlags(t *testing.T) {
	readme := read(t, "../../README.md")
	_, table, _ := strings.Cut(readme, "## For operators")
	table, _, _ = strings.Cut(table, "\n## ")
	help, err := exec.Command(program, "--help").Output()
	require.NoError(t, err)
	flag := regexp.MustCompile(`--[a-z][a-z0-9-]*`)
	inTable := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `--.*$").FindAllString(table, -1) {
		cells := strings.Split(row, "|")
		for _, name := range flag.FindAllString(cells[1], -1) {
			inTable[name] = true
			assert.Contains(t, string(help), "  "+name+" ")
		}
	}
	for _, line := range regexp.MustCompile(`(?m)^  --[a-z0-9-]+`).FindAllString(string(help), -1) {
		assert.True(t, inTable[strings.TrimSpace(line)], "%s isn't in the README", line)
	}
}

// Every path that the README links to exists.
func TestREADMELinks(t *testing.T) {
	for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(read(t, "../../README.md"), -1) {
		_, err := os.Stat("../../" + m[1])
		assert.NoError(t, err)
	}
}
