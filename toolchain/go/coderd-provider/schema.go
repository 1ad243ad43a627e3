package main

import (
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/boolplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/setdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

const defaultActivityBumpMS = 3_600_000

var everyDay = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

var autoStopType = map[string]attr.Type{
	"days_of_week": types.SetType{ElemType: types.StringType},
	"weeks":        types.Int64Type,
}

// templateModel is coderd_template as Terraform sees it; the names are the published provider's.
type templateModel struct {
	ID                         types.String   `tfsdk:"id"`
	Name                       types.String   `tfsdk:"name"`
	DisplayName                types.String   `tfsdk:"display_name"`
	Description                types.String   `tfsdk:"description"`
	OrganizationID             types.String   `tfsdk:"organization_id"`
	Icon                       types.String   `tfsdk:"icon"`
	DefaultTTLMS               types.Int64    `tfsdk:"default_ttl_ms"`
	ActivityBumpMS             types.Int64    `tfsdk:"activity_bump_ms"`
	AutoStopRequirement        types.Object   `tfsdk:"auto_stop_requirement"`
	AutoStartPermittedDays     types.Set      `tfsdk:"auto_start_permitted_days_of_week"`
	AllowUserCancel            types.Bool     `tfsdk:"allow_user_cancel_workspace_jobs"`
	AllowUserAutoStart         types.Bool     `tfsdk:"allow_user_auto_start"`
	AllowUserAutoStop          types.Bool     `tfsdk:"allow_user_auto_stop"`
	FailureTTLMS               types.Int64    `tfsdk:"failure_ttl_ms"`
	TimeTilDormantMS           types.Int64    `tfsdk:"time_til_dormant_ms"`
	TimeTilDormantAutodeleteMS types.Int64    `tfsdk:"time_til_dormant_autodelete_ms"`
	RequireActiveVersion       types.Bool     `tfsdk:"require_active_version"`
	DeprecationMessage         types.String   `tfsdk:"deprecation_message"`
	MaxPortShareLevel          types.String   `tfsdk:"max_port_share_level"`
	CORSBehavior               types.String   `tfsdk:"cors_behavior"`
	UseClassicParameterFlow    types.Bool     `tfsdk:"use_classic_parameter_flow"`
	ACL                        types.Object   `tfsdk:"acl"`
	Versions                   []versionModel `tfsdk:"versions"`
}

type versionModel struct {
	ID              types.String `tfsdk:"id"`
	Name            types.String `tfsdk:"name"`
	Message         types.String `tfsdk:"message"`
	Directory       types.String `tfsdk:"directory"`
	DirectoryHash   types.String `tfsdk:"directory_hash"`
	Active          types.Bool   `tfsdk:"active"`
	TFVars          types.Set    `tfsdk:"tf_vars"`
	ProvisionerTags types.Set    `tfsdk:"provisioner_tags"`
}

type namedValue struct {
	Name  types.String `tfsdk:"name"`
	Value types.String `tfsdk:"value"`
}

type autoStopModel struct {
	DaysOfWeek []string `tfsdk:"days_of_week"`
	Weeks      int64    `tfsdk:"weeks"`
}

func templateSchema() schema.Schema {
	return schema.Schema{
		MarkdownDescription: "A Coder template.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed:            true,
				PlanModifiers:       []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "The template's UUID.",
			},
			"name": schema.StringAttribute{
				Required:            true,
				Validators:          []validator.String{nameValidator},
				MarkdownDescription: "Unique in the organization.",
			},
			"display_name": schema.StringAttribute{
				Optional: true, Computed: true,
				Validators:          []validator.String{displayNameValidator},
				MarkdownDescription: "Shown in the dashboard; `name` when unset.",
			},
			"description": textWithEmptyDefault("What the template is for; under 128 bytes."),
			"organization_id": schema.StringAttribute{
				Optional: true, Computed: true,
				Validators:          []validator.String{uuidValidator},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplaceIfConfigured()},
				MarkdownDescription: "UUID of the organization; the provider's default one when unset.",
			},
			"icon":           textWithEmptyDefault("Path or URL of the dashboard's icon."),
			"default_ttl_ms": milliseconds(0, "Life of a new workspace's build before it is stopped; 0 is for ever."),
			"activity_bump_ms": milliseconds(defaultActivityBumpMS,
				"How far activity moves a workspace's deadline."),
			"auto_stop_requirement": autoStopAttribute(),
			"auto_start_permitted_days_of_week": schema.SetAttribute{
				Optional: true, Computed: true, ElementType: types.StringType,
				Default:             setdefault.StaticValue(stringSet(everyDay)),
				MarkdownDescription: "(Licensed) Days on which workspaces may start by themselves.",
			},
			"allow_user_cancel_workspace_jobs": flag(true, "Users may cancel builds that run."),
			"allow_user_auto_start":            flag(true, "(Licensed) Users may set an autostart."),
			"allow_user_auto_stop":             flag(true, "(Licensed) Users may set their own autostop."),
			"failure_ttl_ms":                   milliseconds(0, "(Licensed) When failed workspaces are stopped."),
			"time_til_dormant_ms":              milliseconds(0, "(Licensed) When unused workspaces become dormant."),
			"time_til_dormant_autodelete_ms":   milliseconds(0, "(Licensed) When dormant workspaces are deleted."),
			"require_active_version":           flag(false, "(Licensed) Workspaces must use the active version."),
			"deprecation_message": textWithEmptyDefault(
				"Marks the template as deprecated and blocks new workspaces; no effect on creation."),
			"max_port_share_level": schema.StringAttribute{
				Optional: true, Computed: true,
				Validators:          []validator.String{portShareValidator},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "(Licensed) The widest share level of a workspace's port.",
			},
			"cors_behavior": schema.StringAttribute{
				Optional: true, Computed: true,
				Validators:          []validator.String{corsValidator},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "`simple` or `passthru`.",
			},
			"use_classic_parameter_flow": schema.BoolAttribute{
				Optional: true, Computed: true,
				PlanModifiers:       []planmodifier.Bool{boolplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Use the classic form for parameters.",
			},
			"acl":      aclAttribute(),
			"versions": versionsAttribute(),
		},
	}
}

