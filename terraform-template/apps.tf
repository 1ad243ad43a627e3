# Where apps and ports of a workspace are, and what dev servers are told of it.

locals {
  # A dev server refuses a host that it does not know; these ask the environment for one more.
  dev_server_host = var.apps_domain == "" ? local.access_host : ".${split(":", var.apps_domain)[0]}"

  apps_environment = merge(
    {
      "__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS" = local.dev_server_host
      "RAILS_DEVELOPMENT_HOSTS"                = local.dev_server_host
      # Jupyter asks for a file, which code-server.sh writes.
      "JUPYTER_CONFIG_PATH" = "${local.state_dir}/jupyter"
    },
    # A port has an origin of its own, and none of it is on the editor's.
    var.apps_domain == "" ? {} : { CS_DISABLE_PROXY = "true" },
    # The path that a dev server is to be told as its base is below this one.
    var.apps_domain != "" ? {} : {
      CODER_PILOT_EDITOR_PATH = "/@${data.coder_workspace_owner.me.name}/${data.coder_workspace.me.name}.main/apps/code-server"
    },
  )
}
