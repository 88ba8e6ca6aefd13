package filter

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/sharding"
)

// The fields of FilterSubscribeRequest.
const (
	reqID            protowire.Number = 1
	reqKind          protowire.Number = 2
	reqPubsubTopic   protowire.Number = 10
	reqContentTopics protowire.Number = 11
)

// Limits of a request, in bytes. MaxTopicLen is far beyond what anybody uses.
const (
	MaxTopicLen = 1024
	maxID       = 256
	maxRequest  = 128 << 10
)

// kind is what is asked for, FilterSubscribeType.
type kind uint64

const (
	ping kind = iota
	subscribe
	unsubscribe
	unsubscribeAll
)

func (k kind) named() bool { return k == subscribe || k == unsubscribe }

// request is a FilterSubscribeRequest.
type request struct {
	id            string
	kind          kind
	pubsubTopic   string
	contentTopics []string
	tooMany       bool // there were more than were kept
}

// append writes the request, fields in the order of their numbers, the first two
// always. Ping and unsubscribeAll have no topics.
func (r request) append(b []byte) []byte {
	b = wire.AppendString(b, reqID, r.id)
	b = wire.AppendVarint(b, reqKind, uint64(r.kind))
	if r.kind.named() {
		b = wire.AppendString(b, reqPubsubTopic, r.pubsubTopic)
	}
	for _, t := range r.contentTopics {
		b = wire.AppendString(b, reqContentTopics, t)
	}
	return b
}

// decodeRequest reads a request and keeps so many of its content topics. Beside the
// error, ErrMalformed, it returns what it could read, the id above all. Of a field
// that may occur once the last counts. Unknown fields are skipped.
func decodeRequest(b []byte, maxTopics int) (request, error) {
	var (
		r     request
		wrong error // the first thing wrong that doesn't keep us from reading on
	)
	err := wire.Fields(b, func(f wire.Field) error {
		if wrong == nil || f.Num == reqID {
			if err := r.set(f, maxTopics); wrong == nil {
				wrong = err
			}
		}
		return nil
	})
	if wrong != nil {
		err = wrong
	}
	return r, err
}

func (r *request) set(f wire.Field, maxTopics int) (err error) {
	switch f.Num {
	case reqID:
		b, err := f.Raw("request_id")
		if err != nil {
			return err
		}
		if len(b) > maxID {
			return wire.Malformed("request_id has more than %d bytes", maxID)
		}
		id, err := f.Text("request_id")
		if err == nil {
			r.id = id
		}
		return err
	case reqKind:
		var v uint64
		v, err = f.Varint("filter_subscribe_type")
		r.kind = kind(v)
	case reqPubsubTopic:
		r.pubsubTopic, err = f.Text("pubsub_topic")
	case reqContentTopics:
		if len(r.contentTopics) == maxTopics {
			r.tooMany = true
			_, err = f.Raw("content_topics")
			return err
		}
		var t string
		if t, err = f.Text("content_topics"); err == nil {
			r.contentTopics = append(r.contentTopics, t)
		}
	}
	return err
}

// check says what is wrong with a request that could be read.
func (r request) check(maxTopics int) error {
	if r.id == "" {
		return errors.New("request_id is missing")
	}
	if r.kind > unsubscribeAll {
		return errors.New("filter_subscribe_type is unknown")
	}
	if !r.kind.named() {
		return nil
	}
	switch _, err := sharding.ParsePubsubTopic(r.pubsubTopic); {
	case r.pubsubTopic == "":
		return errors.New("pubsub_topic is missing")
	case err != nil:
		return errors.New("pubsub_topic is no static shard, /waku/2/rs/<cluster>/<shard>")
	case len(r.contentTopics) == 0:
		return errors.New("content_topics are missing")
	case r.tooMany:
		return fmt.Errorf("content_topics are more than %d", maxTopics)
	}
	for _, t := range r.contentTopics {
		switch {
		case t == "":
			return errors.New("one of content_topics is empty")
		case len(t) > MaxTopicLen:
			return fmt.Errorf("one of content_topics has more than %d bytes", MaxTopicLen)
		}
	}
	return nil
}
