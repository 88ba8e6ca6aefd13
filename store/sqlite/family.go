package sqlite

import "strings"

// family is a statement in several sizes, for as many arguments of a kind. What an
// argument isn't needed for is NULL, which matches nothing.
type family []member

type member struct {
	size int
	text string
}

func newFamily(text func(size int) string, sizes ...int) (f family) {
	for _, n := range sizes {
		f = append(f, member{n, text(n)})
	}
	return f
}

// amongst is a family of statements that end in a list of arguments.
func amongst(text string, sizes ...int) family {
	return newFamily(func(n int) string { return text + ` IN (?` + strings.Repeat(`, ?`, n-1) + `)` }, sizes...)
}

func (f family) texts() (list []string) {
	for _, m := range f {
		list = append(list, m.text)
	}
	return list
}

// fit is the smallest member for n arguments, or the largest there is.
func (f family) fit(n int) member {
	for _, m := range f {
		if m.size >= n {
			return m
		}
	}
	return f[len(f)-1]
}
