// The Pulumi plugin `random`: the real Terraform provider hashicorp/random behind Pulumi's own bridge.
// No registry serves the published binary.
package main

import (
	"context"
	"io"
	"log"

	pf "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfgen"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"
	"github.com/terraform-providers/terraform-provider-random/internal/provider"
)

// Version is the published plugin's; set with -ldflags "-X main.Version=…".
var Version = "0.0.0"

func main() {
	ctx := context.Background()
	info := tfbridge.ProviderInfo{
		P:            pf.ShimProvider(provider.New()),
		Name:         "random",
		Version:      Version,
		MetadataInfo: tfbridge.NewProviderMetadata([]byte("{}")),
		Resources: map[string]*tfbridge.ResourceInfo{
			"random_password": {Tok: "random:index/randomPassword:RandomPassword"},
		},
		IgnoreMappings: []string{
			"random_bytes", "random_id", "random_integer", "random_pet", "random_shuffle", "random_string",
			"random_uuid", "random_uuid4", "random_uuid7",
		},
	}
	sink := diag.DefaultSink(io.Discard, log.Writer(), diag.FormatOptions{Color: colors.Never})
	generated, err := tfgen.GenerateSchema(ctx, tfgen.GenerateSchemaOptions{ProviderInfo: info, DiagnosticsSink: sink})
	if err != nil {
		log.Fatal(err)
	}
	pf.Main(ctx, "random", info, generated.ProviderMetadata)
}
