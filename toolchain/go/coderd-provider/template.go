package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/coder/coder/v2/codersdk"
	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
)

type templateResource struct{ *connection }

func (*templateResource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_template"
}

func (*templateResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = templateSchema()
}

// Configure is also called before the provider is configured, with no data.
func (r *templateResource) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	r.connection, _ = req.ProviderData.(*connection)
}

func (r *templateResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model templateModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	r.fillUnset(&model)
	resp.Diagnostics.Append(refuseLicensed(ctx, model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	template, err := r.create(ctx, &model)
	if err != nil {
		resp.Diagnostics.AddError(fmt.Sprintf("Template %q was not created", model.Name.ValueString()), err.Error())
		return
	}
	model.readTemplate(template)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

func (r *templateResource) create(ctx context.Context, model *templateModel) (codersdk.Template, error) {
	organization := uuid.MustParse(model.OrganizationID.ValueString())
	var template codersdk.Template
	for i := range model.Versions {
		version := &model.Versions[i]
		pushed, err := r.pushVersion(ctx, organization, template.ID, *version)
		if err != nil {
			return template, err
		}
		version.ID, version.Name = types.StringValue(pushed.ID.String()), types.StringValue(pushed.Name)
		if i == 0 {
			if template, err = r.client.CreateTemplate(ctx, organization, model.createRequest(pushed.ID)); err != nil {
				return template, err
			}
		}
		if version.Active.ValueBool() {
			if err := r.activate(ctx, template.ID, pushed.ID); err != nil {
				return template, err
			}
		}
	}
	return r.client.Template(ctx, template.ID)
}

func (r *templateResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model templateModel
	resp.Diagnostics.Append(req.State.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	template, err := r.client.Template(ctx, uuid.MustParse(model.ID.ValueString()))
	if hasStatus(err, http.StatusNotFound) {
		// The published 0.0.13 goes on here, so that the resource stays, with the id of no template.
		resp.State.RemoveResource(ctx)
	} else if err != nil {
		resp.Diagnostics.AddError("The template cannot be read", err.Error())
		return
	}
	model.readTemplate(template)
	for i := range model.Versions {
		id := model.Versions[i].ID.ValueString()
		version, err := r.client.TemplateVersion(ctx, uuid.MustParse(id))
		if err != nil {
			resp.Diagnostics.AddError("Template version "+id+" cannot be read", err.Error())
			return
		}
		model.Versions[i].Name = types.StringValue(version.Name)
		model.Versions[i].Message = types.StringValue(version.Message)
		model.Versions[i].Active = types.BoolValue(version.ID == template.ActiveVersionID)
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

func (r *templateResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, old templateModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &old)...)
	if resp.Diagnostics.HasError() {
		return
	}
	r.fillUnset(&model)
	resp.Diagnostics.Append(refuseLicensed(ctx, model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	template, err := r.update(ctx, &model, old)
	if err != nil {
		resp.Diagnostics.AddError(fmt.Sprintf("Template %q was not updated", old.Name.ValueString()), err.Error())
		return
	}
	model.readTemplate(template)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

// update makes a version active last, so that a version that cannot be imported changes nothing for anybody.
func (r *templateResource) update(ctx context.Context, model *templateModel, old templateModel) (codersdk.Template, error) {
	id := uuid.MustParse(model.ID.ValueString())
	organization := uuid.MustParse(model.OrganizationID.ValueString())
	template, err := r.client.Template(ctx, id)
	if err != nil {
		return template, err
	}
	// Coder answers 304 to a request that changes nothing, which its client takes for a failure.
	if model.differsFrom(template) {
		if template, err = r.client.UpdateTemplateMeta(ctx, id, model.updateRequest()); err != nil {
			return template, err
		}
	}
	for i := range model.Versions {
		version := &model.Versions[i]
		if version.ID.IsUnknown() {
			pushed, err := r.pushVersion(ctx, organization, id, *version)
			if err != nil {
				return template, err
			}
			version.ID, version.Name = types.StringValue(pushed.ID.String()), types.StringValue(pushed.Name)
		} else if err := r.relabel(ctx, *version, old.Versions); err != nil {
			return template, err
		}
		versionID := uuid.MustParse(version.ID.ValueString())
		if version.Active.ValueBool() && template.ActiveVersionID != versionID {
			if err := r.activate(ctx, id, versionID); err != nil {
				return template, err
			}
		}
	}
	return r.client.Template(ctx, id)
}

// relabel gives a version that stays its new name and message.
func (r *templateResource) relabel(ctx context.Context, version versionModel, old []versionModel) error {
	for _, before := range old {
		if !before.ID.Equal(version.ID) {
			continue
		}
		if before.Name.Equal(version.Name) && before.Message.Equal(version.Message) {
			return nil
		}
		_, err := r.client.UpdateTemplateVersion(ctx, uuid.MustParse(version.ID.ValueString()),
			codersdk.PatchTemplateVersionRequest{
				Name: version.Name.ValueString(), Message: version.Message.ValueStringPointer(),
			})
		return err
	}
	return nil
}

func (r *templateResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model templateModel
	resp.Diagnostics.Append(req.State.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.client.DeleteTemplate(ctx, uuid.MustParse(model.ID.ValueString())); err != nil {
		resp.Diagnostics.AddError(fmt.Sprintf("Template %q was not deleted", model.Name.ValueString()), err.Error())
	}
}

// ImportState takes the template's UUID, `<organization>/<name>`, or a name in the default organization.
func (r *templateResource) ImportState(
	ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse,
) {
	id, err := r.findTemplate(ctx, req.ID)
	if err != nil {
		resp.Diagnostics.AddError(fmt.Sprintf("No template %q to import", req.ID), err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), id.String())...)
}

func (r *templateResource) findTemplate(ctx context.Context, reference string) (uuid.UUID, error) {
	if id, err := uuid.Parse(reference); err == nil {
		return id, nil
	}
	organization, name := r.defaultOrganizationID, reference
	if organizationName, templateName, qualified := strings.Cut(reference, "/"); qualified {
		found, err := r.client.OrganizationByName(ctx, organizationName)
		if err != nil {
			return uuid.Nil, err
		}
		organization, name = found.ID, templateName
	}
	template, err := r.client.TemplateByName(ctx, organization, name)
	return template.ID, err
}

func (c *connection) activate(ctx context.Context, template, version uuid.UUID) error {
	err := c.client.UpdateActiveTemplateVersion(ctx, template, codersdk.UpdateActiveTemplateVersion{ID: version})
	if err != nil {
		return fmt.Errorf("make version %s active: %w", version, err)
	}
	return nil
}

func (c *connection) fillUnset(model *templateModel) {
	if model.OrganizationID.IsUnknown() {
		model.OrganizationID = types.StringValue(c.defaultOrganizationID.String())
	}
	if model.DisplayName.IsUnknown() {
		model.DisplayName = model.Name
	}
}

func hasStatus(err error, status int) bool {
	var apiError *codersdk.Error
	return errors.As(err, &apiError) && apiError.StatusCode() == status
}

// refuseLicensed stands for the published provider's question about the licence: the server that this stand-in
// drives has none, and would ignore these fields without a word. One error names them all, because the dynamic
// bridge shows only the first.
func refuseLicensed(ctx context.Context, model templateModel) diag.Diagnostics {
	var autoStop autoStopModel
	diagnostics := model.AutoStopRequirement.As(ctx, &autoStop, basetypes.ObjectAsOptions{})
	portShare := model.MaxPortShareLevel.ValueString()
	var refused []string
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"acl", !model.ACL.IsNull()},
		{"auto_stop_requirement", len(autoStop.DaysOfWeek) > 0},
		{"auto_start_permitted_days_of_week", len(model.AutoStartPermittedDays.Elements()) != len(everyDay)},
		{"allow_user_auto_start", !model.AllowUserAutoStart.ValueBool()},
		{"allow_user_auto_stop", !model.AllowUserAutoStop.ValueBool()},
		{"failure_ttl_ms", model.FailureTTLMS.ValueInt64() != 0},
		{"time_til_dormant_ms", model.TimeTilDormantMS.ValueInt64() != 0},
		{"time_til_dormant_autodelete_ms", model.TimeTilDormantAutodeleteMS.ValueInt64() != 0},
		{"require_active_version", model.RequireActiveVersion.ValueBool()},
		{"max_port_share_level", portShare != "" && portShare != string(codersdk.WorkspaceAgentPortShareLevelPublic)},
	} {
		if field.set {
			refused = append(refused, field.name)
		}
	}
	if len(refused) > 0 {
		diagnostics.AddError("Feature not enabled", fmt.Sprintf(
			"The server is not entitled to use %s: leave these at their defaults.", strings.Join(refused, ", ")))
	}
	return diagnostics
}
