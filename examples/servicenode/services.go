package main

import (
	"errors"
	"flag"
	"strconv"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/waku"
)

// serviceSettings say what the node does for members who don't relay, and for whoever
// looks for peers.
type serviceSettings struct {
	filter, lightPush, exchange bool
	noPoint, noCircuits         bool
	filterLimits                filter.ServerConfig
	pushLimits                  lightpush.ServerConfig
}

func (s *serviceSettings) flags(f *flag.FlagSet) {
	f.BoolVar(&s.filter, "filter", false, "push messages to light members, who don't relay")
	f.Func("filter-subscribers", "`number` of light members to push to at once (default 5000)", count(&s.filterLimits.MaxSubscribers))
	f.Func("filter-topics", "`number` of content topics that one of them may ask for (default 1000)", count(&s.filterLimits.MaxCriteria))
	f.BoolVar(&s.lightPush, "lightpush", false, "publish the messages of light members")
	f.Func("lightpush-rate", "`number` of messages a second that one of them may push (default 5)", func(text string) error {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n > 0 && n <= 10_000) {
			return errors.New("want a number above 0, 10000 at most")
		}
		s.pushLimits.Rate = n
		return nil
	})
	f.BoolVar(&s.exchange, "peer-exchange", false, "name peers that are alive to whoever asks")
	f.Func("rendezvous-point", "`on or off`: let members of the shards register here, so that they find each other (default on)", onOrOff(&s.noPoint))
	f.Func("circuit-relay", "`on or off`: let members behind home routers be reached through this node, and make\ntheir direct connections; what they say doesn't go this way (default on)", onOrOff(&s.noCircuits))
}

// onOrOff sets off.
func onOrOff(off *bool) func(string) error {
	return func(text string) error {
		if text != "on" && text != "off" {
			return errors.New("want on or off")
		}
		*off = text == "off"
		return nil
	}
}

func count(into *int) func(string) error {
	return func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1_000_000 {
			return errors.New("want a number from 1 to 1000000")
		}
		*into = n
		return nil
	}
}

// check names a limit of a service that isn't asked for.
func (s *serviceSettings) check() error {
	switch {
	case !s.filter && (s.filterLimits.MaxSubscribers != 0 || s.filterLimits.MaxCriteria != 0):
		return wrong("--filter-subscribers and --filter-topics go with --filter")
	case !s.lightPush && s.pushLimits.Rate != 0:
		return wrong("--lightpush-rate goes with --lightpush")
	}
	return nil
}

func (s *serviceSettings) options() (options []waku.Option) {
	if s.filter {
		options = append(options, waku.WithFilterService(s.filterLimits))
	}
	if s.lightPush {
		options = append(options, waku.WithLightPushService(s.pushLimits))
	}
	if s.exchange {
		options = append(options, waku.WithPeerExchangeService(peerexchange.ServerConfig{}))
	}
	if s.noPoint {
		options = append(options, waku.WithoutRendezvousPoint())
	}
	if s.noCircuits {
		options = append(options, waku.WithoutCircuitRelay())
	}
	return options
}

// names are what the line on stdout calls them.
func (s *serviceSettings) names() (names []string) {
	if s.filter {
		names = append(names, "filter")
	}
	if s.lightPush {
		names = append(names, "lightpush")
	}
	if s.exchange {
		names = append(names, "peer-exchange")
	}
	return names
}
