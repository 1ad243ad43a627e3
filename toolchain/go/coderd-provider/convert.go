package main

import (
	"github.com/coder/coder/v2/codersdk"
	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// readTemplate takes over what the server says about everything but the versions.
func (m *templateModel) readTemplate(template codersdk.Template) {
	m.ID = types.StringValue(template.ID.String())
	m.Name = types.StringValue(template.Name)
	m.DisplayName = types.StringValue(template.DisplayName)
	m.Description = types.StringValue(template.Description)
	m.OrganizationID = types.StringValue(template.OrganizationID.String())
	m.Icon = types.StringValue(template.Icon)
	m.DefaultTTLMS = types.Int64Value(template.DefaultTTLMillis)
	m.ActivityBumpMS = types.Int64Value(template.ActivityBumpMillis)
	m.AutoStartPermittedDays = stringSet(template.AutostartRequirement.DaysOfWeek)
	m.AllowUserCancel = types.BoolValue(template.AllowUserCancelWorkspaceJobs)
	m.AllowUserAutoStart = types.BoolValue(template.AllowUserAutostart)
	m.AllowUserAutoStop = types.BoolValue(template.AllowUserAutostop)
	m.FailureTTLMS = types.Int64Value(template.FailureTTLMillis)
	m.TimeTilDormantMS = types.Int64Value(template.TimeTilDormantMillis)
	m.TimeTilDormantAutodeleteMS = types.Int64Value(template.TimeTilDormantAutoDeleteMillis)
	m.RequireActiveVersion = types.BoolValue(template.RequireActiveVersion)
	m.DeprecationMessage = types.StringValue(template.DeprecationMessage)
	m.MaxPortShareLevel = types.StringValue(string(template.MaxPortShareLevel))
	m.CORSBehavior = types.StringValue(string(template.CORSBehavior))
	m.UseClassicParameterFlow = types.BoolValue(template.UseClassicParameterFlow)
	m.AutoStopRequirement = types.ObjectValueMust(autoStopType, map[string]attr.Value{
		"days_of_week": stringSet(template.AutostopRequirement.DaysOfWeek),
		"weeks":        types.Int64Value(template.AutostopRequirement.Weeks),
	})
}

func (m *templateModel) createRequest(version uuid.UUID) codersdk.CreateTemplateRequest {
	return codersdk.CreateTemplateRequest{
		Name:                         m.Name.ValueString(),
		DisplayName:                  m.DisplayName.ValueString(),
		Description:                  m.Description.ValueString(),
		Icon:                         m.Icon.ValueString(),
		VersionID:                    version,
		DefaultTTLMillis:             m.DefaultTTLMS.ValueInt64Pointer(),
		ActivityBumpMillis:           m.ActivityBumpMS.ValueInt64Pointer(),
		AllowUserCancelWorkspaceJobs: m.AllowUserCancel.ValueBoolPointer(),
		UseClassicParameterFlow:      knownBool(m.UseClassicParameterFlow),
		CORSBehavior:                 knownCORS(m.CORSBehavior),
	}
}

// updateRequest leaves the licensed fields at the values that an unlicensed server has anyway.
func (m *templateModel) updateRequest() codersdk.UpdateTemplateMeta {
	return codersdk.UpdateTemplateMeta{
		Name:                         m.Name.ValueString(),
		DisplayName:                  m.DisplayName.ValueStringPointer(),
		Description:                  m.Description.ValueStringPointer(),
		Icon:                         m.Icon.ValueStringPointer(),
		DefaultTTLMillis:             m.DefaultTTLMS.ValueInt64(),
		ActivityBumpMillis:           m.ActivityBumpMS.ValueInt64(),
		AllowUserAutostart:           true,
		AllowUserAutostop:            true,
		AllowUserCancelWorkspaceJobs: m.AllowUserCancel.ValueBool(),
		DeprecationMessage:           m.DeprecationMessage.ValueStringPointer(),
		CORSBehavior:                 knownCORS(m.CORSBehavior),
		UseClassicParameterFlow:      knownBool(m.UseClassicParameterFlow),
	}
}

// differsFrom compares the fields that updateRequest sends with what the server has.
func (m *templateModel) differsFrom(template codersdk.Template) bool {
	var current templateModel
	current.readTemplate(template)
	differs := func(planned, actual interface {
		IsUnknown() bool
		String() string
	}) bool {
		return !planned.IsUnknown() && planned.String() != actual.String()
	}
	return differs(m.Name, current.Name) ||
		differs(m.DisplayName, current.DisplayName) ||
		differs(m.Description, current.Description) ||
		differs(m.Icon, current.Icon) ||
		differs(m.DefaultTTLMS, current.DefaultTTLMS) ||
		differs(m.ActivityBumpMS, current.ActivityBumpMS) ||
		differs(m.AllowUserCancel, current.AllowUserCancel) ||
		differs(m.DeprecationMessage, current.DeprecationMessage) ||
		differs(m.CORSBehavior, current.CORSBehavior) ||
		differs(m.UseClassicParameterFlow, current.UseClassicParameterFlow)
}

func knownBool(value types.Bool) *bool {
	if value.IsUnknown() {
		return nil
	}
	return value.ValueBoolPointer()
}

func knownCORS(value types.String) *codersdk.CORSBehavior {
	if value.IsNull() || value.IsUnknown() {
		return nil
	}
	behavior := codersdk.CORSBehavior(value.ValueString())
	return &behavior
}