func versionsAttribute() schema.ListNestedAttribute {
	return schema.ListNestedAttribute{
		Required:            true,
		PlanModifiers:       []planmodifier.List{versionsPlan{}},
		MarkdownDescription: "The versions to keep; exactly one is active.",
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, MarkdownDescription: "The version's UUID."},
			"name": schema.StringAttribute{
				Optional: true, Computed: true,
				Validators: []validator.String{versionNameValidator},
				MarkdownDescription: "Made up by Coder when unset. When set, it must change together with the " +
					"directory's contents and `tf_vars`.",
			},
			"message": textWithEmptyDefault("What changed."),
			"directory": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Directory of the template's files; other contents make a new version.",
			},
			"directory_hash": schema.StringAttribute{
				Computed:            true,
				MarkdownDescription: "SHA-256 over the contents of the directory's files.",
			},
			"active":           flag(false, "New workspaces use this version."),
			"tf_vars":          namedValues("Terraform variables of the version."),
			"provisioner_tags": namedValues("Tags of the provisioner that imports the version."),
		}},
	}
}

func autoStopAttribute() schema.SingleNestedAttribute {
	noDays := stringSet(nil)
	return schema.SingleNestedAttribute{
		Optional: true, Computed: true,
		Default: objectdefault.StaticValue(types.ObjectValueMust(autoStopType, map[string]attr.Value{
			"days_of_week": noDays,
			"weeks":        types.Int64Value(1),
		})),
		MarkdownDescription: "(Licensed) When every workspace has to stop.",
		Attributes: map[string]schema.Attribute{
			"days_of_week": schema.SetAttribute{
				Optional: true, Computed: true, ElementType: types.StringType,
				Default:             setdefault.StaticValue(noDays),
				MarkdownDescription: "Days of the stop.",
			},
			"weeks": schema.Int64Attribute{
				Optional: true, Computed: true,
				Default:             int64default.StaticInt64(1),
				MarkdownDescription: "Weeks between two stops.",
			},
		},
	}
}

func aclAttribute() schema.SingleNestedAttribute {
	permissions := schema.SetNestedAttribute{
		Required:            true,
		MarkdownDescription: "Who has which role.",
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{Required: true, MarkdownDescription: "UUID of the user or group."},
			"role": schema.StringAttribute{
				Required:            true,
				Validators:          []validator.String{aclRoleValidator},
				MarkdownDescription: "`admin` or `use`.",
			},
		}},
	}
	return schema.SingleNestedAttribute{
		Optional:            true,
		MarkdownDescription: "(Licensed) Access control list; not managed when unset.",
		Attributes:          map[string]schema.Attribute{"users": permissions, "groups": permissions},
	}
}

func namedValues(description string) schema.SetNestedAttribute {
	return schema.SetNestedAttribute{
		Optional:            true,
		MarkdownDescription: description,
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"name":  schema.StringAttribute{Required: true, MarkdownDescription: "The name."},
			"value": schema.StringAttribute{Required: true, MarkdownDescription: "The value."},
		}},
	}
}

func textWithEmptyDefault(description string) schema.StringAttribute {
	return schema.StringAttribute{
		Optional: true, Computed: true,
		Default:             stringdefault.StaticString(""),
		MarkdownDescription: description,
	}
}

func milliseconds(byDefault int64, description string) schema.Int64Attribute {
	return schema.Int64Attribute{
		Optional: true, Computed: true,
		Default:             int64default.StaticInt64(byDefault),
		MarkdownDescription: description + " In milliseconds.",
	}
}

func flag(byDefault bool, description string) schema.BoolAttribute {
	return schema.BoolAttribute{
		Optional: true, Computed: true,
		Default:             booldefault.StaticBool(byDefault),
		MarkdownDescription: description,
	}
}

func stringSet(values []string) types.Set {
	elements := make([]attr.Value, 0, len(values))
	for _, value := range values {
		elements = append(elements, types.StringValue(value))
	}
	return types.SetValueMust(types.StringType, elements)
}
