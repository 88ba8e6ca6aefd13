package main

import (
	"log/slog"
	"regexp"
	"strings"
)

var secrets = regexp.MustCompile(`(postgres(?:ql)?://[^@:]*:).*(@)|(password=)[^&\s"]*`)

// discreet puts a text into one line, without the passwords of URLs.
func discreet(text string) string {
	return secrets.ReplaceAllString(strings.Join(strings.Fields(text), " "), "$1$3…$2")
}

// discreetAttr keeps the log to lines, and passwords out of it.
func discreetAttr(_ []string, a slog.Attr) slog.Attr {
	err, isError := a.Value.Any().(error)
	switch {
	case isError:
		a.Value = slog.StringValue(discreet(err.Error()))
	case a.Value.Kind() == slog.KindString:
		a.Value = slog.StringValue(discreet(a.Value.String()))
	}
	return a
}
