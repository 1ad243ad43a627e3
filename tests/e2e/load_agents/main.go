// SPDX-License-Identifier: AGPL-3.0-only

// Command load_agents stands in for the agents of many workspaces. It holds for each what the real agent holds to Coder:
// one connection for its calls, one to the embedded relay, the coordination of addresses, the map of relays. It sends
// what the real one sends, as often: metadata by the manifest, health of apps once, statistics as Coder asks. It runs no
// script and carries no traffic.
//
// The URL is the argument, a token on each line of standard input; after an empty line it prints how many are connected.
// It ends when standard input does, or when Coder ends a connection.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"

	agentproto "github.com/coder/coder/v2/agent/proto"
	"github.com/coder/coder/v2/codersdk/agentsdk"
	tailnetproto "github.com/coder/coder/v2/tailnet/proto"
)

const (
	// Coder takes 512 calls a minute of one address to one path.
	connectInterval = 150 * time.Millisecond
	atOnce          = 10
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address string) error {
	server, err := url.Parse(address)
	if err != nil {
		return err
	}
	broken := make(chan error)
	go func() {
		fmt.Fprintln(os.Stderr, <-broken)
		os.Exit(1)
	}()
	lines := bufio.NewScanner(os.Stdin)
	connected := 0
	var connecting errgroup.Group
	connecting.SetLimit(atOnce)
	for lines.Scan() {
		token := lines.Text()
		if token == "" {
			if err := connecting.Wait(); err != nil {
				return err
			}
			fmt.Println(connected)
			continue
		}
		connected++
		connecting.Go(func() error { return connect(server, token, broken) })
		time.Sleep(connectInterval)
	}
	return lines.Err()
}

func connect(server *url.URL, token string, broken chan<- error) error {
	ctx := context.Background()
	client := agentsdk.New(server, agentsdk.WithFixedToken(token))
	agent, tailnet, err := client.ConnectRPC27(ctx)
	if err != nil {
		return err
	}
	manifest, err := agent.GetManifest(ctx, &agentproto.GetManifestRequest{})
	if err != nil {
		return err
	}
	if _, err := agent.UpdateStartup(ctx, &agentproto.UpdateStartupRequest{Startup: &agentproto.Startup{
		Version: "v2.30.0", ExpandedDirectory: manifest.Directory,
	}}); err != nil {
		return err
	}
	for _, state := range []agentproto.Lifecycle_State{agentproto.Lifecycle_STARTING, agentproto.Lifecycle_READY} {
		if _, err := agent.UpdateLifecycle(ctx, &agentproto.UpdateLifecycleRequest{
			Lifecycle: &agentproto.Lifecycle{State: state, ChangedAt: timestamppb.Now()},
		}); err != nil {
			return err
		}
	}
	healths := &agentproto.BatchUpdateAppHealthRequest{}
	for _, app := range manifest.Apps {
		if app.Healthcheck != nil && app.Healthcheck.Url != "" {
			healths.Updates = append(healths.Updates, &agentproto.BatchUpdateAppHealthRequest_HealthUpdate{
				Id: app.Id, Health: agentproto.AppHealth_HEALTHY,
			})
		}
	}
	if _, err := agent.BatchUpdateAppHealths(ctx, healths); err != nil {
		return err
	}
	if err := join(ctx, server, tailnet, broken); err != nil {
		return err
	}
	go report(ctx, agent, manifest.Metadata, broken)
	go statistics(ctx, agent, broken)
	return nil
}

// join takes part in the network of workspaces, as one whom nobody talks to.
func join(ctx context.Context, server *url.URL, tailnet tailnetproto.DRPCTailnetClient27, broken chan<- error) error {
	private := key.NewNode()
	public, err := private.Public().MarshalBinary()
	if err != nil {
		return err
	}
	disco, err := key.NewDisco().Public().MarshalText()
	if err != nil {
		return err
	}
	maps, err := tailnet.StreamDERPMaps(ctx, &tailnetproto.StreamDERPMapsRequest{})
	if err != nil {
		return err
	}
	coordination, err := tailnet.Coordinate(ctx)
	if err != nil {
		return err
	}
	if err := coordination.Send(&tailnetproto.CoordinateRequest{
		UpdateSelf: &tailnetproto.CoordinateRequest_UpdateSelf{Node: &tailnetproto.Node{
			AsOf: timestamppb.Now(), Key: public, Disco: string(disco), PreferredDerp: 999,
		}},
	}); err != nil {
		return err
	}
	relay, err := derphttp.NewClient(private, server.JoinPath("/derp").String(), func(string, ...any) {})
	if err != nil {
		return err
	}
	if err := relay.Connect(ctx); err != nil {
		return err
	}
	go receive(broken, func() error { _, err := maps.Recv(); return err })
	go receive(broken, func() error { _, err := coordination.Recv(); return err })
	go receive(broken, func() error { _, err := relay.Recv(); return err })
	return nil
}

func receive(broken chan<- error, next func() error) {
	for {
		if err := next(); err != nil {
			broken <- err
			return
		}
	}
}

// report sends what is due, all of one moment in one call.
func report(
	ctx context.Context, agent agentproto.DRPCAgentClient27, what []*agentproto.WorkspaceAgentMetadata_Description,
	broken chan<- error,
) {
	due := make([]time.Time, len(what))
	for count := 0; ; count++ {
		now := time.Now()
		request, next := &agentproto.BatchUpdateMetadataRequest{}, now.Add(time.Hour)
		for index, each := range what {
			if !due[index].After(now) {
				request.Metadata = append(request.Metadata, &agentproto.Metadata{
					Key: each.Key,
					Result: &agentproto.WorkspaceAgentMetadata_Result{
						CollectedAt: timestamppb.New(now),
						Value:       fmt.Sprintf("%d.3/4.0 GiB (%d%%)", count%4, count%100),
					},
				})
				due[index] = now.Add(interval(each.Interval))
			}
			if due[index].Before(next) {
				next = due[index]
			}
		}
		if _, err := agent.BatchUpdateMetadata(ctx, request); err != nil {
			broken <- err
			return
		}
		time.Sleep(time.Until(next))
	}
}

func statistics(ctx context.Context, agent agentproto.DRPCAgentClient27, broken chan<- error) {
	for {
		answer, err := agent.UpdateStats(ctx, &agentproto.UpdateStatsRequest{
			Stats: &agentproto.Stats{ConnectionsByProto: map[string]int64{}},
		})
		if err != nil {
			broken <- err
			return
		}
		time.Sleep(interval(answer.ReportInterval))
	}
}

func interval(told *durationpb.Duration) time.Duration {
	return max(told.AsDuration(), time.Second)
}
