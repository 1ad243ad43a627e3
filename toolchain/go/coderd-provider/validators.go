package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/coder/coder/v2/codersdk"
	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
)

// stringCheck refuses at plan time what the server would refuse later.
type stringCheck struct {
	description string
	check       func(string) error
}

var (
	uuidValidator = stringCheck{"a UUID", func(value string) error {
		_, err := uuid.Parse(value)
		return err
	}}
	nameValidator        = stringCheck{"a Coder name", codersdk.NameValid}
	displayNameValidator = stringCheck{"a Coder display name", codersdk.DisplayNameValid}
	versionNameValidator = stringCheck{"a template version's name", codersdk.TemplateVersionNameValid}
	aclRoleValidator     = oneOf(string(codersdk.TemplateRoleAdmin), string(codersdk.TemplateRoleUse))
	corsValidator        = oneOf(string(codersdk.CORSBehaviorSimple), string(codersdk.CORSBehaviorPassthru))
	portShareValidator   = oneOf(
		string(codersdk.WorkspaceAgentPortShareLevelOwner),
		string(codersdk.WorkspaceAgentPortShareLevelAuthenticated),
		string(codersdk.WorkspaceAgentPortShareLevelOrganization),
		string(codersdk.WorkspaceAgentPortShareLevelPublic),
	)
)

func oneOf(allowed ...string) stringCheck {
	description := "one of " + strings.Join(allowed, ", ")
	return stringCheck{description, func(value string) error {
		if slices.Contains(allowed, value) {
			return nil
		}
		return fmt.Errorf("must be %s", description)
	}}
}

func (c stringCheck) Description(context.Context) string         { return "must be " + c.description }
func (c stringCheck) MarkdownDescription(context.Context) string { return "must be " + c.description }

func (c stringCheck) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := c.check(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.AddAttributeError(req.Path, "Not "+c.description,
			fmt.Sprintf("%q: %s", req.ConfigValue.ValueString(), err))
	}
}
