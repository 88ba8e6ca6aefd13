package dnsdisc_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc"
)

// The trees of the networks that Waku nodes bootstrap from, and EIP-1459's
// example.
var urls = []string{
	"enrtree://AMOJVZX4V6EXP7NTJPMAYJYST2QP6AJXYW76IU6VGJS7UVSNDYZG4@boot.prod.status.nodes.status.im",
	"enrtree://AI4W5N5IFEUIHF5LESUAOSMV6TKWF2MB6GU2YK7PU4TYUGUNOCEPW@boot.staging.status.nodes.status.im",
	"enrtree://AIRVQ5DDA4FFWLRBCHJWUWOO6X6S4ZTZ5B667LQ6AJU6PEYDLRD5O@sandbox.waku.nodes.status.im",
	"enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@morenodes.example.org",
}

func TestURL(t *testing.T) {
	for _, text := range urls {
		u, err := dnsdisc.ParseURL(text)
		require.NoError(t, err)
		require.Equal(t, text, u.String())
		require.Equal(t, text[strings.Index(text, "@")+1:], u.Domain)
		require.Len(t, u.Key(), 33)
		scheme, rest := text[:len("enrtree://")], text[len("enrtree://"):]
		for _, other := range []string{scheme + strings.ToLower(rest), scheme + strings.ToUpper(rest), text + "."} {
			same, err := dnsdisc.ParseURL(other)
			require.NoError(t, err)
			require.Equal(t, u, same)
		}
	}
	key := urls[0][:strings.Index(urls[0], "@")]
	for _, text := range []string{
		"", "enrtree", "enrtree://", "http" + urls[0][len("enrtree"):], " " + urls[0], urls[0] + " ", urls[0] + "\n",
		key, key + "@", key + "@.", key + "@a..b", key + "@.a", key + "@a..", key + "@a b", key + "@a/b", key + "@a:53", key + "@ä.org",
		key + "@" + strings.Repeat("a", 64), key + "@" + strings.Repeat("abcdefghi.", 25) + "org",
		"enrtree://@a.org", "enrtree://" + strings.Repeat("A", 53) + "@a.org", key[:len(key)-1] + "@a.org",
		key + "A@a.org", key[:len(key)-1] + "=@a.org", key[:len(key)-1] + "\n@a.org", key[:len(key)-1] + "1@a.org",
	} {
		_, err := dnsdisc.ParseURL(text)
		require.ErrorIs(t, err, dnsdisc.ErrURL, "%q", text)
		require.NotContains(t, err.Error(), "\n")
		list, err := dnsdisc.New(dnsdisc.Config{}).Fetch(t.Context(), text, nil)
		require.ErrorIs(t, err, dnsdisc.ErrURL)
		require.Nil(t, list)
	}
}
