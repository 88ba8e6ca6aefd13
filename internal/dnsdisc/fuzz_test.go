package dnsdisc_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
)

func FuzzURL(f *testing.F) {
	for _, text := range urls {
		f.Add(text)
		f.Add(strings.ToLower(text) + ".")
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := dnsdisc.ParseURL(text)
		if err != nil {
			require.ErrorIs(t, err, dnsdisc.ErrURL)
			return
		}
		same, err := dnsdisc.ParseURL(u.String())
		require.NoError(t, err)
		require.Equal(t, u, same)
		// But for the last digit, one bit of which says nothing.
		require.True(t, strings.EqualFold(u.String()[:62], text[:62]))
	})
}

func FuzzRoot(f *testing.F) {
	f.Add("enrtree-root:v1 e=JWXYDBPXYWG6FX3GMDIBFA6CJ4 l=C7HRFPF3BLGF3YR4DY5KX3SMBE seq=1 sig=o908WmNp7LibOfPsr4btQwatZJ5URBr2ZAuxvK4UWHlsB9sUOTJQaGAlLPVAhM__XJesCHxLISo94z5Z2a463gA")
	f.Add("enrtree-root:v1 e=AAAAAAAAAAAAAAAAAAAA l=AAAAAAAAAAAAAAAAAAAA seq=18446744073709551616 sig=")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := dnsdisc.ParseRoot(text)
		if err != nil {
			return
		}
		require.True(t, strings.HasPrefix(text, fmt.Sprintf("enrtree-root:v1 e=%s l=%s seq=", r.E, r.L)))
		require.NotContains(t, text, "\n")
	})
}

func FuzzEntry(f *testing.F) {
	f.Add("enrtree-branch:2XS2367YHAXJFGLZHVAWLQD4ZY,H4FHT4B454P6UXFD7JCYQ5PWDY,MHTDO6TMUBRIA2XWG5LUDACK24")
	f.Add("enrtree-branch:")
	f.Add("enrtree-branch:,AAAA,")
	f.Add("enr:-HW4QOFzoVLaFJnNhbgMoDXPnOvcdVuj7pDpqRvh6BRDO68aVi5ZcjB3vzQRZH2IcLBGHzo8uUN3snqmgTiE56CH3AMBgmlkgnY0iXNlY3AyNTZrMaECC2_24YYkYHEgdzxlSNKQEnHhuNAbNlMlWJxrJxbAFvA")
	f.Add(urls[0])
	f.Fuzz(func(t *testing.T, text string) {
		e := dnsdisc.ParseEntry(text)
		is := 0
		for _, yes := range []bool{e.Branch, e.Record != nil, e.Link != "", e.Refused != "" && !e.Branch} {
			if yes {
				is++
			}
		}
		require.Equal(t, 1, is)
		switch {
		case e.Branch && e.Bad == 0:
			require.Equal(t, text, "enrtree-branch:"+strings.Join(e.Children, ","))
		case e.Record != nil:
			require.Equal(t, text, e.Record.String())
		}
	})
}

func FuzzCache(f *testing.F) {
	_, _, data := cached(f)
	f.Add(data)
	f.Add([]byte("enrtrees 1 0\n" + urls[0] + "\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var list dnsdisc.List
		if list.UnmarshalBinary(data) != nil {
			return
		}
		first, err := list.MarshalBinary()
		require.NoError(t, err)
		var again dnsdisc.List
		require.NoError(t, again.UnmarshalBinary(first))
		second, err := again.MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
		require.Equal(t, texts(list.Records), texts(again.Records))
	})
}

// FuzzFetch has the resolver say anything below a root that is signed for it.
func FuzzFetch(f *testing.F) {
	key := newKey(f)
	record := newRecords(f, 1)[0].String()
	f.Add("enrtree-branch:", record, urls[3], "")
	f.Add("enrtree-branch:"+dnstest.Label(record)+","+dnstest.Label("x"), record, "x", "enrtree-root:v1 ")
	f.Fuzz(func(t *testing.T, e, leaf, link, beside string) {
		zone := dnstest.NewZone()
		for _, text := range []string{e, leaf, link} {
			zone.Set(dnstest.Label(text)+"."+domain, beside, text)
		}
		root, err := dnstest.Sign(key, fmt.Sprintf("enrtree-root:v1 e=%s l=%s seq=1", dnstest.Label(e), dnstest.Label(link)))
		require.NoError(t, err)
		zone.Set(domain, beside, root)
		url, err := dnstest.URL(key, domain)
		require.NoError(t, err)
		list, err := dnsdisc.New(dnsdisc.Config{Resolver: zone, Tries: 1}).Fetch(t.Context(), url, nil)
		require.NotNil(t, list)
		require.Equal(t, err == nil, list.Failed == 0)
		require.LessOrEqual(t, len(list.Records), 2)
	})
}
