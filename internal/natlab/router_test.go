//go:build nat && linux

package natlab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// gateway is the address of the router of a machine's LAN.
func gateway(inside string) string { return inside[:strings.LastIndexByte(inside, '.')] + ".1" }

// ruleset is a router's configuration. Whatever comes unasked is dropped, as home
// routers do: a refusal would end the attempts of those who dial each other at the
// same time. The counter is of packets that
// begin something, or that nobody has answered yet.
func ruleset(k kind, inside string) string {
	var sets, remember, inbound, masquerade string
	masquerade = "masquerade"
	switch k {
	case fullCone:
		sets = `
			set tcp_used { type inet_service; size 65535; timeout 5m; flags dynamic,timeout; }
			set udp_used { type inet_service; size 65535; timeout 5m; flags dynamic,timeout; }`
		remember = `
			iifname "lan" update @tcp_used { tcp sport }
			iifname "lan" update @udp_used { udp sport }`
		inbound = fmt.Sprintf(`
			iifname "wan" tcp dport @tcp_used dnat to %[1]s
			iifname "wan" udp dport @udp_used dnat to %[1]s`, inside)
	case symmetric:
		masquerade = "masquerade fully-random"
	}
	return fmt.Sprintf(`
	table ip home {%s
		map tcp_mapped { type inet_service : ipv4_addr . inet_service; flags timeout; }
		map udp_mapped { type inet_service : ipv4_addr . inet_service; flags timeout; }
		counter begun { }
		chain forward {
			type filter hook forward priority filter; policy drop;%s
			ct state invalid drop
			iifname "lan" ct state new counter name begun
			iifname "lan" accept
			ct state established,related accept
			ct status dnat accept
		}
		chain input {
			type filter hook input priority filter; policy drop;
			iifname { "lan", "lo" } accept
		}
		chain inbound {
			type nat hook prerouting priority dstnat;%s
			iifname "wan" dnat ip to tcp dport map @tcp_mapped
			iifname "wan" dnat ip to udp dport map @udp_mapped
		}
		chain outbound {
			type nat hook postrouting priority srcnat;
			oifname "wan" %s
		}
	}`, sets, remember, inbound, masquerade)
}

// dump writes what goes through the router to a file, if that is asked for.
func (h *home) dump(t *testing.T) {
	t.Helper()
	if *dumps == "" {
		return
	}
	name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name() + "-" + h.machine.Name())
	cmd := exec.Command("tcpdump", "-i", "any", "-n", "-U", "-s", "128", "-w", filepath.Join(*dumps, name+".pcap"))
	require.NoError(t, h.router.Start(cmd))
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
}

// forget makes the router forget all its mappings, as if it had been restarted.
func (h *home) forget(t *testing.T) {
	t.Helper()
	h.router.IP(t, "link set wan down", "link set wan up")
	h.router.Ready(t, "wan")
	if h.kind == fullCone {
		h.router.Run(t, "flush set ip home tcp_used\nflush set ip home udp_used\n", "nft", "-f", "-")
	}
}

// move gives the home another public address, as providers do at night.
func (h *home) move(t *testing.T, public string) {
	t.Helper()
	h.router.IP(t, fmt.Sprintf("addr del %s/8 dev wan", h.public), fmt.Sprintf("addr add %s/8 dev wan", public))
	h.public = public
}

var packets = regexp.MustCompile(`packets (\d+) bytes`)

// begun is how many packets have left the home to which there was no answer yet.
func (h *home) begun(t *testing.T) int {
	t.Helper()
	m := packets.FindStringSubmatch(h.router.Run(t, "", "nft", "list", "counter", "ip", "home", "begun"))
	require.NotNil(t, m)
	n, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	return n
}
