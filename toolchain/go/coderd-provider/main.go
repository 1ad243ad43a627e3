// terraform-provider-coderd is this project's stand-in for the published provider coder/coderd 0.0.13, which no
// package registry serves. It has the one resource that the pilot uses, with the published schema.
package main

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
)

// staysVariable makes it stay when the program that started it has ended, as the published provider does: for the test of
// what ends such a one.
const staysVariable = "CODERD_PROVIDER_STAYS"

// orphanCheck is how often the provider looks whether the program that started it still lives.
const orphanCheck = time.Second

func main() {
	sockets, err := os.MkdirTemp("", "coderd-")
	if err != nil {
		log.Fatal(err)
	}
	// go-plugin's variable for where it makes its socket.
	if err := os.Setenv("PLUGIN_UNIX_SOCKET_DIR", sockets); err != nil {
		log.Fatal(err)
	}
	if os.Getenv(staysVariable) == "" {
		go exitWhenOrphaned(os.Getppid())
	}
	// A client that asks has its one connection and needs the socket no more. At the end it would be too late: the
	// client kills a provider that takes more than two seconds to end, as on a busy machine.
	connected := func() { os.RemoveAll(sockets) }
	newProvider := func() provider.Provider { return &coderdProvider{connected: connected} }
	options := providerserver.ServeOpts{Address: "registry.opentofu.org/coder/coderd", ProtocolVersion: 6}
	if err := providerserver.Serve(context.Background(), newProvider, options); err != nil {
		log.Fatal(err)
	}
}

// exitWhenOrphaned is needed because the engine kills the dynamic bridge, which then cannot end the providers that it
// started: without this every Pulumi command would leave a process behind.
func exitWhenOrphaned(parent int) {
	for os.Getppid() == parent {
		time.Sleep(orphanCheck)
	}
	os.Exit(0)
}
