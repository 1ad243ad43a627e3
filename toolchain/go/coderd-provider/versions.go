package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// versionsPlan decides which versions of the plan exist already and which ones the apply has to create: the ones
// without an id.
type versionsPlan struct{}

func (versionsPlan) Description(context.Context) string {
	return "Plans a new version for a directory whose contents, or whose tf_vars, changed."
}

func (p versionsPlan) MarkdownDescription(ctx context.Context) string { return p.Description(ctx) }

// PlanModifyList compares with the prior state's versions. The published provider compares with a copy in its private
// state instead, which holds the values of tf_vars a second time, as plain text even when they are secrets.
func (versionsPlan) PlanModifyList(
	ctx context.Context, req planmodifier.ListRequest, resp *planmodifier.ListResponse,
) {
	if req.PlanValue.IsUnknown() {
		return
	}
	var planned, configured, prior []versionModel
	resp.Diagnostics.Append(req.PlanValue.ElementsAs(ctx, &planned, false)...)
	resp.Diagnostics.Append(req.ConfigValue.ElementsAs(ctx, &configured, false)...)
	if !req.StateValue.IsNull() {
		resp.Diagnostics.Append(req.StateValue.ElementsAs(ctx, &prior, false)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	for i := range planned {
		hash, err := directoryHash(planned[i].Directory.ValueString())
		if err != nil {
			resp.Diagnostics.AddAttributeError(req.Path.AtListIndex(i).AtName("directory"),
				"The template's directory cannot be read", err.Error())
			return
		}
		planned[i].DirectoryHash = types.StringValue(hash)
	}
	matchVersions(planned, configured, prior)
	if err := checkActive(planned, prior, req.State.Raw.IsNull()); err != nil {
		resp.Diagnostics.AddAttributeError(req.Path, "Which version is active?", err.Error())
		return
	}
	result, diagnostics := types.ListValueFrom(ctx, req.PlanValue.ElementType(ctx), planned)
	resp.Diagnostics.Append(diagnostics...)
	resp.PlanValue = result
}

// matchVersions gives every planned version the id of the prior version with the same contents and variables. Of
// several, the one with the same name is taken first; what is left over is matched in order.
func matchVersions(planned, configured, prior []versionModel) {
	taken := make([]bool, len(prior))
	claim := func(i int, fits func(versionModel) bool) bool {
		for j, old := range prior {
			if taken[j] || !sameContents(planned[i], old) || !fits(old) {
				continue
			}
			taken[j] = true
			planned[i].ID = old.ID
			if configured[i].Name.IsNull() {
				planned[i].Name = old.Name
			}
			return true
		}
		return false
	}
	matched := make([]bool, len(planned))
	for i := range planned {
		name := planned[i].Name
		matched[i] = claim(i, func(old versionModel) bool { return old.Name.Equal(name) })
	}
	for i := range planned {
		if matched[i] || claim(i, func(versionModel) bool { return true }) {
			continue
		}
		planned[i].ID = types.StringUnknown()
		if configured[i].Name.IsNull() {
			planned[i].Name = types.StringUnknown()
		}
	}
}

func sameContents(a, b versionModel) bool {
	noVariables := len(a.TFVars.Elements()) == 0 && len(b.TFVars.Elements()) == 0 && !a.TFVars.IsUnknown()
	return a.DirectoryHash.Equal(b.DirectoryHash) && (noVariables || a.TFVars.Equal(b.TFVars))
}

// checkActive refuses a plan after which nobody knows what new workspaces are made from.
func checkActive(planned, prior []versionModel, creating bool) error {
	active := 0
	for _, version := range planned {
		if version.Active.ValueBool() {
			active++
		}
	}
	if active > 1 {
		return errors.New("only one version can have active = true")
	}
	if active == 1 {
		return nil
	}
	if creating {
		return errors.New("a new template needs one version with active = true")
	}
	for _, version := range planned {
		for _, old := range prior {
			if old.Active.ValueBool() && old.ID.Equal(version.ID) {
				return errors.New("the active version cannot be switched off; set active = true on another one")
			}
		}
	}
	return nil
}

// directoryHash is the published provider's: the SHA-256 of all files' contents in the order of their paths. It
// does not see file names, so a mere rename of a file makes no new version.
func directoryHash(directory string) (string, error) {
	if directory == "" {
		return "", errors.New("directory must be known when the plan is made")
	}
	digest := sha256.New()
	err := filepath.WalkDir(directory, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		contents, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		digest.Write(contents)
		return nil
	})
	return hex.EncodeToString(digest.Sum(nil)), err
}
