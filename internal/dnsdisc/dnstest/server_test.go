package dnstest_test

import (
	"context"
	"crypto/rand"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, zone *dnstest.Zone, opts ...dnstest.Option) (*dnstest.Server, *net.Resolver) {
	t.Helper()
	server, err := dnstest.Serve(zone, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Addr())
	}}
}

func TestFaults(t *testing.T) {
	zone := dnstest.NewZone()
	zone.Set("name.example.org", "text")
	_, resolver := serve(t, zone)
	for _, r := range []interface {
		LookupTXT(context.Context, string) ([]string, error)
	}{zone, resolver} {
		lookup := func(f dnstest.Fault, limit time.Duration) ([]string, *net.DNSError) {
			zone.Fault("name.example.org", f)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			txts, err := r.LookupTXT(ctx, "NAME.example.org.")
			if err == nil {
				return txts, nil
			}
			var e *net.DNSError
			require.ErrorAs(t, err, &e)
			return nil, e
		}
		txts, _ := lookup(dnstest.Fault{}, time.Minute)
		require.Equal(t, []string{"text"}, txts)
		txts, _ = lookup(dnstest.Fault{Answer: []string{"other", strings.Repeat("long", 200)}}, time.Minute)
		require.Equal(t, []string{"other", strings.Repeat("long", 200)}, txts)
		txts, _ = lookup(dnstest.Fault{Delay: time.Millisecond}, time.Minute)
		require.Equal(t, []string{"text"}, txts)
		_, err := lookup(dnstest.Fault{NotFound: true}, time.Minute)
		require.True(t, err.IsNotFound)
		_, err = lookup(dnstest.Fault{Refuse: true}, time.Minute)
		require.False(t, err.IsNotFound)
		_, err = lookup(dnstest.Fault{Drop: true}, 20*time.Millisecond)
		require.True(t, err.IsTimeout)
		_, err = lookup(dnstest.Fault{Delay: time.Hour}, 20*time.Millisecond)
		require.True(t, err.IsTimeout)
	}
}

// Close doesn't wait for what is dropped or delayed, nor for idle connections.
func TestClose(t *testing.T) {
	zone := dnstest.NewZone()
	zone.Fault("", dnstest.Fault{Delay: time.Hour})
	server, resolver := serve(t, zone, dnstest.Truncated())
	idle, err := net.Dial("tcp", server.Addr())
	require.NoError(t, err)
	defer idle.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = resolver.LookupTXT(ctx, "name.example.org")
	require.Error(t, err)
	for _, garbage := range []string{"", "x", strings.Repeat("\xff", 600)} {
		conn, err := net.Dial("udp", server.Addr())
		require.NoError(t, err)
		_, err = conn.Write([]byte(garbage))
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}

func TestKeys(t *testing.T) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	require.NoError(t, err)
	_, err = dnstest.Publish(key, "example.org", dnstest.Content{})
	require.Error(t, err)
}
