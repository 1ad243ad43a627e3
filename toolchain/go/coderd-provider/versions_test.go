package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

var namedValueType = types.ObjectType{AttrTypes: map[string]attr.Type{
	"name": types.StringType, "value": types.StringType,
}}

func variables(pairs ...string) types.Set {
	elements := []attr.Value{}
	for i := 0; i < len(pairs); i += 2 {
		elements = append(elements, types.ObjectValueMust(namedValueType.AttrTypes, map[string]attr.Value{
			"name": types.StringValue(pairs[i]), "value": types.StringValue(pairs[i+1]),
		}))
	}
	return types.SetValueMust(namedValueType, elements)
}

func version(id, name, hash string, active bool, tfVars types.Set) versionModel {
	return versionModel{
		ID: types.StringValue(id), Name: types.StringValue(name), DirectoryHash: types.StringValue(hash),
		Active: types.BoolValue(active), TFVars: tfVars,
	}
}

// unplanned is a version as the plan has it before it is matched: without an id, named or not.
func unplanned(name types.String, hash string, tfVars types.Set) versionModel {
	planned := version("", "", hash, true, tfVars)
	planned.ID, planned.Name = types.StringUnknown(), name
	return planned
}

func TestAVersionIsKeptOnlyWithTheSameContentsAndVariables(t *testing.T) {
	prior := []versionModel{version("old", "brave_hopper", "h1", true, variables("a", "1"))}
	for _, c := range []struct {
		name       string
		configured types.String
		hash       string
		tfVars     types.Set
		kept       bool
	}{
		{"nothing changed", types.StringNull(), "h1", variables("a", "1"), true},
		{"only renamed", types.StringValue("v2"), "h1", variables("a", "1"), true},
		{"other contents", types.StringNull(), "h2", variables("a", "1"), false},
		{"other value", types.StringNull(), "h1", variables("a", "2"), false},
		{"one variable more", types.StringNull(), "h1", variables("a", "1", "b", "2"), false},
		{"no variables", types.StringNull(), "h1", types.SetNull(namedValueType), false},
		{"unknown variables", types.StringNull(), "h1", types.SetUnknown(namedValueType), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			configured := unplanned(c.configured, c.hash, c.tfVars)
			planned := []versionModel{configured}
			matchVersions(planned, []versionModel{configured}, prior)
			if got := planned[0].ID.ValueString() == "old"; got != c.kept {
				t.Errorf("kept = %v, want %v", got, c.kept)
			}
			wantName := c.configured
			if c.configured.IsNull() {
				wantName = types.StringUnknown()
				if c.kept {
					wantName = types.StringValue("brave_hopper")
				}
			}
			if !planned[0].Name.Equal(wantName) {
				t.Errorf("name = %s, want %s", planned[0].Name, wantName)
			}
		})
	}
}

func TestNoVariablesAndAnEmptySetAreTheSame(t *testing.T) {
	old := version("old", "n", "h", true, types.SetNull(namedValueType))
	if !sameContents(version("", "n", "h", true, variables()), old) {
		t.Error("null and empty tf_vars differ")
	}
}

func TestVersionsWithEqualContentsAreToldApartByName(t *testing.T) {
	none := types.SetNull(namedValueType)
	prior := []versionModel{version("id-a", "a", "h", true, none), version("id-b", "b", "h", false, none)}
	planned := []versionModel{
		unplanned(types.StringValue("c"), "h", none), unplanned(types.StringValue("a"), "h", none),
	}
	matchVersions(planned, append([]versionModel(nil), planned...), prior)
	if planned[1].ID.ValueString() != "id-a" || planned[0].ID.ValueString() != "id-b" {
		t.Errorf("ids are %s and %s", planned[0].ID, planned[1].ID)
	}
}

func TestExactlyOneVersionIsActive(t *testing.T) {
	none := types.SetNull(namedValueType)
	on, off := version("1", "a", "h", true, none), version("1", "a", "h", false, none)
	other := version("2", "b", "h2", true, none)
	for _, c := range []struct {
		name           string
		planned, prior []versionModel
		creating       bool
		want           string
	}{
		{"one", []versionModel{on}, nil, true, ""},
		{"two", []versionModel{on, other}, nil, true, "only one"},
		{"none in a new template", []versionModel{off}, nil, true, "needs one"},
		{"the active one switched off", []versionModel{off}, []versionModel{on}, false, "switched off"},
		{"active elsewhere", []versionModel{off}, []versionModel{off}, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := checkActive(c.planned, c.prior, c.creating)
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestTheDirectoryHashCoversEveryFileInTheOrderOfPaths(t *testing.T) {
	directory := t.TempDir()
	for name, contents := range map[string]string{"main.tf": "B", "a/x.sh": "A", ".hidden": "0"} {
		file := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(contents), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := sha256.Sum256([]byte("0AB"))
	got, err := directoryHash(directory)
	if err != nil || got != hex.EncodeToString(want[:]) {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := directoryHash(filepath.Join(directory, "missing")); err == nil {
		t.Error("a missing directory has a hash")
	}
}
