// Command pulumi-resource-command stands in for the pulumi-command plugin, which no package registry serves.
//
// It offers what this project uses of it, the resource command:local:Command and the function command:local:run,
// under the same tokens and schema, so that the published Python package pulumi-command drives both alike.
package main

import (
	"context"
	"fmt"
	"os"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"

	"coder-pilot.local/toolchain/command-plugin/local"
)

// Version is set by the linker: -ldflags "-X main.Version=1.2.1".
var Version = "0.0.0-dev"

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-command:", err)
		os.Exit(1)
	}
}

func serve() error {
	provider, err := infer.NewProviderBuilder().
		WithDisplayName("Command").
		WithDescription("Runs local commands as part of a Pulumi program. Stand-in for pulumi-command.").
		WithResources(infer.Resource(&local.Command{})).
		WithFunctions(infer.Function(&local.Run{})).
		Build()
	if err != nil {
		return err
	}

	return p.RunProvider(context.Background(), "command", Version, provider)
}
