package dnsdisc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// Resolver answers DNS questions; a *net.Resolver is one. LookupTXT returns the
// TXT records of a name, the pieces of a long one joined. It ends with its
// context. A name that doesn't exist is a *net.DNSError with IsNotFound, or no
// text at all; any other error means that the question remains open.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// At returns a Resolver that asks one DNS server: an IP address or host name,
// with or without a port. It asks by UDP, and again by TCP when the answer was
// cut short.
func At(addr string) (Resolver, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = addr, "53"
		if inner, ok := strings.CutPrefix(addr, "["); ok {
			host = strings.TrimSuffix(inner, "]")
		}
	}
	if _, err := netip.ParseAddr(host); err != nil && checkDomain(strings.ToLower(host)) != nil {
		return nil, fmt.Errorf("dnsdisc: %q isn't the address of a DNS server", addr)
	}
	if n, err := net.LookupPort("udp", port); err != nil || n == 0 {
		return nil, fmt.Errorf("dnsdisc: %q isn't the address of a DNS server", addr)
	}
	addr = net.JoinHostPort(host, port)
	return server{addr, absolute{&net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}}}, nil
}

type server struct {
	addr string
	Resolver
}

func (s server) LookupTXT(ctx context.Context, name string) ([]string, error) {
	txts, err := s.Resolver.LookupTXT(ctx, name)
	var d *net.DNSError
	if errors.As(err, &d) {
		mine := *d
		mine.Server = s.addr // it names one of the system's
		return txts, &mine
	}
	return txts, err
}

// absolute asks for a name as it is, and not within the system's search
// domains as well, where somebody else's answers may come from.
type absolute struct{ Resolver }

func (a absolute) LookupTXT(ctx context.Context, name string) ([]string, error) {
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	return a.Resolver.LookupTXT(ctx, name)
}

func rooted(r Resolver) Resolver {
	if _, ok := r.(*net.Resolver); ok {
		return absolute{r}
	}
	return r
}

// Chain returns a Resolver that asks one after the other until one has an
// answer, each for its share of the time. The one that had the last answer
// comes first the next time. That a name doesn't exist is believed when all say
// so, since the resolvers of some networks hide what they don't like.
func Chain(resolvers ...Resolver) Resolver {
	c := &chain{}
	for _, r := range resolvers {
		c.resolvers = append(c.resolvers, rooted(r))
	}
	return c
}

type chain struct {
	resolvers []Resolver
	first     atomic.Int32
}

var (
	errUnfit   = errors.New("the answer isn't what was asked for")
	errNoEntry = errors.New("an entry doesn't exist")
)

// LookupTXT implements Resolver.
func (c *chain) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return c.lookup(ctx, name, func([]string) bool { return true })
}

// lookup is LookupTXT for answers that are fit.
func (c *chain) lookup(ctx context.Context, name string, fit func([]string) bool) ([]string, error) {
	if len(c.resolvers) == 0 {
		return nil, errors.New("dnsdisc: no resolver in the chain")
	}
	var open, missing []error
	var unfit []string
	first := int(c.first.Load())
	for i := range c.resolvers {
		at := (first + i) % len(c.resolvers)
		txts, err := lookup(ctx, c.resolvers[at], name, share(ctx, len(c.resolvers)-i))
		switch {
		case err == nil && len(txts) > 0 && fit(txts):
			c.first.Store(int32(at))
			return txts, nil
		case err == nil && len(txts) > 0:
			unfit = txts
		case err == nil || isNotFound(err):
			missing = append(missing, err)
		default:
			open = append(open, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	switch {
	case unfit != nil:
		return unfit, nil // the caller sees what is wrong with it
	case len(open) > 0:
		return nil, inOneLine(open)
	default:
		return nil, missing[0]
	}
}

func inOneLine(errs []error) error {
	err := errs[0]
	for _, next := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, next)
	}
	return err
}

// share divides what is left of ctx's time.
func share(ctx context.Context, among int) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok || among <= 1 {
		return 0
	}
	return time.Until(deadline) / time.Duration(among)
}

// lookup asks one resolver, with a limit if there is to be one.
func lookup(ctx context.Context, r Resolver, name string, limit time.Duration) (txts []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			txts, err = nil, fmt.Errorf("the resolver panicked: %v", p)
		}
	}()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return r.LookupTXT(ctx, name)
}

func isNotFound(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}
