//go:build nat && linux

package natlab

import (
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mapper is what a router has to let others in where machines inside ask for it: as much
// of UPnP's Internet Gateway Device as libp2p uses. There is none for NAT-PMP: libp2p
// doesn't come to ask, its library doesn't tell it the gateway.
type mapper struct {
	home *home
	lies bool // it says yes, and does nothing

	mu     sync.Mutex
	closed bool
	ends   map[string]*time.Timer // by the nft set and the port outside
	asked  int
	close  []io.Closer
}

// mapper gives the home's router one.
func (h *home) mapper(t *testing.T, lies bool) *mapper {
	t.Helper()
	m := &mapper{home: h, lies: lies, ends: map[string]*time.Timer{}}
	gate := gateway(h.inside)
	var found *net.UDPConn
	var web net.Listener
	require.NoError(t, h.router.Do(func() (err error) {
		lan, err := net.InterfaceByName("lan")
		if err != nil {
			return err
		}
		if found, err = net.ListenMulticastUDP("udp4", lan, &net.UDPAddr{IP: net.IPv4(239, 255, 255, 250), Port: 1900}); err != nil {
			return err
		}
		web, err = net.Listen("tcp4", gate+":5000")
		return err
	}))
	server := &http.Server{Handler: http.HandlerFunc(m.serveUPnP)}
	m.close = append(m.close, found, server) // with the connections that stand
	go serveSSDP(found, "http://"+gate+":5000/device.xml")
	go func() { _ = server.Serve(web) }()
	t.Cleanup(m.stop)
	return m
}

// stop is the end of it, and of all that it mapped.
func (m *mapper) stop() {
	m.mu.Lock()
	m.closed = true
	ends := m.ends
	m.ends = map[string]*time.Timer{}
	m.mu.Unlock()
	for key, end := range ends {
		end.Stop()
		m.nft("delete", key, "")
	}
	for _, c := range m.close {
		_ = c.Close()
	}
}

// requests is how often it was asked for a mapping.
func (m *mapper) requests() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

// opened is where others get in: there is one mapping.
func (m *mapper) opened(t *testing.T) string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	require.Len(t, m.ends, 1)
	for key := range m.ends {
		protocol, p, _ := strings.Cut(key, "_mapped { ")
		return fmt.Sprintf("/ip4/%s/%s/%s", m.home.public, protocol, p)
	}
	return ""
}

// add maps a port, for at most a minute.
func (m *mapper) add(protocol string, outside, inside uint16, host netip.Addr) {
	key := fmt.Sprintf("%s_mapped { %d", protocol, outside)
	m.mu.Lock()
	m.asked++
	end := m.ends[key]
	if m.closed || m.lies || end != nil && end.Reset(time.Minute) {
		m.mu.Unlock()
		return
	}
	m.ends[key] = time.AfterFunc(time.Minute, func() { m.remove(protocol, outside) })
	m.mu.Unlock()
	m.nft("add", key, fmt.Sprintf(" : %s . %d", host, inside))
}

func (m *mapper) remove(protocol string, outside uint16) {
	key := fmt.Sprintf("%s_mapped { %d", protocol, outside)
	m.mu.Lock()
	end := m.ends[key]
	delete(m.ends, key)
	m.mu.Unlock()
	if end != nil {
		end.Stop()
		m.nft("delete", key, "")
	}
}

func (m *mapper) nft(verb, key, to string) {
	cmd := exec.Command("nft", verb+" element ip home "+key+to+" }")
	if m.home.router.Start(cmd) == nil {
		_ = cmd.Wait() // if it fails, nobody gets in: the test sees that
	}
}

const (
	wanDevice  = "urn:schemas-upnp-org:device:WANConnectionDevice:1"
	wanService = "urn:schemas-upnp-org:service:WANIPConnection:1"
)

// serveSSDP tells those who look for a router where it describes itself.
func serveSSDP(c *net.UDPConn, location string) {
	b := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if ask := string(b[:n]); strings.HasPrefix(ask, "M-SEARCH ") && strings.Contains(ask, wanDevice) {
			_, _ = c.WriteToUDPAddrPort(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nEXT:\r\n"+
				"ST: %s\r\nUSN: uuid:natlab::%[1]s\r\nLOCATION: %s\r\nSERVER: natlab\r\n\r\n", wanDevice, location), from)
		}
	}
}

// serveUPnP is the router's description, and its only service.
func (m *mapper) serveUPnP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		fmt.Fprintf(w, `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
			<deviceType>%s</deviceType><UDN>uuid:natlab</UDN><serviceList><service>
			<serviceType>%s</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
			<SCPDURL>/scpd.xml</SCPDURL><controlURL>/control</controlURL><eventSubURL>/event</eventSubURL>
			</service></serviceList></device></root>`, wanDevice, wanService)
		return
	}
	_, action, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPAction"), `"`), "#")
	var ask struct {
		Body struct {
			Action struct {
				NewExternalPort, NewInternalPort uint16
				NewProtocol, NewInternalClient   string
			} `xml:",any"`
		}
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err := xml.Unmarshal(body, &ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	x, out := ask.Body.Action, ""
	switch action {
	case "GetNATRSIPStatus":
		out = "<NewRSIPAvailable>0</NewRSIPAvailable><NewNATEnabled>1</NewNATEnabled>"
	case "GetExternalIPAddress":
		out = "<NewExternalIPAddress>" + m.home.public + "</NewExternalIPAddress>"
	case "AddPortMapping":
		host, err := netip.ParseAddr(x.NewInternalClient)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		m.add(strings.ToLower(x.NewProtocol), x.NewExternalPort, x.NewInternalPort, host)
	case "DeletePortMapping":
		m.remove(strings.ToLower(x.NewProtocol), x.NewExternalPort)
	}
	fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" `+
		`s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:%sResponse xmlns:u="%s">%s</u:%[1]sResponse></s:Body></s:Envelope>`,
		action, wanService, out)
}
