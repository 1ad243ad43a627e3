package local

import (
	"context"

	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Command is the resource command:local:Command.
//
// It declares no dependencies between inputs and outputs, as the published one: by the library's default an unknown or
// changed input then makes stdout and stderr unknown in a preview, but a secret input makes only the output of the same
// name secret. Who puts a secret into what a command prints must ask for additional_secret_outputs.
type Command struct{}

var (
	_ infer.CustomResource[CommandInputs, CommandOutputs] = (*Command)(nil)
	_ infer.CustomUpdate[CommandInputs, CommandOutputs]   = (*Command)(nil)
	_ infer.CustomDelete[CommandOutputs]                  = (*Command)(nil)
)

// CommandInputs is what a program declares. A change of triggers replaces the resource, any other change updates it.
type CommandInputs struct {
	Inputs
	Create   *string `pulumi:"create,optional"`
	Update   *string `pulumi:"update,optional"`
	Delete   *string `pulumi:"delete,optional"`
	Triggers *[]any  `pulumi:"triggers,optional" provider:"replaceOnChanges"`
}

// CommandOutputs is the resource's state.
type CommandOutputs struct {
	CommandInputs
	Outputs
}

// Annotate describes the resource in the schema.
func (c *Command) Annotate(a infer.Annotator) {
	a.Describe(&c, "A local command, run when the resource is created, updated and deleted.")
}

// Annotate describes the inputs in the schema.
func (in *CommandInputs) Annotate(a infer.Annotator) {
	in.Inputs.Annotate(a)
	a.Describe(&in.Create, "Command to run on create, and on update where update is not given.")
	a.Describe(&in.Update, "Command to run on update.")
	a.Describe(&in.Delete, "Command to run on delete, with the inputs of the last successful create or update.")
	a.Describe(&in.Triggers, "Values of any type; a change of one replaces the resource.")
}

// Create runs the create command, but not in a preview.
func (c *Command) Create(
	ctx context.Context, req infer.CreateRequest[CommandInputs],
) (infer.CreateResponse[CommandOutputs], error) {
	id, err := resource.NewUniqueHex(req.Name, 8, 0)
	if err != nil {
		return infer.CreateResponse[CommandOutputs]{}, err
	}
	state := CommandOutputs{CommandInputs: req.Inputs}
	if !req.DryRun && req.Inputs.Create != nil {
		err = run(ctx, *req.Inputs.Create, &state.Inputs, &state.Outputs)
	}
	return infer.CreateResponse[CommandOutputs]{ID: id, Output: state}, err
}

// Update runs the update command, or else the create command, but not in a preview.
func (c *Command) Update(
	ctx context.Context, req infer.UpdateRequest[CommandInputs, CommandOutputs],
) (infer.UpdateResponse[CommandOutputs], error) {
	state := CommandOutputs{CommandInputs: req.Inputs, Outputs: req.State.Outputs}
	command := req.Inputs.Update
	if command == nil {
		command = req.Inputs.Create
	}
	var err error
	if !req.DryRun && command != nil {
		err = run(ctx, *command, &state.Inputs, &state.Outputs)
	}
	return infer.UpdateResponse[CommandOutputs]{Output: state}, err
}

// Delete runs the delete command that the state holds: the program is not asked.
func (c *Command) Delete(
	ctx context.Context, req infer.DeleteRequest[CommandOutputs],
) (infer.DeleteResponse, error) {
	if req.State.Delete == nil {
		return infer.DeleteResponse{}, nil
	}
	return infer.DeleteResponse{}, run(ctx, *req.State.Delete, &req.State.Inputs, &req.State.Outputs)
}
