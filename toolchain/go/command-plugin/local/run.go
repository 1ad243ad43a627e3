package local

import (
	"context"

	"github.com/pulumi/pulumi-go-provider/infer"
)

// Run is the function command:local:run. It runs its command whenever a program is evaluated, in a preview too.
type Run struct{}

var _ infer.Fn[RunInputs, RunOutputs] = (*Run)(nil)

// RunInputs is the function's argument.
type RunInputs struct {
	Inputs
	Command string `pulumi:"command"`
}

// RunOutputs is the function's result.
type RunOutputs struct {
	RunInputs
	Outputs
}

// Annotate describes the function in the schema.
func (r *Run) Annotate(a infer.Annotator) {
	a.Describe(&r, "Runs a local command at every evaluation of the program, also in a preview.")
}

// Annotate describes the inputs in the schema.
func (in *RunInputs) Annotate(a infer.Annotator) {
	in.Inputs.Annotate(a)
	a.Describe(&in.Command, "Command to run.")
}

// Invoke runs the command.
func (r *Run) Invoke(
	ctx context.Context, req infer.FunctionRequest[RunInputs],
) (infer.FunctionResponse[RunOutputs], error) {
	result := RunOutputs{RunInputs: req.Input}
	err := run(ctx, req.Input.Command, &result.Inputs, &result.Outputs)
	return infer.FunctionResponse[RunOutputs]{Output: result}, err
}
