// Command testcontrol is a tailnet for tests, on loopback: Tailscale's own test control server and one relay (DERP).
//
// It prints its URL, the value for `tailscale up --login-server=`, as the only line on standard output once both
// listen, and ends with status 0 on SIGTERM or SIGINT. Every node that asks is let in, so it binds loopback only.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os/signal"
	"syscall"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stunserver"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "loopback `address` of the control server; port 0 picks a free one")
	domain := flag.String("domain", "tailnet.test", "MagicDNS `domain`: a node h gets the name h.<domain> and may have its certificate")
	https := flag.Bool("https", true, "the tailnet has HTTPS certificates enabled (its nodes have the https capability)")
	flag.Parse()
	log.SetPrefix("testcontrol: ")
	if err := serve(*listen, *domain, *https); err != nil {
		log.Fatal(err)
	}
}

func serve(listen, domain string, https bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	// A node without a relay stays in the state "Starting" for ever, so even a tailnet on one machine has one.
	relay := derpserver.New(key.NewNode(), log.Printf)
	defer relay.Close()
	derp := httptest.NewUnstartedServer(derpserver.Handler(relay))
	derp.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // a relay connection is hijacked, which HTTP/2 cannot do
	derp.StartTLS()
	defer derp.Close()

	// Without STUN every node spends its first half minute on finding out that UDP seems blocked, and rebinds.
	stun := stunserver.New(ctx)
	if err := stun.Listen("127.0.0.1:0"); err != nil {
		return err
	}
	go stun.Serve()

	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return fmt.Errorf("-listen=%s is not a loopback address, and this server lets everybody in", listen)
	}
	control := &testcontrol.Server{
		DERPMap:          relayMap(derp.Listener.Addr().(*net.TCPAddr).Port, stun.LocalAddr().(*net.UDPAddr).Port),
		DNSConfig:        &tailcfg.DNSConfig{Proxied: true, Domains: []string{domain}},
		MagicDNSDomain:   domain,
		ExplicitBaseURL:  "http://" + listener.Addr().String(),
		AllNodesSameUser: true,
		AllOnline:        true,
	}
	if !https {
		control.DefaultNodeCapabilities = &tailcfg.NodeCapMap{}
	}
	server := &http.Server{Handler: control}
	context.AfterFunc(ctx, func() { server.Close() }) // not Shutdown: the nodes' long polls would never drain
	fmt.Println(control.ExplicitBaseURL)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// relayMap tells the nodes of the one relay, on these ports of loopback.
func relayMap(derpPort, stunPort int) *tailcfg.DERPMap {
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: {
		RegionID:   1,
		RegionCode: "test",
		Nodes: []*tailcfg.DERPNode{{
			Name:             "test",
			RegionID:         1,
			HostName:         "127.0.0.1",
			IPv4:             "127.0.0.1",
			IPv6:             "none",
			STUNPort:         stunPort,
			STUNTestIP:       "127.0.0.1",
			DERPPort:         derpPort,
			InsecureForTests: true, // its certificate is httptest's
		}},
	}}}
}
