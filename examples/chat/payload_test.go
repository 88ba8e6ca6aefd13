package main

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClean(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "hello", "hello"},
		{"spaces around", "  hello ", "hello"},
		{"lines become one", "a\nb\r\nc\td", "a b  c d"},
		{"escape sequence", "\x1b[2J\x1b[31mred", "[2J[31mred"},
		{"eight-bit control", "a\u009b31mb", "a31mb"},
		{"bell and delete", "a\ab\x7f", "ab"},
		{"right-to-left override", "abc\u202egnp.exe", "abcgnp.exe"},
		{"isolates", "\u2066a\u2069", "a"},
		{"line separator", "a\u2028b", "a b"},
		{"zero-width space", "a\u200bb", "ab"},
		{"emoji held together", "👩\u200d🚀", "👩\u200d🚀"},
		{"accents", "e\u0301", "e\u0301"},
		{"tower of accents", "e" + strings.Repeat("\u0301", 50), "e" + strings.Repeat("\u0301", maxMarks)},
		{"accent on nothing", "\u0301a", "a"},
		{"other scripts", "שלום 你好 नमस्ते", "שלום 你好 नमस्ते"},
		{"damaged", "a\xffb", "ab"},
		{"cut", strings.Repeat("ä", 100), strings.Repeat("ä", 50)},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, clean(c.in, 50)) })
	}
}

func TestDecode(t *testing.T) {
	p, err := decode(encode(payload{Name: "ana", Text: "hello"}))
	require.NoError(t, err)
	assert.Equal(t, payload{Name: "ana", Text: "hello"}, p)

	p, err = decode([]byte("plain \x1b[31mtext"))
	require.NoError(t, err)
	assert.Equal(t, payload{Name: "?", Text: "plain [31mtext"}, p)

	for name, in := range map[string]string{
		"empty":      "",
		"not quite":  "{hello",
		"no text":    `{"name":"ana"}`,
		"no name":    `{"text":"hello"}`,
		"only space": `{"name":"ana","text":" \n "}`,
		"number":     `{"name":1,"text":"hello"}`,
		"not UTF-8":  "{\"name\":\"a\xff\",\"text\":\"hello\"}",
		"too long":   `{"name":"ana","text":"` + strings.Repeat("a", maxPayload) + `"}`,
	} {
		_, err := decode([]byte(in))
		assert.ErrorIs(t, err, errPayload, name)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(payload{Name: "ana", Text: "hello"}))
	f.Add([]byte(`{"name":"\u001b[31m","text":"\u202e\n\u0301"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decode(b)
		if err != nil {
			return
		}
		for _, s := range []string{p.Name, p.Text} {
			require.True(t, utf8.ValidString(s))
			require.NotContains(t, s, "\n")
			for _, r := range s {
				require.True(t, r == '\u200d' || unicode.IsPrint(r), "%q in %q", r, s)
			}
		}
		again, err := decode(encode(p))
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
