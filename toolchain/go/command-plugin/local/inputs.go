// Package local runs commands on the machine that runs Pulumi.
package local

import (
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi-go-provider/infer/types"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Inputs says how a command is run; the resource and the function share it.
//
// addPreviousOutputInEnv has no default in the schema though nil means true: a default would appear as a change in
// states that were written without it.
type Inputs struct {
	Interpreter            *[]string          `pulumi:"interpreter,optional"`
	Dir                    *string            `pulumi:"dir,optional"`
	Environment            *map[string]string `pulumi:"environment,optional"`
	Stdin                  *string            `pulumi:"stdin,optional"`
	Logging                *Logging           `pulumi:"logging,optional"`
	AssetPaths             *[]string          `pulumi:"assetPaths,optional"`
	ArchivePaths           *[]string          `pulumi:"archivePaths,optional"`
	AddPreviousOutputInEnv *bool              `pulumi:"addPreviousOutputInEnv,optional"`
}

// Annotate describes the inputs in the schema.
func (in *Inputs) Annotate(a infer.Annotator) {
	a.Describe(&in.Interpreter, `Program and arguments that get the command as last argument; default ["/bin/sh", "-c"].`)
	a.Describe(&in.Dir, "Working directory, which must exist; default the project's.")
	a.Describe(&in.Environment, "Variables to add to the environment of the Pulumi process.")
	a.Describe(&in.Stdin, "Text for the command's standard input.")
	a.Describe(&in.Logging, "Which output streams are also shown while the command runs; default both.")
	a.Describe(&in.AssetPaths, "Globs of files, relative to dir, to return as assets; a leading ! excludes.")
	a.Describe(&in.ArchivePaths, "Globs of files, relative to dir, to return as one archive; a leading ! excludes.")
	a.Describe(&in.AddPreviousOutputInEnv,
		"Whether PULUMI_COMMAND_STDOUT and PULUMI_COMMAND_STDERR hold the previous run's output; default true.")
}

// Outputs is what a run leaves behind.
type Outputs struct {
	Stdout  string                           `pulumi:"stdout"`
	Stderr  string                           `pulumi:"stderr"`
	Assets  *map[string]types.AssetOrArchive `pulumi:"assets,optional"`
	Archive *resource.Archive                `pulumi:"archive,optional"`
}

// Annotate describes the outputs in the schema.
func (out *Outputs) Annotate(a infer.Annotator) {
	a.Describe(&out.Stdout, "Standard output, without its last newline.")
	a.Describe(&out.Stderr, "Standard error, without its last newline.")
	a.Describe(&out.Assets, "Files that assetPaths matched, by their path relative to dir.")
	a.Describe(&out.Archive, "Files that archivePaths matched.")
}

// Logging chooses the output streams that are shown while a command runs. It does not affect what is captured.
type Logging string

const (
	logStdout          Logging = "stdout"
	logStderr          Logging = "stderr"
	logStdoutAndStderr Logging = "stdoutAndStderr"
	logNone            Logging = "none"
)

// Values lists the enumeration for the schema.
func (Logging) Values() []infer.EnumValue[Logging] {
	return []infer.EnumValue[Logging]{
		{Name: string(logStdout), Value: logStdout, Description: "Show standard output only."},
		{Name: string(logStderr), Value: logStderr, Description: "Show standard error only."},
		{Name: string(logStdoutAndStderr), Value: logStdoutAndStderr, Description: "Show both."},
		{Name: string(logNone), Value: logNone, Description: "Show neither."},
	}
}

func (l *Logging) shows(stream Logging) bool {
	return l == nil || *l == logStdoutAndStderr || *l == stream
}
