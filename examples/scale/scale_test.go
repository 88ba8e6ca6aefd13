package main

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/scale"
)

func TestMain(m *testing.M) { p2ptest.Leaks(m) }

// small are runs of a few members, as the program leaves them.
func small(t *testing.T) (files []string) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"--members", "20", "--profile", "classic", "--name", "classic <today>"},
		{"--members", "40", "--profile", "default", "--rate", "1", "--vanish", "0.1"},
		{"--members", "20", "--profile", "default", "--rate", "1", "--attack", "silent", "--attackers", "5"},
		{"--members", "30", "--profile", "fleet-assisted:DLazy=2", "--fleet", "4", "--fleet-links", "3", "--fleet-profile", "serving-30"},
	} {
		file := filepath.Join(dir, fmt.Sprint(len(files), ".json"))
		s, err := parse(append(args, "--json", file, "--settle", "12s", "--load", "5s", "--drain", "5s"))
		require.NoError(t, err)
		p2ptest.Bubble(t, func(t *testing.T) {
			s.cfg.Progress = showProgress(new(strings.Builder))
			r, err := scale.Run(context.Background(), s.cfg)
			require.NoError(t, err)
			require.Zero(t, r.Missing)
			var out strings.Builder
			printResult(&out, r)
			require.Contains(t, out.String(), "missing 0")
			require.NoError(t, s.keep(r))
		})
		files = append(files, file)
	}
	return files
}

func TestReport(t *testing.T) {
	files := small(t)
	page := filepath.Join(t.TempDir(), "scale.html")
	require.NoError(t, report(append([]string{"--html", page, "--pictures", filepath.Dir(page)}, files...)))
	pictures, err := filepath.Glob(filepath.Join(filepath.Dir(page), "*.svg"))
	require.NoError(t, err)
	require.Len(t, pictures, 6)
	for _, file := range pictures {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, xml.Unmarshal(b, new(struct{ XMLName xml.Name })), file)
		assert.NotContains(t, string(b), "ZgotmplZ")
	}
	b, err := os.ReadFile(page)
	require.NoError(t, err)
	html := string(b)
	for _, want := range []string{"What a member pays", "How long it takes", "How often a message comes", "Through trouble",
		"classic &lt;today&gt;", "817.2", "10 % of members vanish", "Who holds the mesh"} {
		assert.True(t, strings.Contains(html, want), want)
	}
	assert.Empty(t, regexp.MustCompile(`(src|href)=|https?://|url\(`).FindString(html), "the page needs nothing else")
	assert.False(t, strings.Contains(html, "NaN"), "a number that is none")
	assert.False(t, strings.Contains(html, "ZgotmplZ"), "something that the template refused")
	require.NoError(t, report(append([]string{"--html", page}, files[0])), "one run is enough")
}

func TestSettings(t *testing.T) {
	s, err := parse([]string{"--profile", "classic:D=5,DHigh=7", "--fleet-profile", "fleet-12", "--load", "10s", "--quic"})
	require.NoError(t, err)
	assert.Equal(t, 5, s.cfg.Profile.D)
	assert.Equal(t, "classic D=5,DHigh=7", s.cfg.Profile.Name)
	assert.Equal(t, 12, s.cfg.FleetProfile.D)
	assert.Equal(t, 10*time.Second, s.cfg.Load)
	assert.Equal(t, "quic", s.cfg.Net.Transport.Name)
	_, err = parse([]string{"--help"})
	require.ErrorIs(t, err, flag.ErrHelp)
	for _, args := range [][]string{
		{"--profile", "best"}, {"--profile", "classic:D=x"}, {"--fleet-profile", "fleet-x"}, {"--fleet-profile", "serving-x"}, {"members"}, {"--members", "x"},
	} {
		_, err := parse(args)
		require.ErrorIs(t, err, errUsage, "%v", args)
	}
	for _, args := range [][]string{{}, {"--what"}} {
		require.True(t, errors.Is(report(args), errUsage))
	}
	bad := filepath.Join(t.TempDir(), "x.json")
	require.NoError(t, os.WriteFile(bad, []byte("{}"), 0o600))
	require.ErrorContains(t, report([]string{bad}), "no members")
	require.Error(t, report([]string{bad + "x"}))
	var out strings.Builder
	usage(&out)
	require.Contains(t, out.String(), "--profile")
}
