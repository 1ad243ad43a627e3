# A workspace on a cluster: its claim outlives what it goes through, its pod does not. Kubernetes is mocked; the coder provider
# is the real one. The runs share one state, in order.

mock_provider "kubernetes" {}

variables {
  name_prefix      = "pilot"
  agent_url        = "http://10.99.0.1:7080"
  workspace_images = "[\"image-a\", \"image-b\"]"
  kubeconfig       = "/home/coder/kubernetes/config"
  namespace        = "workspaces"
  storage_class    = "fast"
  secrets_name     = "pilot-workspaces"
}

override_data {
  target = data.coder_workspace.me
  values = {
    id          = "0b4c1d4e-0000-4000-8000-000000000001"
    name        = "Alpha"
    start_count = 1
    access_url  = "http://127.0.0.1:7080"
  }
}

override_data {
  target = data.coder_workspace_owner.me
  values = {
    id        = "0b4c1d4e-0000-4000-8000-000000000002"
    name      = "Ann"
    full_name = ""
    email     = "ann@example.com"
  }
}

override_data {
  target = data.coder_provisioner.me
  values = { arch = "amd64", os = "linux" }
}

run "a_started_workspace_is_one_pod_that_is_replaced_and_never_doubled" {
  assert {
    condition     = kubernetes_deployment_v1.workspace[0].spec[0].replicas == "1" && kubernetes_deployment_v1.workspace[0].spec[0].strategy[0].type == "Recreate"
    error_message = "There must be one pod, and its successor must wait for its end."
  }
  assert {
    condition     = kubernetes_deployment_v1.workspace[0].metadata[0].namespace == "workspaces" && kubernetes_deployment_v1.workspace[0].metadata[0].name == "coder-0b4c1d4e-0000-4000-8000-000000000001"
    error_message = "It must be in the namespace, under a name that no rename changes."
  }
  assert {
    condition     = kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].container[0].image == "image-a"
    error_message = "The first image of the list must be the default."
  }
  assert {
    condition     = kubernetes_deployment_v1.workspace[0].spec[0].selector[0].match_labels == tomap({ "coder.workspace_id" = "0b4c1d4e-0000-4000-8000-000000000001" })
    error_message = "The pod must be found by what never changes."
  }
}

run "the_pod_has_no_more_of_the_cluster_than_it_needs" {
  assert {
    condition     = kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].automount_service_account_token == false && kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].enable_service_links == false
    error_message = "There must be no token of the cluster and no names of its services in a workspace."
  }
  assert {
    condition     = toset(kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].container[0].security_context[0].capabilities[0].drop) == toset(["NET_RAW", "MKNOD"])
    error_message = "Raw sockets and devices must be dropped."
  }
  assert {
    condition     = kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].container[0].resources[0].limits == tomap({ memory = "4096Mi", cpu = "2" })
    error_message = "The limits must be those of the parameters."
  }
  assert {
    condition     = kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].container[0].resources[0].requests["memory"] == "4096Mi"
    error_message = "The memory must be set aside on the node."
  }
  assert {
    condition     = kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].termination_grace_period_seconds == 20
    error_message = "Programs must have their time to end."
  }
}

run "kubernetes_gives_the_scripts_to_the_shell_as_they_are" {
  assert {
    # What the kubelet makes of a command: "$$" becomes "$".
    condition     = replace(kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].container[0].command[2], "$$", "$") == local.entrypoint
    error_message = "Every $ must be doubled."
  }
  assert {
    condition     = strcontains(kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].container[0].command[2], "(($$$$ == 1))")
    error_message = "The shell's own $$ must come through."
  }
}

run "a_start_ends_when_its_own_pod_runs" {
  assert {
    condition     = !kubernetes_deployment_v1.workspace[0].wait_for_rollout && length(terraform_data.started) == 1
    error_message = "pod.sh must wait for the pod: the provider's own wait says no reason."
  }
  assert {
    condition     = length(local.start) == 63 && kubernetes_deployment_v1.workspace[0].spec[0].template[0].metadata[0].labels["coder-pilot.start"] == local.start && terraform_data.started[0].triggers_replace == local.start
    error_message = "Each start must be told from the one before."
  }
  assert {
    condition     = terraform_data.ended[0].input.LIMIT_S == 50
    error_message = "The pod must have its time to end, and some more."
  }
}

run "claude_has_a_tile_whatever_the_image_has" {
  assert {
    condition     = length(coder_app.claude) == 1
    error_message = "No image is built for the cluster, and the tile says what is missing."
  }
}

run "the_agents_token_is_in_the_secret_alone" {
  assert {
    condition     = nonsensitive(kubernetes_secret_v1.start[0].data["CODER_AGENT_URL"]) == "http://10.99.0.1:7080" && nonsensitive(kubernetes_secret_v1.start[0].data["CODER_AGENT_TOKEN"]) != ""
    error_message = "The Secret must have the environment of the workspace."
  }
  assert {
    condition     = !strcontains(jsonencode(kubernetes_deployment_v1.workspace), nonsensitive(coder_agent.main.token))
    error_message = "Whoever may see Deployments must not see the agent's token."
  }
}

run "the_home_is_a_claim_that_no_first_consumer_holds_up" {
  assert {
    condition     = kubernetes_persistent_volume_claim_v1.home.metadata[0].name == "coder-0b4c1d4e-0000-4000-8000-000000000001-home"
    error_message = "The claim must be named after the workspace's id."
  }
  assert {
    condition     = kubernetes_persistent_volume_claim_v1.home.wait_until_bound == false && kubernetes_persistent_volume_claim_v1.home.spec[0].storage_class_name == "fast"
    error_message = "The claim must not wait for its volume."
  }
}

run "a_stop_removes_the_pod_and_keeps_the_home" {
  override_data {
    target = data.coder_workspace.me
    values = {
      id          = "0b4c1d4e-0000-4000-8000-000000000001"
      name        = "Alpha"
      start_count = 0
      access_url  = "http://127.0.0.1:7080"
    }
  }
  assert {
    condition     = length(kubernetes_deployment_v1.workspace) == 0 && length(kubernetes_secret_v1.start) == 0 && length(terraform_data.started) == 0 && length(terraform_data.ended) == 0
    error_message = "A stopped workspace must have neither a pod nor a token."
  }
  assert {
    condition     = kubernetes_persistent_volume_claim_v1.home.metadata[0].name == "coder-0b4c1d4e-0000-4000-8000-000000000001-home"
    error_message = "A stop must keep the claim."
  }
}

run "a_rename_and_an_update_keep_the_home" {
  override_data {
    target = data.coder_workspace.me
    values = {
      id          = "0b4c1d4e-0000-4000-8000-000000000001"
      name        = "Omega"
      start_count = 1
      access_url  = "http://127.0.0.1:7080"
    }
  }
  variables {
    name_prefix      = "other"
    storage_class    = "slow"
    workspace_images = "[\"image-c\"]"
  }
  assert {
    condition     = kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].hostname == "omega" && kubernetes_deployment_v1.workspace[0].spec[0].template[0].spec[0].container[0].image == "image-c"
    error_message = "The pod must follow the new name and the template."
  }
  assert {
    condition     = kubernetes_persistent_volume_claim_v1.home.spec[0].storage_class_name == "fast" && kubernetes_persistent_volume_claim_v1.home.metadata[0].labels["coder.workspace_name"] == "Alpha"
    error_message = "Neither may touch the claim."
  }
}
