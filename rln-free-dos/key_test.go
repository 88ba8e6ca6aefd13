package dosguard_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	dosguard "github.com/status-im/shoal/rln-free-dos"
)

const (
	secretHex       = "5526a8990317c9b7b58d07843d270f9cd1d9aaee129294c1c478abf7261dd9e6"
	compressedHex   = "029c5fac802da41e07e6cdf51c3b9a6351ad5e65921527f2df5b7d59fd9b56ab02"
	uncompressedHex = "049c5fac802da41e07e6cdf51c3b9a6351ad5e65921527f2df5b7d59fd9b56ab02bab736cdcfc37f25095e78127500da371947217a8cd5186ab890ea866211c3f6"
	orderHex        = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
	primeHex        = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f"
)

func TestGenerateKey(t *testing.T) {
	a, err := dosguard.GenerateKey()
	require.NoError(t, err)
	b, err := dosguard.GenerateKey()
	require.NoError(t, err)
	assert.NotEqual(t, a.Hex(), b.Hex())
	assert.False(t, a.PublicKey().Equal(b.PublicKey()))
	assert.Same(t, a.PublicKey(), a.PublicKey(), "whoever asks shares one table")

	again, err := dosguard.ParsePrivateKey(a.Hex())
	require.NoError(t, err)
	assert.True(t, again.PublicKey().Equal(a.PublicKey()))
	again, err = dosguard.PrivateKeyFromBytes(a.Bytes())
	require.NoError(t, err)
	assert.Equal(t, a.Hex(), again.Hex())
}

func TestParseKeys(t *testing.T) {
	for _, text := range []string{secretHex, "0x" + secretHex, "0X" + strings.ToUpper(secretHex), " " + secretHex + "\n"} {
		key, err := dosguard.ParsePrivateKey(text)
		require.NoError(t, err)
		assert.Equal(t, secretHex, key.Hex())
		assert.Equal(t, compressedHex, key.PublicKey().String())
	}
	for _, text := range []string{compressedHex, uncompressedHex, "0x" + uncompressedHex, strings.ToUpper(compressedHex), "\t" + compressedHex + " "} {
		key, err := dosguard.ParsePublicKey(text)
		require.NoError(t, err)
		assert.Equal(t, compressedHex, key.Hex())
		assert.Equal(t, uncompressedHex, hex.EncodeToString(key.Uncompressed()))
		again, err := dosguard.PublicKeyFromBytes(key.Bytes())
		require.NoError(t, err)
		assert.True(t, again.Equal(key))
	}
	var none *dosguard.PublicKey
	key, _ := dosguard.ParsePublicKey(compressedHex)
	assert.False(t, key.Equal(nil))
	assert.False(t, none.Equal(key))
	assert.True(t, none.Equal(nil))
}

