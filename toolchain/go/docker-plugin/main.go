// The Pulumi plugin `docker`: the real Terraform provider kreuzwerker/docker behind Pulumi's own bridge,
// with the resource names of the published plugin. No registry serves the published binary.
package main

import (
	"encoding/json"
	"io"
	"log"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfgen"
	shim "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/terraform-providers/terraform-provider-docker/internal/provider"
)

// Version is the published plugin's; set with -ldflags "-X main.Version=…".
var Version = "0.0.0"

func resource(module, name string) *tfbridge.ResourceInfo {
	return &tfbridge.ResourceInfo{Tok: tokens.Type("docker:index/" + module + ":" + name)}
}

func docker() tfbridge.ProviderInfo {
	container := resource("container", "Container")
	// A container's name and published port are exclusive: the old one has to go first.
	container.DeleteBeforeReplace = true
	// The published plugin keeps these two names in the singular.
	container.Fields = map[string]*tfbridge.SchemaInfo{
		"command":           {Name: "command"},
		"networks_advanced": {Name: "networksAdvanced"},
	}
	return tfbridge.ProviderInfo{
		P:            shim.NewProvider(provider.New(Version)()),
		Name:         "docker",
		Version:      Version,
		MetadataInfo: tfbridge.NewProviderMetadata([]byte("{}")),
		Resources: map[string]*tfbridge.ResourceInfo{
			"docker_container": container,
			"docker_image": {
				Tok:    "docker:index/remoteImage:RemoteImage",
				Fields: map[string]*tfbridge.SchemaInfo{"name": {Name: "name"}},
			},
			"docker_network": resource("network", "Network"),
			"docker_volume":  resource("volume", "Volume"),
		},
		IgnoreMappings: []string{
			"docker_registry_image", "docker_config", "docker_secret", "docker_service", "docker_plugin",
			"docker_tag", "docker_buildx_builder", "docker_network", "docker_image", "docker_logs",
			"docker_registry_image_manifests",
		},
	}
}

func main() {
	info := docker()
	sink := diag.DefaultSink(io.Discard, log.Writer(), diag.FormatOptions{Color: colors.Never})
	spec, err := tfgen.GenerateSchema(info, sink)
	if err != nil {
		log.Fatal(err)
	}
	schema, err := json.Marshal(spec)
	if err != nil {
		log.Fatal(err)
	}
	tfbridge.Main("docker", Version, info, schema)
}
