// terraform-provider-kubernetes is this project's stand-in for the published provider hashicorp/kubernetes 3.2.1, which no
// package registry serves: the three resources of terraform-template-kubernetes/, with the published names and blocks as
// far as that template uses them. tests/contract/test_kubernetes_provider.py holds it to the published behaviour.
//
// A state is not interchangeable: the published provider writes a newer one.
package main

import (
	"context"

	"github.com/hashicorp/terraform-plugin-sdk/v2/diag"
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"github.com/hashicorp/terraform-plugin-sdk/v2/plugin"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	plugin.Serve(&plugin.ServeOpts{ProviderFunc: provider})
}

func provider() *schema.Provider {
	return &schema.Provider{
		Schema: map[string]*schema.Schema{
			"config_path": {
				Type: schema.TypeString, Optional: true, DefaultFunc: schema.EnvDefaultFunc("KUBE_CONFIG_PATH", nil),
			},
		},
		ResourcesMap: map[string]*schema.Resource{
			"kubernetes_deployment_v1":              deployment().resource(),
			"kubernetes_persistent_volume_claim_v1": claim().resource(),
			"kubernetes_secret_v1":                  secret().resource(),
		},
		ConfigureContextFunc: configure,
	}
}

// configure fails for no kubeconfig: as with the published provider, one that cannot be used shows in the first request,
// which goes to this machine then.
func configure(_ context.Context, data *schema.ResourceData) (any, diag.Diagnostics) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: data.Get("config_path").(string)}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		config = &rest.Config{}
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, diag.FromErr(err)
	}
	return client, nil
}
