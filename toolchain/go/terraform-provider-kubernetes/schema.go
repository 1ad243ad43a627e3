package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	runtime "k8s.io/apimachinery/pkg/runtime/schema"
)

type fields = map[string]*schema.Schema

func text() *schema.Schema { return &schema.Schema{Type: schema.TypeString, Optional: true} }

func needed() *schema.Schema { return &schema.Schema{Type: schema.TypeString, Required: true} }

// number always has a default: without one, none could not be told from zero.
func number(byDefault int) *schema.Schema {
	return &schema.Schema{Type: schema.TypeInt, Optional: true, Default: byDefault}
}

func maybe() *schema.Schema { return &schema.Schema{Type: schema.TypeBool, Optional: true} }

func flag(byDefault bool) *schema.Schema {
	return &schema.Schema{Type: schema.TypeBool, Optional: true, Default: byDefault}
}

func texts() *schema.Schema {
	return &schema.Schema{Type: schema.TypeList, Optional: true, Elem: &schema.Schema{Type: schema.TypeString}}
}

func mapping() *schema.Schema {
	return &schema.Schema{Type: schema.TypeMap, Optional: true, Elem: &schema.Schema{Type: schema.TypeString}}
}

// one is a block that may be there once, many one that may repeat.
func one(of fields) *schema.Schema {
	return &schema.Schema{Type: schema.TypeList, Optional: true, MaxItems: 1, Elem: &schema.Resource{Schema: of}}
}

func many(of fields) *schema.Schema {
	return &schema.Schema{Type: schema.TypeList, Optional: true, Elem: &schema.Resource{Schema: of}}
}

func required(of *schema.Schema) *schema.Schema {
	of.Optional, of.Required = false, true
	return of
}

func fixed(of *schema.Schema) *schema.Schema {
	of.ForceNew = true
	return of
}

// computed is what the API fills in where it is not set.
func computed(of *schema.Schema) *schema.Schema {
	of.Computed = true
	return of
}

// told is what the API says and nobody sets.
func told(kind schema.ValueType) *schema.Schema { return &schema.Schema{Type: kind, Computed: true} }

// quantity is one that the API may write in another way: 4096Mi is 4Gi.
func quantity(of *schema.Schema) *schema.Schema {
	of.DiffSuppressFunc = func(_, before, after string, _ *schema.ResourceData) bool {
		first, err := resource.ParseQuantity(before)
		if err != nil {
			return false
		}
		second, err := resource.ParseQuantity(after)
		return err == nil && first.Cmp(second) == 0
	}
	return of
}

func metadata(namespace *schema.Schema) *schema.Schema {
	return required(one(fields{
		"name":             computed(fixed(text())),
		"namespace":        fixed(namespace),
		"labels":           mapping(),
		"annotations":      mapping(),
		"generation":       told(schema.TypeInt),
		"resource_version": told(schema.TypeString),
		"uid":              told(schema.TypeString),
	}))
}

func inDefault() *schema.Schema {
	return &schema.Schema{Type: schema.TypeString, Optional: true, Default: "default"}
}

func imported() *schema.ResourceImporter {
	return &schema.ResourceImporter{StateContext: schema.ImportStatePassthroughContext}
}

func claim() kind {
	return kind{
		kind: "PersistentVolumeClaim", of: runtime.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"},
		fields: fields{
			"metadata": metadata(inDefault()),
			"spec": required(one(fields{
				"access_modes": fixed(&schema.Schema{
					Type: schema.TypeSet, Required: true, Elem: &schema.Schema{Type: schema.TypeString},
				}),
				"resources": required(one(fields{
					"requests": quantity(mapping()), "limits": fixed(quantity(mapping())),
				})),
				"storage_class_name": computed(fixed(text())),
				"volume_name":        computed(fixed(text())),
			})),
			"wait_until_bound": flag(true),
		},
		replaced: [2]string{"spec.0.resources.0.requests", "/spec/resources/requests"},
		settled:  bound,
		stays: func(id string, live *unstructured.Unstructured) error {
			return fmt.Errorf(
				"Persistent volume claim %s still exists with finalizers: %v", live.GetName(), live.GetFinalizers(),
			)
		},
		importer: &schema.ResourceImporter{
			StateContext: func(_ context.Context, data *schema.ResourceData, _ any) ([]*schema.ResourceData, error) {
				return []*schema.ResourceData{data}, data.Set("wait_until_bound", true)
			},
		},
		timeouts: &schema.ResourceTimeout{Create: schema.DefaultTimeout(5 * time.Minute)},
	}
}

