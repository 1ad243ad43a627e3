"""The pilot, top to bottom: settings, networks, database, control plane, admin, tailnet, template, outputs, its end."""

import signal

import pulumi
import pulumi_docker as docker

from stack import settings
from stack.admin import Admin, AdminArgs
from stack.alive import Site, look
from stack.control_plane import AGENT_URL, ControlPlane, ControlPlaneArgs
from stack.database import Database, DatabaseArgs
from stack.jobs import pilot_file
from stack.network import Network
from stack.retirement import Retirement, RetirementArgs
from stack.tailnet import Tailnet, TailnetArgs, access_url
from stack.template import Template, TemplateArgs
from stack.workspace_image import WorkspaceImages, WorkspaceImagesArgs

# When a resource fails, the language host interrupts this program: Python's traceback would bury the error.
signal.signal(signal.SIGINT, signal.SIG_DFL)

# An index: a part takes as few lines as it can.
# fmt: off
config = settings.load()
provider = docker.Provider("docker", host=config.docker_host)
tailnet = TailnetArgs(
    enabled=config.tailnet, port=config.port, name=config.tailnet_name, socket=config.tailscale_socket)
url = config.access_url or access_url(tailnet)

network = Network("network", stack=config.name, provider=provider)
networks = network.networks
database = Database("database", DatabaseArgs(
    stack=config.name, image=config.postgres_image, data_dir=config.data_dir, docker_host=config.docker_host,
    purge=config.purge_on_destroy, control_network=networks.control, limits=config.postgres_limits), provider=provider)
control_plane = ControlPlane("control-plane", ControlPlaneArgs(
    stack=config.name, image=config.coder_image, port=config.port, access_url=url, networks=networks,
    connection_url=database.connection_url, docker_host=config.docker_host, docker_socket=config.docker_socket,
    limits=config.coder_limits, postgres_container=database.container_name, data_dir=config.data_dir,
    backups_kept=config.backups_kept), provider=provider, depends_on=[database.role_password])
site = Site(
    coder_url=control_plane.url, coder_container=control_plane.container_name,
    postgres_container=database.container_name, docker_host=config.docker_host, data_dir=config.data_dir)
alive = look(site, config.docker_socket, depends_on=[control_plane.container])
admin = Admin("admin", AdminArgs(
    username=config.admin_username, email=config.admin_email, site=site, alive=alive))
to_be_retired: list[pulumi.Resource] = [network, database, control_plane, admin]
note: pulumi.Input[str] = ""
if tailnet.enabled:
    serve = Tailnet("tailnet", tailnet, url=url, after=[admin.account])
    url, note = serve.url, pulumi.Output.concat(" ", serve.note)
    to_be_retired.append(serve)
images = WorkspaceImages("workspace-images", WorkspaceImagesArgs(
    stack=config.name, bases=config.workspace_images, docker_host=config.docker_host, data_dir=config.data_dir),
    provider=provider, after=[database.role_password])
template = Template("template", TemplateArgs(
    name="project", coder_url=alive.coder_url, token=admin.token, data_dir=config.data_dir,
    variables={**config.workspace_variables(), "workspace_network": networks.workspaces, "agent_url": AGENT_URL,
               "built_images": images.names},
    default_ttl_ms=config.idle_ttl_ms, activity_bump_ms=config.idle_bump_ms,
    adopted_id=pilot_file.template_id(config.data_dir)))
# Not after the template: `make down` drops it from the state where Coder cannot come back.
Retirement("retirement", RetirementArgs(
    stack=config.name, site=site, token=admin.token, backups_kept=config.backups_kept,
    purge=config.purge_on_destroy), after=to_be_retired)

pulumi.export("url", url)
pulumi.export("adminUsername", config.admin_username)
pulumi.export("adminEmail", config.admin_email)
pulumi.export("adminPassword", admin.password)
pulumi.export("templateVersion", template.version)
pulumi.export("workspaceNetwork", networks.workspaces)
pulumi.export("next", pulumi.Output.format(
    "Open {0}, sign in as {1} (`pulumi stack output adminPassword --show-secrets`) and create a workspace, or run "
    "`make workspace NAME=demo`.{2}", url, config.admin_email, note))
