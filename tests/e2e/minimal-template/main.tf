# The least that is a Docker workspace with code-server: the shape of Coder's own Docker example. The yardstick of
# test_workspace.py for how long a start may take.
terraform {
  required_providers {
    coder = {
      source  = "coder/coder"
      version = "2.20.0"
    }
    docker = {
      source  = "kreuzwerker/docker"
      version = "4.6.0"
    }
  }
}

variable "image" {
  type = string
}

variable "network" {
  type = string
}

variable "name_prefix" {
  type = string
}

data "coder_workspace" "me" {}

resource "coder_agent" "main" {
  arch           = "amd64"
  os             = "linux"
  startup_script = "code-server --auth none --port 13337 >/tmp/code-server.log 2>&1 &"
}

resource "coder_app" "code_server" {
  agent_id  = coder_agent.main.id
  slug      = "code-server"
  url       = "http://localhost:13337/"
  subdomain = true
}

resource "docker_volume" "home" {
  name = "coder-${data.coder_workspace.me.id}-home"
  labels {
    label = "coder-pilot.stack"
    value = var.name_prefix
  }
}

resource "docker_container" "workspace" {
  count        = data.coder_workspace.me.start_count
  name         = "${var.name_prefix}-minimal-${lower(data.coder_workspace.me.name)}"
  image        = var.image
  network_mode = var.network
  entrypoint   = ["sh", "-c", replace(coder_agent.main.init_script, "//127.0.0.1:", "//coder:")]
  env          = ["CODER_AGENT_TOKEN=${coder_agent.main.token}"]

  volumes {
    container_path = "/home/coder"
    volume_name    = docker_volume.home.name
  }

  labels {
    label = "coder-pilot.stack"
    value = var.name_prefix
  }
}
