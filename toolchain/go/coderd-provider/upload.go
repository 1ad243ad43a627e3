package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"cdr.dev/slog/v3"
	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/provisionersdk"
	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// pushVersion uploads a directory and waits until Coder has imported it. template is uuid.Nil for the first version
// of a template that does not exist yet. The version is not made active.
func (c *connection) pushVersion(
	ctx context.Context, organization, template uuid.UUID, version versionModel,
) (codersdk.TemplateVersion, error) {
	var none codersdk.TemplateVersion
	directory := version.Directory.ValueString()
	file, err := c.upload(ctx, directory)
	if err != nil {
		return none, fmt.Errorf("upload %s: %w", directory, err)
	}
	variables, err := variablesOf(ctx, directory, version.TFVars)
	if err != nil {
		return none, fmt.Errorf("variables for %s: %w", directory, err)
	}
	tags, err := namedValuesOf(ctx, version.ProvisionerTags)
	if err != nil {
		return none, fmt.Errorf("provisioner_tags: %w", err)
	}
	tagMap := make(map[string]string, len(tags))
	for _, tag := range tags {
		tagMap[tag.Name.ValueString()] = tag.Value.ValueString()
	}
	created, err := c.client.CreateTemplateVersion(ctx, organization, codersdk.CreateTemplateVersionRequest{
		Name:               version.Name.ValueString(),
		Message:            version.Message.ValueString(),
		TemplateID:         template,
		StorageMethod:      codersdk.ProvisionerStorageMethodFile,
		FileID:             file,
		Provisioner:        codersdk.ProvisionerTypeTerraform,
		ProvisionerTags:    tagMap,
		UserVariableValues: variables,
	})
	if hasStatus(err, 409) {
		return none, fmt.Errorf("%w\nA version's name has to change whenever its directory's contents or its tf_vars "+
			"change; leave `name` out to have Coder make one up", err)
	}
	if err != nil {
		return none, fmt.Errorf("create a version from %s: %w", directory, err)
	}
	return c.waitForImport(ctx, created.ID)
}

func (c *connection) upload(ctx context.Context, directory string) (uuid.UUID, error) {
	reader, writer := io.Pipe()
	defer reader.Close()
	go func() {
		writer.CloseWithError(provisionersdk.Tar(writer, slog.Make(), directory, provisionersdk.TemplateArchiveLimit))
	}()
	// A tar cut short by an error must not reach the server as a whole file, so nothing is sent before it is complete.
	archive, err := io.ReadAll(reader)
	if err != nil {
		return uuid.Nil, err
	}
	uploaded, err := c.client.Upload(ctx, codersdk.ContentTypeTar, strings.NewReader(string(archive)))
	return uploaded.ID, err
}

// variablesOf joins the directory's .tfvars files, which Coder does not read itself, with tf_vars.
func variablesOf(ctx context.Context, directory string, tfVars types.Set) ([]codersdk.VariableValue, error) {
	files, err := codersdk.DiscoverVarsFiles(directory)
	if err != nil {
		return nil, err
	}
	variables, err := codersdk.ParseUserVariableValues(files, "", nil)
	if err != nil {
		return nil, err
	}
	named, err := namedValuesOf(ctx, tfVars)
	if err != nil {
		return nil, err
	}
	for _, variable := range named {
		variables = append(variables, codersdk.VariableValue{
			Name: variable.Name.ValueString(), Value: variable.Value.ValueString(),
		})
	}
	return variables, nil
}

func namedValuesOf(ctx context.Context, set types.Set) ([]namedValue, error) {
	var values []namedValue
	if set.IsNull() {
		return nil, nil
	}
	if diagnostics := set.ElementsAs(ctx, &values, false); diagnostics.HasError() {
		return nil, fmt.Errorf("%s", diagnostics.Errors()[0].Detail())
	}
	return values, nil
}

// waitForImport follows the import's log until it ends. The error of a failed import carries that log: the reason
// stands nowhere else.
func (c *connection) waitForImport(ctx context.Context, version uuid.UUID) (codersdk.TemplateVersion, error) {
	var log strings.Builder
	after := int64(0)
	for {
		lines, closer, err := c.client.TemplateVersionLogsAfter(ctx, version, after)
		if err != nil {
			return codersdk.TemplateVersion{}, fmt.Errorf("follow the import's log: %w", err)
		}
		for line := range lines {
			after = line.ID
			if line.Output != "" {
				fmt.Fprintln(&log, line.Output)
			}
		}
		_ = closer.Close()
		imported, err := c.client.TemplateVersion(ctx, version)
		if err != nil {
			return codersdk.TemplateVersion{}, fmt.Errorf("ask for the import's result: %w", err)
		}
		// The stream can end early, for instance when a proxy cuts it; then it is followed from where it stopped.
		if imported.Job.Status.Active() {
			continue
		}
		if imported.Job.Status != codersdk.ProvisionerJobSucceeded {
			return codersdk.TemplateVersion{}, fmt.Errorf("the import of version %q ended as %q: %s\n%s",
				imported.Name, imported.Job.Status, imported.Job.Error, log.String())
		}
		return imported, nil
	}
}
