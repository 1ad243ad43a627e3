package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-sdk/v2/diag"
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/retry"
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	runtime "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// get asks for the object anew.
type get func() (*unstructured.Unstructured, error)

// kind is one of the API's kinds as a resource of Terraform's.
type kind struct {
	kind   string
	of     runtime.GroupVersionResource
	fields fields
	// What an update replaces: the field's path in Terraform's words, and in the API's.
	replaced [2]string
	// What stands before the API's own words, where something does.
	createFails, updateFails string
	// settled waits until what was written is in effect.
	settled func(context.Context, *schema.ResourceData, get, time.Duration) error
	// stays is what a deletion says that waits in vain; nil waits for none.
	stays    func(id string, live *unstructured.Unstructured) error
	importer *schema.ResourceImporter
	timeouts *schema.ResourceTimeout
}

func (k kind) resource() *schema.Resource {
	return &schema.Resource{
		Schema:        k.fields,
		CreateContext: k.create,
		ReadContext:   k.read,
		UpdateContext: k.update,
		DeleteContext: k.remove,
		Importer:      k.importer,
		Timeouts:      k.timeouts,
	}
}

func (k kind) client(id string, provider any) (dynamic.ResourceInterface, string, error) {
	parts := strings.Split(id, "/")
	if len(parts) != 2 {
		return nil, "", fmt.Errorf("Unexpected ID format (%q), expected %q.", id, "namespace/name")
	}
	return provider.(dynamic.Interface).Resource(k.of).Namespace(parts[0]), parts[1], nil
}

func (k kind) object(data *schema.ResourceData) *unstructured.Unstructured {
	block := map[string]any{}
	for name := range k.fields {
		block[name] = data.Get(name)
	}
	made := object(k.fields, block)
	delete(made, "waitUntilBound")
	delete(made, "waitForRollout")
	if values, isSecret := made["data"].(map[string]any); isSecret {
		made["data"] = encoded(values)
	}
	made["apiVersion"], made["kind"] = k.of.GroupVersion().String(), k.kind
	return &unstructured.Unstructured{Object: made}
}

func (k kind) create(ctx context.Context, data *schema.ResourceData, provider any) diag.Diagnostics {
	wanted := k.object(data)
	id := wanted.GetNamespace() + "/" + wanted.GetName()
	client, _, err := k.client(id, provider)
	if err != nil {
		return diag.FromErr(err)
	}
	if _, err := client.Create(ctx, wanted, meta.CreateOptions{}); err != nil {
		return diag.Errorf("%s%s", k.createFails, err)
	}
	data.SetId(id)
	return k.settle(ctx, data, provider, data.Timeout(schema.TimeoutCreate))
}

