"""The pilot, top to bottom: settings, networks, database, Coder, accounts, tailnet, template, its end, outputs."""

import signal

import pulumi_docker as docker

from stack import accounts, configuration, outputs
from stack.alive import look
from stack.control_plane import ControlPlane
from stack.database import Database
from stack.jobs import processes
from stack.keeper import Keeper
from stack.network import Network
from stack.retirement import Retirement
from stack.tailnet import address_of, serve
from stack.template import Template
from stack.workspace_image import WorkspaceImages
from stack.world import look as look_at_the_world

# When a resource fails, the language host interrupts this program: Python's traceback would bury the error.
signal.signal(signal.SIGINT, signal.SIG_DFL)
# The published coderd provider never ends by itself: without this each command would leave one more.
processes.end_left_behind(processes.home())

config = configuration.load()
site = config.site
accounts.check(config)
address = address_of(config)
world = look_at_the_world(config, address)
provider = docker.Provider("docker", host=world.docker_host)

network = Network("network", world, provider=provider)
database = Database("database", config.database, world, network.names, config.retirement, provider=provider)
control_plane = ControlPlane(
    "control-plane", config.control_plane, address, world, network.names, database, config.retirement, provider=provider
)
alive = look(world, after=[control_plane.container])
admin, member = accounts.declare(config, alive)
served = serve("tailnet", config.tailnet, site, url=address.url, after=[admin.account])
images = WorkspaceImages("workspace-images", config.workspaces, site, after=[database.role_password], provider=provider)
template = Template("template", config.workspaces, world, address, images.names, alive, token=admin.token)

# Not after the template: `make down` drops it from the state where Coder cannot come back.
to_be_retired = [network, database, control_plane, admin, member, *served.resources]
retirement = Retirement("retirement", config.retirement, world, token=admin.token, after=to_be_retired)
Keeper("keeper", config, world, network.names, database, alive, admin.token, provider=provider, after=[retirement])

outputs.export(config, network.names, served, admin, member, template)
