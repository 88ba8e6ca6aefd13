package dnsdisc

import "errors"

// What an *Error wraps; match them with errors.Is.
var (
	ErrURL        = errors.New("not the URL of a DNS tree")
	ErrNoAnswer   = errors.New("no answer from the DNS resolver")
	ErrNoTree     = errors.New("there is no tree at that name")
	ErrMalformed  = errors.New("its root makes no sense")
	ErrSignature  = errors.New("its root isn't signed by the key in the URL")
	ErrReplay     = errors.New("its root is older than one seen before")
	ErrIncomplete = errors.New("some of its entries can't be read")
	ErrLimit      = errors.New("it is larger than allowed")
	ErrCache      = errors.New("dnsdisc: not a cached tree")
)

// Error says in one sentence what is wrong with a tree.
type Error struct {
	Tree  string // its domain name, or for ErrURL what was given instead
	Err   error  // one of the above
	Cause error  // details, often the resolver's error; may be nil
}

// Error implements error.
func (e *Error) Error() string {
	s := "DNS tree " + e.Tree + ": " + e.Err.Error()
	if e.Cause != nil {
		s += " (" + e.Cause.Error() + ")"
	}
	return s
}

// Unwrap returns Err and Cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}
