# A workspace on Kubernetes: its home is a claim, and it runs in the one pod of a Deployment.

terraform {
  required_providers {
    coder = {
      source  = "coder/coder"
      version = "2.20.0"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "3.2.1"
    }
  }
}

provider "kubernetes" {
  config_path = var.kubeconfig
}

variable "kubeconfig" {
  description = "Path of the kubeconfig as Coder's container sees it: Coder keeps variables in plain text."
  type        = string

  validation {
    condition     = startswith(var.kubeconfig, "/")
    error_message = "kubeconfig must be an absolute path."
  }
}

variable "namespace" {
  description = "Namespace of the workspaces."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace must be the name of a Kubernetes namespace."
  }
}

variable "storage_class" {
  description = "Storage class of the homes; empty for the cluster's default."
  type        = string
  default     = ""
}

variable "secrets_name" {
  description = "Kubernetes Secret with the file `environment`, which every workspace reads at its start: secrets are in no variable."
  type        = string
}

locals {
  # A name that no rename changes, and that no other pilot's workspace has.
  name = "coder-${data.coder_workspace.me.id}"
  # Kubernetes expands $(NAME) and $$ in a container's command; each $ that is doubled stays one.
  command = [for text in ["bash", "-c", local.entrypoint, "entrypoint", local.init_script] : replace(text, "$", "$$")]
  # Another one for each start, for it has another token; as long as a label may be. A stopped workspace has none.
  start = try(substr(nonsensitive(sha256(jsonencode(kubernetes_secret_v1.start[0].data))), 0, 63), "")
  # Nobody builds an image for the cluster: what its own lacks is installed at the start, or said by the tile.
  claude_tile = true
}

# Outlives every stop, update and rename: no count, a name that never changes, and no attribute whose change could
# replace it.
resource "kubernetes_persistent_volume_claim_v1" "home" {
  # Many classes give a volume to the first pod that asks for it, and there is none yet.
  wait_until_bound = false

  metadata {
    name      = "${local.name}-home"
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    access_modes       = ["ReadWriteOnce"]
    storage_class_name = var.storage_class == "" ? null : var.storage_class
    resources {
      requests = { storage = "20Gi" }
    }
  }

  lifecycle {
    ignore_changes = all
  }
}

# With the agent's token: whoever may list Deployments sees none of it.
resource "kubernetes_secret_v1" "start" {
  count = data.coder_workspace.me.start_count

  metadata {
    name      = "${local.name}-start"
    namespace = var.namespace
    labels    = local.labels
  }

  data = local.environment
}

# Not a bare pod: one whose node stays away is deleted, and nothing but a start in Coder would bring it back.
resource "kubernetes_deployment_v1" "workspace" {
  count = data.coder_workspace.me.start_count
  # pod.sh does, and says in the build's log what it waits for.
  wait_for_rollout = false

  metadata {
    name      = local.name
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    replicas = 1

    # Two pods must never have one home.
    strategy {
      type = "Recreate"
    }

    selector {
      match_labels = { "coder.workspace_id" = data.coder_workspace.me.id }
    }

    template {
      metadata {
        # A start without a stop before it needs another pod.
        labels = merge(local.labels, { "coder-pilot.start" = local.start })
      }

      spec {
        hostname                         = lower(data.coder_workspace.me.name)
        automount_service_account_token  = false
        enable_service_links             = false
        termination_grace_period_seconds = var.stop_grace_s + 10

        # The user of the images. A home with many files is gone through only at its first start.
        security_context {
          fs_group               = 1000
          fs_group_change_policy = "OnRootMismatch"
        }

        container {
          name              = "workspace"
          image             = local.image
          image_pull_policy = "IfNotPresent"
          command           = slice(local.command, 0, 4)
          args              = slice(local.command, 4, 5)

          env_from {
            secret_ref {
              name = kubernetes_secret_v1.start[0].metadata[0].name
            }
          }

          resources {
            limits = {
              memory = "${data.coder_parameter.memory_mb.value}Mi"
              cpu    = data.coder_parameter.cpus.value
            }
            # Memory cannot be shared out and taken back, processor time can.
            requests = {
              memory = "${data.coder_parameter.memory_mb.value}Mi"
              cpu    = "100m"
            }
          }

          # No `allow_privilege_escalation = false`: it would take away sudo, which the images give to their user on purpose.
          security_context {
            capabilities {
              drop = ["NET_RAW", "MKNOD"]
            }
          }

          volume_mount {
            name       = "home"
            mount_path = local.home
          }

          volume_mount {
            name       = "secrets"
            mount_path = local.secrets_dir
            read_only  = true
          }

          volume_mount {
            name       = "shm"
            mount_path = "/dev/shm"
          }
        }

        volume {
          name = "home"
          persistent_volume_claim {
            claim_name = kubernetes_persistent_volume_claim_v1.home.metadata[0].name
          }
        }

        volume {
          name = "secrets"
          secret {
            secret_name = var.secrets_name
            optional    = true
          }
        }

        # Of browsers and databases; what is in it counts for the memory.
        volume {
          name = "shm"
          empty_dir {
            medium     = "Memory"
            size_limit = "${var.shm_mb}Mi"
          }
        }
      }
    }
  }
}

# The agent is let in when the build has ended, so nothing is lost by waiting for the pod here.
resource "terraform_data" "started" {
  count            = data.coder_workspace.me.start_count
  triggers_replace = local.start
  depends_on       = [kubernetes_deployment_v1.workspace]

  provisioner "local-exec" {
    command = "bash '${path.module}/scripts/pod.sh' started"
    environment = {
      KUBECONFIG = var.kubeconfig
      NAMESPACE  = var.namespace
      DEPLOYMENT = local.name
      SELECTOR   = "coder.workspace_id=${data.coder_workspace.me.id},coder-pilot.start=${local.start}"
      LIMIT_S    = 600
      # A claim keeps the one that it was made with.
      STORAGE_CLASS = kubernetes_persistent_volume_claim_v1.home.spec[0].storage_class_name
    }
  }
}

# Deleted before the Deployment, whose deletion does not wait for the pod: the next one must not have its home before it has
# ended.
resource "terraform_data" "ended" {
  count      = data.coder_workspace.me.start_count
  depends_on = [kubernetes_deployment_v1.workspace]
  input = {
    KUBECONFIG = var.kubeconfig
    NAMESPACE  = var.namespace
    DEPLOYMENT = local.name
    SELECTOR   = "coder.workspace_id=${data.coder_workspace.me.id}"
    LIMIT_S    = var.stop_grace_s + 40
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "bash '${path.module}/scripts/pod.sh' ended"
    environment = self.input
  }
}
