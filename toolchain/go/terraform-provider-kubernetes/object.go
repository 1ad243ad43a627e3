package main

import (
	"encoding/base64"
	"maps"
	"net/url"
	"strconv"
	"strings"

	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

// The API has some lists under other names than Terraform's blocks that repeat.
var plurals = map[string]string{"container": "containers", "volume": "volumes", "volume_mount": "volumeMounts"}

// The published schema has these numbers as texts, so that none is not zero; the last is octal.
var numbers = map[string]int{"replicas": 10, "fs_group": 10, "default_mode": 8}

// object is the block's API object: names in camel case, a block that may be there once an object, what is empty left out.
func object(of fields, block map[string]any) map[string]any {
	made := map[string]any{}
	for name, field := range of {
		if field.Computed && !field.Optional {
			continue
		}
		if value := converted(name, field, block[name]); value != nil {
			made[camel(name)] = value
		}
	}
	return made
}

func converted(name string, field *schema.Schema, value any) any {
	switch value := value.(type) {
	case string:
		if base, isNumber := numbers[name]; isNumber && value != "" {
			number, _ := strconv.ParseInt(value, base, 64)
			return number
		}
		if value != "" {
			return value
		}
	case int:
		return int64(value)
	case bool:
		return value
	case map[string]any:
		if len(value) > 0 {
			return value
		}
	case *schema.Set:
		return value.List()
	case []any:
		nested, isBlock := field.Elem.(*schema.Resource)
		if len(value) == 0 || !isBlock {
			return listed(value)
		}
		blocks := make([]any, len(value))
		for index, each := range value {
			// A block with nothing in it is nil.
			block, _ := each.(map[string]any)
			blocks[index] = object(nested.Schema, block)
		}
		if field.MaxItems == 1 {
			return blocks[0]
		}
		return blocks
	}
	return nil
}

func listed(values []any) any {
	if len(values) == 0 {
		return nil
	}
	return values
}

// block is the other way: what the schema knows of an API object. `known` is the block as Terraform has it.
func block(of fields, object, known map[string]any) map[string]any {
	made := map[string]any{}
	for name, field := range of {
		if value, there := object[camel(name)]; there {
			made[name] = shown(name, field, value, known[name])
		}
	}
	return made
}

func shown(name string, field *schema.Schema, value, known any) any {
	switch value := value.(type) {
	case int64:
		base, isText := numbers[name]
		switch {
		case !isText:
			return int(value)
		case base == 8:
			return "0" + strconv.FormatInt(value, base)
		}
		return strconv.FormatInt(value, base)
	case map[string]any:
		nested, isBlock := field.Elem.(*schema.Resource)
		if isBlock {
			return []any{block(nested.Schema, value, at(known, 0))}
		}
		if name == "labels" || name == "annotations" {
			ours, _ := known.(map[string]any)
			value = maps.Clone(value)
			maps.DeleteFunc(value, func(key string, _ any) bool { return internal(key) && ours[key] == nil })
		}
		return value
	case []any:
		nested, isBlock := field.Elem.(*schema.Resource)
		if !isBlock {
			return value
		}
		blocks := make([]any, len(value))
		for index, each := range value {
			blocks[index] = block(nested.Schema, each.(map[string]any), at(known, index))
		}
		return blocks
	}
	return value
}

func at(blocks any, index int) map[string]any {
	list, _ := blocks.([]any)
	if index >= len(list) {
		return nil
	}
	found, _ := list[index].(map[string]any)
	return found
}

// internal is whether a label or annotation is Kubernetes' own, which the published provider shows only if it is declared.
func internal(key string) bool {
	parsed, err := url.Parse("//" + key)
	if err != nil || parsed.Hostname() == "app.kubernetes.io" || parsed.Hostname() == "service.beta.kubernetes.io" {
		return false
	}
	return strings.HasSuffix(parsed.Hostname(), "kubernetes.io")
}

func camel(name string) string {
	if plural, known := plurals[name]; known {
		return plural
	}
	words := strings.Split(name, "_")
	for index, word := range words[1:] {
		words[index+1] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, "")
}

func encoded(data map[string]any) map[string]any {
	made := map[string]any{}
	for key, value := range data {
		made[key] = base64.StdEncoding.EncodeToString([]byte(value.(string)))
	}
	return made
}

func decoded(data map[string]any) map[string]any {
	made := map[string]any{}
	for key, value := range data {
		text, _ := base64.StdEncoding.DecodeString(value.(string))
		made[key] = string(text)
	}
	return made
}
