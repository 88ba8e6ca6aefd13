package sharding

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// ContentTopic is a content topic in parts (23/WAKU2-TOPICS),
//
//	/application/version/name/encoding
//	/generation/application/version/name/encoding
//
// Only who derives shards from content topics needs it in this form: on a
// static shard any text that isn't empty will do. Two content topics are equal
// only if their texts are, with the generation written or not.
type ContentTopic struct {
	// Generation of the sharding scheme; only 0 exists.
	Generation int
	// Explicit says that the generation is written: /0/a/1/b/c.
	Explicit bool

	Application string // such as waku
	Version     string // free text, such as 1
	Name        string // such as 0x9c22ff5f
	Encoding    string // such as rfc26
}

// ParseContentTopic reads a content topic: a leading slash, four parts or a
// generation and four, none of them empty, UTF-8 throughout. It doesn't
// allocate. The error is a [*TopicError] of kind [ErrContentTopic].
func ParseContentTopic(topic string) (ContentTopic, error) {
	t, reason := parseContentTopic(topic)
	if reason != "" {
		return ContentTopic{}, &TopicError{ErrContentTopic, topic, reason}
	}
	return t, nil
}

func parseContentTopic(topic string) (t ContentTopic, reason string) {
	rest, ok := strings.CutPrefix(topic, "/")
	if !ok {
		return t, "must begin with a slash"
	}
	var parts [5]string
	n := 0
	for more := true; more; n++ {
		if n == len(parts) {
			return t, "must have four parts, or a generation and four"
		}
		parts[n], rest, more = strings.Cut(rest, "/")
	}
	switch n {
	case 5:
		if reason := checkGeneration(parts[0]); reason != "" {
			return t, reason
		}
		t.Explicit = true
	case 4:
		copy(parts[1:], parts[:4])
	default:
		return t, "must have four parts, or a generation and four"
	}
	t.Application, t.Version, t.Name, t.Encoding = parts[1], parts[2], parts[3], parts[4]
	switch {
	case t.Application == "":
		return t, "the application is empty"
	case t.Version == "":
		return t, "the version is empty"
	case t.Name == "":
		return t, "the name is empty"
	case t.Encoding == "":
		return t, "the encoding is empty"
	case !utf8.ValidString(topic):
		return t, "must be UTF-8"
	}
	return t, ""
}

// checkGeneration returns what is wrong with a written generation.
func checkGeneration(text string) string {
	if text == "" {
		return "the generation is empty"
	}
	if strings.Trim(text, "0123456789") != "" {
		return "of five parts the first must be the generation, a decimal number"
	}
	if text != "0" {
		return "only generation 0 is supported, written 0"
	}
	return ""
}

// String returns the topic's text, from which [ParseContentTopic] makes t again.
func (t ContentTopic) String() string {
	generation := ""
	if t.Explicit || t.Generation != 0 {
		generation = "/" + strconv.Itoa(t.Generation)
	}
	return generation + "/" + t.Application + "/" + t.Version + "/" + t.Name + "/" + t.Encoding
}