type operation struct {
	Operation string `json:"op"`
	Path      string `json:"path"`
	Value     any    `json:"value,omitempty"`
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// changes is what makes one map of the metadata the other; nothing else in it is touched.
func changes(path string, before, after map[string]any) []operation {
	if len(before) == 0 {
		return []operation{{Operation: "add", Path: path, Value: after}}
	}
	made := []operation{}
	for key := range before {
		if _, kept := after[key]; !kept {
			made = append(made, operation{Operation: "remove", Path: path + "/" + pointer.Replace(key)})
		}
	}
	for key, value := range after {
		if before[key] != value {
			made = append(made, operation{Operation: "add", Path: path + "/" + pointer.Replace(key), Value: value})
		}
	}
	return made
}

func (k kind) update(ctx context.Context, data *schema.ResourceData, provider any) diag.Diagnostics {
	client, name, err := k.client(data.Id(), provider)
	if err != nil {
		return diag.FromErr(err)
	}
	operations := []operation{}
	for _, each := range []string{"annotations", "labels"} {
		if field := "metadata.0." + each; data.HasChange(field) {
			before, after := data.GetChange(field)
			operations = append(operations, changes("/metadata/"+each, before.(map[string]any), after.(map[string]any))...)
		}
	}
	if data.HasChange(k.replaced[0]) {
		path := strings.Split(strings.Trim(k.replaced[1], "/"), "/")
		value, _, err := unstructured.NestedFieldCopy(k.object(data).Object, path...)
		if err != nil {
			return diag.FromErr(err)
		}
		operations = append(operations, operation{Operation: "add", Path: k.replaced[1], Value: value})
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		return diag.FromErr(err)
	}
	if _, err := client.Patch(ctx, name, types.JSONPatchType, patch, meta.PatchOptions{}); err != nil {
		return diag.Errorf("%s%s", k.updateFails, err)
	}
	return k.settle(ctx, data, provider, data.Timeout(schema.TimeoutUpdate))
}

func (k kind) settle(ctx context.Context, data *schema.ResourceData, provider any, limit time.Duration) diag.Diagnostics {
	client, name, err := k.client(data.Id(), provider)
	if err == nil && k.settled != nil {
		ask := func() (*unstructured.Unstructured, error) { return client.Get(ctx, name, meta.GetOptions{}) }
		err = k.settled(ctx, data, ask, limit)
	}
	if err != nil {
		return diag.FromErr(err)
	}
	return k.read(ctx, data, provider)
}

func (k kind) read(ctx context.Context, data *schema.ResourceData, provider any) diag.Diagnostics {
	client, name, err := k.client(data.Id(), provider)
	if err != nil {
		return diag.FromErr(err)
	}
	live, err := client.Get(ctx, name, meta.GetOptions{})
	if apierrors.IsNotFound(err) {
		data.SetId("")
		return nil
	}
	if err != nil {
		return diag.FromErr(err)
	}
	known := map[string]any{}
	for name := range k.fields {
		known[name] = data.Get(name)
	}
	if _, isSecret := k.fields["data"]; isSecret {
		values, _ := live.Object["data"].(map[string]any)
		live.Object["data"] = decoded(values)
	}
	for name, value := range block(k.fields, live.Object, known) {
		if err := data.Set(name, value); err != nil {
			return diag.FromErr(err)
		}
	}
	return nil
}

func (k kind) remove(ctx context.Context, data *schema.ResourceData, provider any) diag.Diagnostics {
	client, name, err := k.client(data.Id(), provider)
	if err != nil {
		return diag.FromErr(err)
	}
	err = client.Delete(ctx, name, meta.DeleteOptions{})
	if err == nil && k.stays != nil {
		err = retry.RetryContext(ctx, data.Timeout(schema.TimeoutDelete), func() *retry.RetryError {
			live, err := client.Get(ctx, name, meta.GetOptions{})
			if err != nil {
				return retry.NonRetryableError(err)
			}
			return retry.RetryableError(k.stays(data.Id(), live))
		})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return diag.FromErr(err)
	}
	return nil
}

func bound(ctx context.Context, data *schema.ResourceData, ask get, limit time.Duration) error {
	if !data.Get("wait_until_bound").(bool) || !data.IsNewResource() {
		return nil
	}
	_, err := (&retry.StateChangeConf{
		Pending: []string{"Pending"},
		Target:  []string{"Bound"},
		Timeout: limit,
		Refresh: func() (any, string, error) {
			live, err := ask()
			if err != nil {
				return nil, "", err
			}
			phase, _, _ := unstructured.NestedString(live.Object, "status", "phase")
			return live, phase, nil
		},
	}).WaitForStateContext(ctx)
	return err
}

func rolledOut(ctx context.Context, data *schema.ResourceData, ask get, limit time.Duration) error {
	if !data.Get("wait_for_rollout").(bool) {
		return nil
	}
	return retry.RetryContext(ctx, limit, func() *retry.RetryError {
		live, err := ask()
		if err != nil {
			return retry.NonRetryableError(err)
		}
		return rollout(live)
	})
}

func rollout(live *unstructured.Unstructured) *retry.RetryError {
	of := func(path ...string) int64 {
		value, _, _ := unstructured.NestedInt64(live.Object, path...)
		return value
	}
	missing := func(format string, values ...any) *retry.RetryError {
		return retry.RetryableError(fmt.Errorf("Waiting for rollout to "+format, values...))
	}
	if live.GetGeneration() > of("status", "observedGeneration") {
		return missing("start")
	}
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	for _, each := range conditions {
		condition, _ := each.(map[string]any)
		if condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded" {
			return retry.NonRetryableError(fmt.Errorf("Deployment exceeded its progress deadline"))
		}
	}
	wanted, all, updated := of("spec", "replicas"), of("status", "replicas"), of("status", "updatedReplicas")
	ready, available := of("status", "readyReplicas"), of("status", "availableReplicas")
	switch {
	case updated < wanted:
		return missing("finish: %d out of %d new replicas have been updated...", updated, wanted)
	case all > updated:
		return missing("finish: %d old replicas are pending termination...", all-updated)
	case all > ready:
		return missing("finish: %d replicas wanted; %d replicas Ready", all, ready)
	case available < updated:
		return missing("finish: %d of %d updated replicas are available...", available, updated)
	}
	return nil
}
