package dnstest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Server answers DNS questions about a Zone on a port of 127.0.0.1, by UDP and
// TCP.
type Server struct {
	zone     *Zone
	udp      net.PacketConn
	tcp      net.Listener
	ctx      context.Context
	stop     context.CancelFunc
	done     sync.WaitGroup
	truncate bool
}

// Option changes what Serve makes.
type Option func(*Server)

// Truncated makes the server cut every answer by UDP short, so that TCP is
// needed for each.
func Truncated() Option { return func(s *Server) { s.truncate = true } }

// Serve starts a server.
func Serve(zone *Zone, opts ...Option) (*Server, error) {
	s := &Server{zone: zone}
	for _, opt := range opts {
		opt(s)
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.done.Go(s.serveUDP)
	s.done.Go(s.serveTCP)
	return s, nil
}

// listen takes one port for both; somebody else may have it for TCP.
func (s *Server) listen() (err error) {
	for range 10 {
		if s.udp, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			return err
		}
		if s.tcp, err = net.Listen("tcp4", s.udp.LocalAddr().String()); err == nil {
			return nil
		}
		_ = s.udp.Close()
	}
	return err
}

// Addr returns where to ask, host and port.
func (s *Server) Addr() string { return s.udp.LocalAddr().String() }

// Close stops the server and waits for it.
func (s *Server) Close() error {
	s.stop()
	err := errors.Join(s.udp.Close(), s.tcp.Close())
	s.done.Wait()
	return err
}

func (s *Server) serveUDP() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		question := append([]byte(nil), buf[:n]...)
		s.done.Go(func() {
			if reply := s.answer(question, true); reply != nil {
				_, _ = s.udp.WriteTo(reply, from)
			}
		})
	}
}

func (s *Server) serveTCP() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			return
		}
		s.done.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(s.ctx, func() { _ = conn.Close() })()
			for {
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				var length [2]byte
				if _, err := io.ReadFull(conn, length[:]); err != nil {
					return
				}
				question := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(conn, question); err != nil {
					return
				}
				reply := s.answer(question, false)
				if reply == nil {
					<-s.ctx.Done() // dropped
					return
				}
				if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
					return
				}
			}
		})
	}
}

// answer returns nil if there is to be no answer.
func (s *Server) answer(question []byte, udp bool) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(question)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: h.ID, Response: true, Authoritative: true,
			RecursionDesired: h.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{q},
	}
	if udp && s.truncate {
		m.Truncated = true
		reply, _ := m.Pack()
		return reply
	}
	if !s.look(&m, q) {
		return nil
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	if udp && len(reply) > payloadSize(&p) {
		m.Truncated, m.Answers = true, nil
		reply, _ = m.Pack()
	}
	return reply
}

// look fills in the answer; false: none is to be given.
func (s *Server) look(m *dnsmessage.Message, q dnsmessage.Question) bool {
	if q.Type != dnsmessage.TypeTXT {
		return true
	}
	txts, delay, err := s.zone.look(q.Name.String())
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			return false
		}
	}
	switch {
	case errors.Is(err, errDropped):
		return false
	case err != nil:
		m.RCode = dnsmessage.RCodeServerFailure
		return true
	case len(txts) == 0:
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range txts {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.TXTResource{TXT: pieces(text)},
		})
	}
	return true
}

// pieces cuts a text as a TXT record has it.
func pieces(text string) (out []string) {
	const most = 255
	for len(text) > most {
		out = append(out, text[:most])
		text = text[most:]
	}
	return append(out, text)
}

// payloadSize returns how long an answer by UDP may be, which the asker says in
// an OPT record.
func payloadSize(p *dnsmessage.Parser) int {
	const least = 512
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return least
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return least
		}
		if h.Type == dnsmessage.TypeOPT {
			return max(least, int(h.Class))
		}
		if p.SkipAdditional() != nil {
			return least
		}
	}
}
