package waku_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/waku"
)

// A program that embeds a node and gives it no logger finds nothing of it on its
// outputs, whatever libraries think worth saying.
func TestSilence(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), asChild+"=1")
	var out bytes.Buffer
	child.Stdout, child.Stderr = &out, &out
	require.NoError(t, child.Run(), out.String())
	require.Empty(t, out.String())
}

// shortLives is such a program.
func shortLives() {
	ctx := context.Background()
	for range 4 {
		a, err := waku.New(ctx)
		if err != nil {
			panic(err)
		}
		b, err := waku.New(ctx, waku.WithStaticPeers(a.Addrs()...))
		if err != nil {
			panic(err)
		}
		for _, n := range []*waku.Node{a, b} {
			if _, err := n.Join(ctx, waku.Community{Shard: town}); err != nil {
				panic(err)
			}
		}
		if _, err := b.Connect(ctx, a.Addrs()[0]); err != nil {
			panic(err)
		}
		if err := a.Close(); err != nil {
			panic(err)
		}
		if err := b.Close(); err != nil {
			panic(err)
		}
	}
}
