package filter

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-multistream"
)

// doubt is how long what was written on a new stream is held on to. A peer that
// reads one push for a stream closes it within a round trip.
const doubt = 3 * time.Second

// kept is a stream that stays open from one push to the next; subscriber.mu guards
// what changes.
type kept struct {
	stream  network.Stream
	careful bool   // one push at a time until it is trusted
	trusted bool   // it stayed open
	recent  []item // written since it was opened, until it is trusted
	bytes   int    // of recent
}

// hasRoom reports whether another push may be written.
func (k *kept) hasRoom(cfg ServerConfig) bool {
	switch {
	case k.trusted:
		return true
	case k.careful:
		return len(k.recent) == 0
	}
	return len(k.recent) < cfg.Queue && k.bytes < cfg.QueueBytes
}

// stream returns the one that is kept, or a new one.
func (u *subscriber) stream(careful bool) (*kept, error) {
	u.mu.Lock()
	k := u.kept
	trusted := k != nil && k.trusted
	u.mu.Unlock()
	if k != nil && !(trusted && u.closed(k)) {
		return k, nil
	}
	s, err := u.dial()
	if err != nil {
		return nil, err
	}
	k = &kept{stream: s, careful: careful}
	u.mu.Lock()
	ended := u.ended
	if !ended {
		u.kept = k
		u.srv.wg.Go(func() { u.watch(k) })
	}
	u.mu.Unlock()
	if ended {
		s.Reset()
		return nil, errTaken
	}
	return k, nil
}

// closed reports whether the other side has ended a trusted stream, without waiting.
// Then it isn't kept any longer.
func (u *subscriber) closed(k *kept) bool {
	k.stream.SetReadDeadline(time.Now())
	_, err := k.stream.Read(make([]byte, 1))
	if timedOut(err) {
		return false
	}
	if u.leave(k) {
		k.stream.Reset()
	}
	return true
}

func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// leave reports whether k was kept until now. Whoever ends that ends the stream.
func (u *subscriber) leave(k *kept) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.kept != k {
		return false
	}
	u.kept = nil
	return true
}

// dial opens a stream and negotiates the protocol now, not with the first write:
// what is read later is the subscriber's.
func (u *subscriber) dial() (network.Stream, error) {
	ctx, cancel := u.limit()
	defer cancel()
	s, err := u.srv.host.Network().NewStream(noDial(ctx), u.peer)
	if err != nil {
		return nil, slow(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	var none multistream.ErrNotSupported[string]
	switch err = multistream.SelectProtoOrFail(string(PushID), s); {
	case errors.As(err, &none):
		err = ErrUnsupported
	case err == nil:
		if err = s.SetProtocol(PushID); err == nil {
			err = s.Scope().SetService(Service)
		}
	}
	if err != nil {
		s.Reset()
		return nil, slow(ctx, err)
	}
	return s, nil
}

// noDial never dials a stranger, and lets relayed connections do.
func noDial(ctx context.Context) context.Context {
	return network.WithNoDial(network.WithAllowLimitedConn(ctx, Service), Service)
}

// watch finds out what the subscriber makes of a new stream. Silence is trust; the
// end of it says that it reads one push for a stream; all else is a failure.
func (u *subscriber) watch(k *kept) {
	began := time.Now()
	k.stream.SetReadDeadline(began.Add(doubt))
	n, err := k.stream.Read(make([]byte, 1))
	ours, evict := u.watched(k, began, n, err)
	if ours {
		k.stream.Reset()
	}
	if evict != nil {
		u.srv.evict(u, evict)
	}
}

// watched draws the conclusions from what was read, and says whether the stream must
// be ended and the subscriber go.
func (u *subscriber) watched(k *kept, began time.Time, n int, err error) (reset bool, evict error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.kept != k {
		return false, nil
	}
	if n == 0 && timedOut(err) {
		k.trusted, k.recent, k.bytes = true, nil, 0
		u.failures = 0
		u.start()
		return false, nil
	}
	u.kept = nil
	if err == io.EOF && len(k.recent) > 0 {
		u.single, u.failures = true, 0
		u.again(k.recent[1:])
		u.start()
		return true, nil
	}
	if len(k.recent) == 1 {
		k.recent[0].tries++ // nobody else's fault
	}
	u.again(k.recent)
	evict = u.failed(began, err)
	if !u.absent {
		u.start()
	}
	return true, evict
}
