# Set by the Pulumi program, once for all workspaces. What a person chooses per workspace is in parameters.tf.
# Coder hands every value over as a string, so lists and maps travel as JSON.

variable "name_prefix" {
  description = "Prefix of the Docker containers' names; also the value of the label `coder-pilot.stack`."
  type        = string
  default     = "coder"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_.-]*$", var.name_prefix))
    error_message = "name_prefix must be usable in a Docker name: lower-case letters, digits, '_', '.' and '-'."
  }
}

variable "agent_url" {
  description = "Where a workspace reaches Coder, such as http://coder:7080."
  type        = string

  validation {
    condition     = can(regex("^https?://[^/\\s]+$", var.agent_url))
    error_message = "agent_url must be scheme, host and port without a path, such as http://coder:7080."
  }
}

variable "apps_domain" {
  description = "Domain below which each app has an address of its own, such as localhost:7080; empty where apps are paths of Coder's address."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z0-9.-]+(:[0-9]+)?)?$", var.apps_domain))
    error_message = "apps_domain must be empty or a domain with or without a port, such as localhost:7080."
  }
}

variable "workspace_images" {
  description = "JSON list of the images that a workspace may use; the first is the default."
  type        = string

  validation {
    condition     = try(length(jsondecode(var.workspace_images)) > 0 && alltrue([for name in jsondecode(var.workspace_images) : can(regex("^\\S+$", name))]), false)
    error_message = "workspace_images must be a JSON list of at least one image name, such as [\"codercom/enterprise-base:ubuntu\"]."
  }
}

variable "built_images" {
  description = "JSON map from an image of workspace_images to the image that has the editor and Claude Code in it; one that is not in it is used as it is."
  type        = string
  default     = "{}"

  validation {
    condition     = try(length(keys(jsondecode(var.built_images))) >= 0 && alltrue([for name, built in jsondecode(var.built_images) : can(regex("^\\S+$", built))]), false)
    error_message = "built_images must be a JSON map from image names to image names."
  }
}

variable "memory_default_mb" {
  description = "Memory that a workspace gets unless its owner asks for another amount (MiB)."
  type        = number
  default     = 4096

  validation {
    condition     = var.memory_default_mb >= 512 && floor(var.memory_default_mb) == var.memory_default_mb
    error_message = "memory_default_mb must be a whole number of at least 512: an editor alone takes 256."
  }
}

variable "memory_cap_mb" {
  description = "The most memory that a workspace may ask for (MiB)."
  type        = number
  default     = 16384

  validation {
    condition     = var.memory_cap_mb >= var.memory_default_mb && floor(var.memory_cap_mb) == var.memory_cap_mb
    error_message = "memory_cap_mb must be a whole number not below memory_default_mb."
  }
}

variable "cpus_default" {
  description = "CPU cores that a workspace gets unless its owner asks for another number."
  type        = number
  default     = 2

  validation {
    condition     = var.cpus_default >= 1 && floor(var.cpus_default) == var.cpus_default
    error_message = "cpus_default must be a whole number of at least 1."
  }
}

variable "cpus_cap" {
  description = "The most CPU cores that a workspace may ask for."
  type        = number
  default     = 8

  validation {
    condition     = var.cpus_cap >= var.cpus_default && floor(var.cpus_cap) == var.cpus_cap
    error_message = "cpus_cap must be a whole number not below cpus_default."
  }
}

variable "shm_mb" {
  description = "Size of /dev/shm (MiB)."
  type        = number
  default     = 1024

  validation {
    condition     = var.shm_mb >= 64 && floor(var.shm_mb) == var.shm_mb
    error_message = "shm_mb must be a whole number of at least 64."
  }
}

variable "workspace_trust" {
  description = "Whether the editor asks before it runs the code of a project: tasks, debuggers, extensions."
  type        = bool
  default     = true
}

variable "stop_grace_s" {
  description = "How long programs may take to end when the workspace is stopped (seconds)."
  type        = number
  default     = 10

  validation {
    condition     = var.stop_grace_s >= 0 && var.stop_grace_s <= 60 && floor(var.stop_grace_s) == var.stop_grace_s
    error_message = "stop_grace_s must be a whole number from 0 to 60."
  }
}

variable "keep_alive_max_hours" {
  description = "The longest that a working Claude may hold a workspace past its deadline (hours); 0 switches the watcher off everywhere."
  type        = number
  default     = 12

  validation {
    condition     = var.keep_alive_max_hours >= 0 && floor(var.keep_alive_max_hours) == var.keep_alive_max_hours
    error_message = "keep_alive_max_hours must be a whole number, 0 or more."
  }
}

variable "timezone" {
  description = "TZ of every workspace, such as Europe/Berlin; empty leaves the image's own time zone."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[A-Za-z0-9_+/-]*$", var.timezone))
    error_message = "timezone must be empty or the name of a time zone, such as Europe/Berlin."
  }
}

variable "service_environment" {
  description = "JSON map of environment variables for every workspace, such as {\"OLLAMA_HOST\": \"http://host.docker.internal:11434\"}."
  type        = string
  default     = "{}"
  # Somebody may have a secret in it all the same: a refusal would show it.
  sensitive = true

  validation {
    # The agent expands "$" in the values, and there is no way to escape it.
    condition     = try(alltrue([for name, value in jsondecode(var.service_environment) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name)) && can(regex("^[^$]*$", value))]), false)
    error_message = "service_environment must be a JSON map from variable names to strings without '$'."
  }
}

variable "anthropic_base_url" {
  description = "Base URL of an Anthropic-compatible service (LiteLLM) for every workspace; empty means Anthropic's own."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(https?://[^$\\s]+)?$", var.anthropic_base_url))
    error_message = "anthropic_base_url must be empty or an http(s) URL, such as http://host.docker.internal:4000."
  }
}
