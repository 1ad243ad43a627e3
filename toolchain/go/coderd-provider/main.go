// terraform-provider-coderd is this project's stand-in for the published provider coder/coderd 0.0.13, which no
// package registry serves. It has the one resource that the pilot uses, with the published schema.
package main

import (
	"context"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
)

func main() {
	newProvider := func() provider.Provider { return &coderdProvider{} }
	options := providerserver.ServeOpts{Address: "registry.opentofu.org/coder/coderd", ProtocolVersion: 6}
	if err := providerserver.Serve(context.Background(), newProvider, options); err != nil {
		log.Fatal(err)
	}
}
