package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/store"
)

// clientsWord is the argument with which this program is the clients alone.
const clientsWord = "clients"

// clientsTask is what the clients are told on their standard input.
type clientsTask struct {
	Addr, Peer string
	Clients    int
	For        time.Duration
	Seed       uint64
	Rows, Days int
	Start      time.Time
}

// clientsFound is what they answer.
type clientsFound struct {
	Took   []time.Duration // of each page
	Errors map[string]int  // how often which
}

// clients are members who catch up: each has a host and a connection of its own,
// begins somewhere in the data set and walks towards the present, a hundred
// messages a page, at the pace that the client's own rate limit allows.
func clients(ctx context.Context) error {
	var task clientsTask
	if err := json.NewDecoder(os.Stdin).Decode(&task); err != nil {
		return err
	}
	addr, err := ma.NewMultiaddr(task.Addr)
	if err != nil {
		return err
	}
	id, err := peer.Decode(task.Peer)
	if err != nil {
		return err
	}
	to := peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{addr}}
	w := newWorkload(options{rows: task.Rows, days: task.Days, seed: task.Seed}, time.Now())
	w.start = task.Start

	hosts := make([]host.Host, task.Clients)
	for i := range hosts {
		if hosts[i], err = libp2p.New(libp2p.NoListenAddrs); err != nil {
			return err
		}
		defer hosts[i].Close()
		if err := hosts[i].Connect(ctx, to); err != nil {
			return err
		}
	}
	var took samples
	found := clientsFound{Errors: map[string]int{}}
	var mu sync.Mutex
	over, cancel := context.WithTimeout(ctx, task.For)
	defer cancel()
	var wait sync.WaitGroup
	for i, h := range hosts {
		r := rand.New(rand.NewPCG(task.Seed, uint64(i)))
		wait.Go(func() {
			c := store.NewClient(h, store.ClientConfig{})
			for over.Err() == nil {
				err := catchUp(over, c, id, w.times(time.Hour, true, true).ask(r).Start, &took)
				if err == nil || over.Err() != nil {
					continue
				}
				mu.Lock()
				found.Errors[reason(err)]++
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	found.Took = took.list
	return json.NewEncoder(os.Stdout).Encode(found)
}

func catchUp(ctx context.Context, c *store.Client, from peer.ID, start time.Time, took *samples) error {
	walk, err := c.Walk(store.Query{Shard: &shard, Start: start})
	if err != nil {
		return err
	}
	for more := true; more; {
		begin := time.Now()
		if _, more, err = walk.Next(ctx, from); err != nil {
			return err
		}
		took.add(time.Since(begin))
	}
	return nil
}