func secret() kind {
	data := computed(mapping())
	data.Sensitive = true
	return kind{
		kind: "Secret", of: runtime.GroupVersionResource{Version: "v1", Resource: "secrets"},
		fields: fields{
			"metadata": metadata(inDefault()),
			"data":     data,
			"type":     fixed(&schema.Schema{Type: schema.TypeString, Optional: true, Default: "Opaque"}),
		},
		replaced:    [2]string{"data", "/data"},
		updateFails: "Failed to update secret: ",
		importer:    imported(),
		timeouts:    &schema.ResourceTimeout{Create: schema.DefaultTimeout(time.Minute)},
	}
}

func deployment() kind {
	return kind{
		kind: "Deployment", of: runtime.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"},
		fields: fields{
			"metadata": metadata(inDefault()),
			"spec": required(one(fields{
				"replicas":                  computed(text()),
				"min_ready_seconds":         number(0),
				"progress_deadline_seconds": number(600),
				"revision_history_limit":    number(10),
				"strategy": computed(one(fields{
					"type": &schema.Schema{Type: schema.TypeString, Optional: true, Default: "RollingUpdate"},
				})),
				"selector": fixed(one(fields{"match_labels": fixed(mapping())})),
				"template": required(one(fields{
					"metadata": metadata(text()),
					"spec":     required(one(pod())),
				})),
			})),
			"wait_for_rollout": flag(true),
		},
		replaced:    [2]string{"spec", "/spec"},
		createFails: "Failed to create deployment: ",
		updateFails: "Failed to update deployment: ",
		settled:     rolledOut,
		stays: func(id string, _ *unstructured.Unstructured) error {
			return fmt.Errorf("Deployment (%s) still exists", id)
		},
		importer: imported(),
		timeouts: &schema.ResourceTimeout{
			Create: schema.DefaultTimeout(10 * time.Minute),
			Update: schema.DefaultTimeout(10 * time.Minute),
			Delete: schema.DefaultTimeout(10 * time.Minute),
		},
	}
}

func pod() fields {
	return fields{
		"hostname":                         computed(text()),
		"automount_service_account_token":  flag(true),
		"enable_service_links":             flag(true),
		"termination_grace_period_seconds": number(30),
		"security_context": one(fields{
			"fs_group": text(), "fs_group_change_policy": text(), "run_as_non_root": maybe(),
		}),
		"container": many(fields{
			"name":              needed(),
			"image":             text(),
			"image_pull_policy": computed(text()),
			"command":           texts(),
			"args":              texts(),
			"env_from":          many(fields{"secret_ref": one(fields{"name": needed(), "optional": maybe()})}),
			"resources": computed(one(fields{
				"limits": computed(quantity(mapping())), "requests": computed(quantity(mapping())),
			})),
			// A block of it says all of it to the API, as the published one does.
			"security_context": one(fields{
				"capabilities":               one(fields{"add": texts(), "drop": texts()}),
				"allow_privilege_escalation": flag(true),
				"privileged":                 flag(false),
				"read_only_root_filesystem":  flag(false),
				"run_as_non_root":            maybe(),
			}),
			"volume_mount": many(fields{
				"name": needed(), "mount_path": needed(), "sub_path": text(), "read_only": flag(false),
			}),
		}),
		"volume": many(fields{
			"name":                    text(),
			"persistent_volume_claim": one(fields{"claim_name": text(), "read_only": flag(false)}),
			"secret": one(fields{
				"secret_name": text(), "optional": maybe(),
				"default_mode": &schema.Schema{Type: schema.TypeString, Optional: true, Default: "0644"},
			}),
			"empty_dir": one(fields{
				"medium":     &schema.Schema{Type: schema.TypeString, Optional: true, Default: ""},
				"size_limit": quantity(text()),
			}),
		}),
	}
}