func TestParseKeysErrors(t *testing.T) {
	private := func(s string) error { _, err := dosguard.ParsePrivateKey(s); return err }
	public := func(s string) error { _, err := dosguard.ParsePublicKey(s); return err }
	for _, c := range []struct {
		parse func(string) error
		text  string
		want  error
		says  string
	}{
		{private, "", dosguard.ErrKeySize, "empty"},
		{private, "0x", dosguard.ErrKeySize, "empty"},
		{private, "nonsense", dosguard.ErrKeyHex, "hexadecimal"},
		{private, "0x0x" + secretHex, dosguard.ErrKeyHex, "hexadecimal"},
		{private, secretHex[1:], dosguard.ErrKeyHex, "63 digits"},
		{private, secretHex[2:], dosguard.ErrKeySize, "31 bytes, not 32"},
		{private, compressedHex, dosguard.ErrKeySize, "33 bytes are a public key"},
		{private, uncompressedHex, dosguard.ErrKeySize, "65 bytes are a public key"},
		{private, strings.Repeat("00", 32), dosguard.ErrKeyRange, "n-1"},
		{private, orderHex, dosguard.ErrKeyRange, "n-1"},
		{private, strings.Repeat("ff", 32), dosguard.ErrKeyRange, "n-1"},
		{private, strings.Repeat("00", 1<<20), dosguard.ErrKeySize, "2097152"},
		{public, "", dosguard.ErrKeySize, "empty"},
		{public, "zz" + compressedHex[2:], dosguard.ErrKeyHex, "hexadecimal"},
		{public, secretHex, dosguard.ErrKeySize, "32 bytes are a private key"},
		{public, uncompressedHex[2:], dosguard.ErrKeySize, "04 in front"},
		{public, "05" + compressedHex[2:], dosguard.ErrKeyFormat, "it begins with 05"},
		{public, "04" + compressedHex[2:], dosguard.ErrKeyFormat, "it begins with 04"},
		{public, "06" + uncompressedHex[2:], dosguard.ErrKeyFormat, "it begins with 06"}, // hybrid
		{public, "02" + uncompressedHex[2:], dosguard.ErrKeyFormat, "it begins with 02"},
		{public, "02" + strings.Repeat("00", 32), dosguard.ErrKeyNotOnCurve, "curve"},
		{public, "02" + primeHex, dosguard.ErrKeyNotOnCurve, "curve"},
		{public, "04" + strings.Repeat("00", 64), dosguard.ErrKeyNotOnCurve, "curve"},
		{public, uncompressedHex[:128] + "f7", dosguard.ErrKeyNotOnCurve, "curve"},
	} {
		err := c.parse(c.text)
		require.ErrorIs(t, err, c.want, "%.80s", c.text)
		var typed *dosguard.KeyError
		require.ErrorAs(t, err, &typed)
		assert.Contains(t, err.Error(), c.says)
		assert.Contains(t, err.Error(), typed.Kind)
		assert.NotContains(t, err.Error(), "\n")
		assert.NotContains(t, err.Error(), secretHex[4:12], "no part of a key in an error")
	}
	_, err := dosguard.PublicKeyFromBytes([]byte(compressedHex))
	assert.ErrorContains(t, err, "is it hexadecimal text?")
}

func TestPrivateKeyIsNotPrinted(t *testing.T) {
	key := communityKey(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
		for _, v := range []any{key, struct{ Key *dosguard.PrivateKey }{key}, []any{key}} {
			out := strings.ToLower(fmt.Sprintf(verb, v))
			assert.NotContains(t, out, secretHex[:8], verb)
			assert.NotContains(t, out, fmt.Sprint(key.Bytes()[:4])[1:8], verb)
		}
	}
	assert.Equal(t, "private key of "+compressedHex, fmt.Sprint(key))
	var none *dosguard.PrivateKey
	assert.Equal(t, "<nil>", fmt.Sprint(none))
}

// FuzzParseKeys: what parses is written and read again as the same key; what
// doesn't has a typed error.
func FuzzParseKeys(f *testing.F) {
	for _, s := range []string{"", "0x", secretHex, compressedHex, uncompressedHex, orderHex, primeHex} {
		f.Add(s, []byte(s))
		b, _ := hex.DecodeString(s)
		f.Add("0x"+s, b)
	}
	f.Fuzz(func(t *testing.T, text string, raw []byte) {
		check := func(err error) {
			var typed *dosguard.KeyError
			require.ErrorAs(t, err, &typed)
			require.Less(t, len(err.Error()), 200)
		}
		samePrivate := func(key *dosguard.PrivateKey, err error) {
			if err != nil {
				check(err)
				return
			}
			again, err := dosguard.ParsePrivateKey(key.Hex())
			require.NoError(t, err)
			require.True(t, again.PublicKey().Equal(key.PublicKey()))
		}
		samePublic := func(key *dosguard.PublicKey, err error) {
			if err != nil {
				check(err)
				return
			}
			again, err := dosguard.PublicKeyFromBytes(key.Uncompressed())
			require.NoError(t, err)
			require.True(t, bytes.Equal(again.Bytes(), key.Bytes()))
		}
		samePrivate(dosguard.ParsePrivateKey(text))
		samePrivate(dosguard.PrivateKeyFromBytes(raw))
		samePublic(dosguard.ParsePublicKey(text))
		samePublic(dosguard.PublicKeyFromBytes(raw))
	})
}
