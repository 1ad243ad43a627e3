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

// orphanCheck is how often the provider looks whether the program that started it still lives.
const orphanCheck = time.Second

func main() {
	sockets, err := os.MkdirTemp("", "coderd-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(sockets)
	// go-plugin's variable for where it makes its socket.
	if err := os.Setenv("PLUGIN_UNIX_SOCKET_DIR", sockets); err != nil {
		log.Fatal(err)
	}
	go exitWhenOrphaned(os.Getppid(), sockets)
	newProvider := func() provider.Provider { return &coderdProvider{} }
	options := providerserver.ServeOpts{Address: "registry.opentofu.org/coder/coderd", ProtocolVersion: 6}
	if err := providerserver.Serve(context.Background(), newProvider, options); err != nil {
		log.Fatal(err)
	}
}

// exitWhenOrphaned is needed because the engine kills the dynamic bridge, which then cannot end the providers that it
// started: without this every Pulumi command would leave a process and its socket behind.
func exitWhenOrphaned(parent int, sockets string) {
	for os.Getppid() == parent {
		time.Sleep(orphanCheck)
	}
	os.RemoveAll(sockets)
	os.Exit(0)
}
