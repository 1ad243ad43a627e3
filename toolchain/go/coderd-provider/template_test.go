package main

import (
	"context"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func TestEveryLicensedFieldIsRefused(t *testing.T) {
	defaults := func() templateModel {
		return templateModel{
			ACL: types.ObjectNull(map[string]attr.Type{}),
			AutoStopRequirement: types.ObjectValueMust(autoStopType, map[string]attr.Value{
				"days_of_week": stringSet(nil), "weeks": types.Int64Value(1),
			}),
			AutoStartPermittedDays: stringSet(everyDay),
			AllowUserAutoStart:     types.BoolValue(true),
			AllowUserAutoStop:      types.BoolValue(true),
			MaxPortShareLevel:      types.StringUnknown(),
		}
	}
	if diagnostics := refuseLicensed(context.Background(), defaults()); diagnostics.HasError() {
		t.Fatalf("the defaults are refused: %v", diagnostics)
	}
	for field, set := range map[string]func(*templateModel){
		"acl": func(m *templateModel) {
			m.ACL = types.ObjectValueMust(map[string]attr.Type{}, map[string]attr.Value{})
		},
		"auto_stop_requirement": func(m *templateModel) {
			m.AutoStopRequirement = types.ObjectValueMust(autoStopType, map[string]attr.Value{
				"days_of_week": stringSet([]string{"monday"}), "weeks": types.Int64Value(1),
			})
		},
		"auto_start_permitted_days_of_week": func(m *templateModel) { m.AutoStartPermittedDays = stringSet(nil) },
		"allow_user_auto_start":             func(m *templateModel) { m.AllowUserAutoStart = types.BoolValue(false) },
		"allow_user_auto_stop":              func(m *templateModel) { m.AllowUserAutoStop = types.BoolValue(false) },
		"failure_ttl_ms":                    func(m *templateModel) { m.FailureTTLMS = types.Int64Value(1) },
		"time_til_dormant_ms":               func(m *templateModel) { m.TimeTilDormantMS = types.Int64Value(1) },
		"time_til_dormant_autodelete_ms": func(m *templateModel) {
			m.TimeTilDormantAutodeleteMS = types.Int64Value(1)
		},
		"require_active_version": func(m *templateModel) { m.RequireActiveVersion = types.BoolValue(true) },
		"max_port_share_level":   func(m *templateModel) { m.MaxPortShareLevel = types.StringValue("owner") },
	} {
		t.Run(field, func(t *testing.T) {
			model := defaults()
			set(&model)
			diagnostics := refuseLicensed(context.Background(), model)
			if len(diagnostics) != 1 || !strings.Contains(diagnostics[0].Detail(), "not entitled to use "+field+":") {
				t.Errorf("got %v", diagnostics)
			}
		})
	}
}
