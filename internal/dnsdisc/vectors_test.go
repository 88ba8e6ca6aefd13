package dnsdisc_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
)

// Trees that others made: the example of EIP-1459, and go-ethereum 1.16.3.
func TestVectors(t *testing.T) {
	for _, file := range []string{"testdata/eip-1459.json", "testdata/go-ethereum.json"} {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		var vectors []struct {
			URL     string            `json:"url"`
			Seq     uint64            `json:"seq"`
			Records []string          `json:"records"`
			Links   []string          `json:"links"`
			TXT     map[string]string `json:"txt"`
		}
		require.NoError(t, json.Unmarshal(data, &vectors))
		require.NotEmpty(t, vectors)
		for _, v := range vectors {
			u, err := dnsdisc.ParseURL(v.URL)
			require.NoError(t, err)
			zone := dnstest.NewZone(dnstest.Tree{Domain: u.Domain, TXT: v.TXT})
			list, err := fetch(t, zone, v.URL, nil)
			require.Equal(t, v.URL, list.URL)
			require.Equal(t, v.Seq, list.Seq)
			require.ElementsMatch(t, v.Records, texts(list.Records))
			require.Empty(t, list.Refused)
			if len(v.Links) == 0 {
				require.NoError(t, err)
				continue
			}
			// The linked trees aren't there.
			require.ErrorIs(t, err, dnsdisc.ErrNoTree)
			require.Equal(t, len(v.Links), list.Failed)
			for _, link := range v.Links {
				u, err := dnsdisc.ParseURL(link)
				require.NoError(t, err)
				require.Equal(t, 1, zone.Asked(u.Domain))
			}
		}
	}
}
