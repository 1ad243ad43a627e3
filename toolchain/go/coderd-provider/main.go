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
	go exitWhenOrphaned(os.Getppid())
	newProvider := func() provider.Provider { return &coderdProvider{} }
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
