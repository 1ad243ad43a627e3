package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/coder/coder/v2/codersdk"
	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

const (
	// providerVersion is the published release whose behaviour this program has.
	providerVersion = "0.0.13"
	// configureTimeout bounds the one request of Configure, so that a filtered port is an error and not a hang.
	configureTimeout = 30 * time.Second
)

type coderdProvider struct {
	// connected is called when a client asks for the first time, and may be called again.
	connected func()
}

// connection is what Configure hands to the resource.
type connection struct {
	client                *codersdk.Client
	defaultOrganizationID uuid.UUID
}

type providerModel struct {
	URL                   types.String `tfsdk:"url"`
	Token                 types.String `tfsdk:"token"`
	DefaultOrganizationID types.String `tfsdk:"default_organization_id"`
}

func (p *coderdProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	p.connected()
	resp.TypeName = "coderd"
	resp.Version = providerVersion
}

func (*coderdProvider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Manages the templates of a Coder deployment.",
		Attributes: map[string]schema.Attribute{
			"url": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Address of the Coder deployment; `$CODER_URL` when empty.",
			},
			"token": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "API token for the deployment; `$CODER_SESSION_TOKEN` when empty.",
			},
			"default_organization_id": schema.StringAttribute{
				Optional:            true,
				Validators:          []validator.String{uuidValidator},
				MarkdownDescription: "Organization of resources that name none; the token owner's first one when unset.",
			},
		},
	}
}

// Configure asks the server who the token belongs to, so that a wrong url or token fails here, once, and not
// in the middle of a resource.
func (*coderdProvider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var model providerModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	rawURL := orEnvironment(model.URL, "CODER_URL")
	if rawURL == "" {
		resp.Diagnostics.AddAttributeError(path.Root("url"), "No Coder url", "url or $CODER_URL is required")
	}
	token := orEnvironment(model.Token, "CODER_SESSION_TOKEN")
	if token == "" {
		resp.Diagnostics.AddAttributeError(path.Root("token"), "No Coder token",
			"token or $CODER_SESSION_TOKEN is required")
	}
	if resp.Diagnostics.HasError() {
		return
	}
	serverURL, err := parseURL(rawURL)
	if err != nil {
		resp.Diagnostics.AddAttributeError(path.Root("url"), "Invalid Coder url", err.Error())
		return
	}

	client := codersdk.New(serverURL)
	client.SetSessionToken(token)
	asking, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	me, err := client.User(asking, codersdk.Me)
	if err != nil {
		resp.Diagnostics.AddError(explainRefusal(serverURL, err), err.Error())
		return
	}
	organizationID, err := defaultOrganization(model.DefaultOrganizationID, me)
	if err != nil {
		resp.Diagnostics.AddAttributeError(path.Root("default_organization_id"), "No organization", err.Error())
		return
	}
	resp.ResourceData = &connection{client: client, defaultOrganizationID: organizationID}
}

func (*coderdProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{func() resource.Resource { return &templateResource{} }}
}

func (*coderdProvider) DataSources(context.Context) []func() datasource.DataSource { return nil }

// orEnvironment treats an unknown value like an empty one, as the published provider does.
func orEnvironment(value types.String, variable string) string {
	if explicit := value.ValueString(); explicit != "" {
		return explicit
	}
	return os.Getenv(variable)
}

func parseURL(raw string) (*url.URL, error) {
	if !strings.Contains(raw, "://") {
		scheme := "https://"
		if strings.HasPrefix(raw, "localhost") {
			scheme = "http://"
		}
		raw = scheme + raw
	}
	parsed, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	if parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return nil, fmt.Errorf("%q is no http or https address", parsed.Redacted())
	}
	return parsed, nil
}

// explainRefusal says whether Coder was not there or did not like the token.
func explainRefusal(serverURL *url.URL, err error) string {
	var apiError *codersdk.Error
	if errors.As(err, &apiError) {
		return fmt.Sprintf("Coder at %s refused the token (status %d)", serverURL.Redacted(), apiError.StatusCode())
	}
	return fmt.Sprintf("Coder at %s does not answer", serverURL.Redacted())
}

func defaultOrganization(configured types.String, me codersdk.User) (uuid.UUID, error) {
	if id := configured.ValueString(); id != "" {
		return uuid.Parse(id)
	}
	if len(me.OrganizationIDs) == 0 {
		return uuid.Nil, fmt.Errorf("the token's user %q belongs to no organization", me.Username)
	}
	return me.OrganizationIDs[0], nil
}
