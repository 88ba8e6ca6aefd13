package enr_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
)

// Records of go-waku 0.10 are read right: its list of shards isn't sorted, and from 64
// shards on it is a bit map.
func TestGoWakuRecords(t *testing.T) {
	many := make([]uint16, 100)
	for i := range many {
		many[i] = uint16(i)
	}
	for key, c := range map[string]struct {
		record string
		want   []uint16
	}{
		"rs":  {"enr:-KW4QB4Zd-on7zcPQxiU_uheXA9y3x7QQiPUhdXV29LPJflPNZdm3RBhSW20kGxC_A8vAZRW5trZJJnyO5zHvdn1HD6GAaIF6Dm8gmlkgnY0gmlwhH8AAAGCcnOJABADAEAD_wCAiXNlY3AyNTZrMaECTyHVXAByjMw78wtwquTuBAJlKOv9k7CMPWQrNc5tUBGDdGNwguq9g3VkcIIjhYV3YWt1Mg0", []uint16{64, 128, 1023}},
		"rsv": {"enr:-QEguEBPbL0fpUUD_ehSPw_xEvAPHsb9s9Rbxhi_T3HpTLS-VX0vElSwhBHjIRDG21BO_m3Bzbj3Uusd1YhsuSuBEi5yhgGiBegan4JpZIJ2NIJpcIR_AAABg3JzdriCABD_______________8PAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIlzZWNwMjU2azGhAjp1Ez5gZXG3a8pCNFKLWKrMM5qjGhXFhkcBwRyemNgrg3RjcILqvIN1ZHCCI4SFd2FrdTIN", many},
	} {
		r, err := enr.Parse(c.record)
		require.NoError(t, err)
		require.Contains(t, r.Keys(), key)
		set, err := r.Shards()
		require.NoError(t, err)
		require.Equal(t, shards(16, c.want...), set)
		require.False(t, r.Ambiguous())
		require.Equal(t, enr.Relay|enr.Filter|enr.Lightpush, r.Capabilities())
	}
}
