"""Pages that a workspace serves and that are after their viewer's session with Coder."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.e2e.pilot_fixture import docker, eventually

PORT = 8123
EDITOR_PORT = 13337
MARK = "a page of the workspace"

# On a port of its own and, as soon as the editor is gone, in the editor's place.
SERVER = f"""
const fs = require("fs")
for (const id of fs.readdirSync("/proc").map(Number).filter((id) => id && id !== process.pid)) {{
  try {{
    const line = fs.readFileSync(`/proc/${{id}}/cmdline`, "utf8")
    if (line.includes("code-server/out/node/entry")) process.kill(id, "SIGKILL")
  }} catch {{}}
}}
const serve = (port) => {{
  const server = require("http").createServer((asked, answer) => {{
    answer.setHeader("Content-Type", "text/html")
    answer.end("<!doctype html><title>{MARK}</title>{MARK}")
  }})
  server.on("error", () => setTimeout(() => server.listen(port, "127.0.0.1"), 10))
  server.listen(port, "127.0.0.1")
}}
serve({PORT})
serve({EDITOR_PORT})
"""

# Each way answers whether it led to Coder: what nothing but Coder would say, or a terminal that opens.
WAYS = """
async ({ coder, viewer, owner, agent, workspace }) => {
  const me = "/api/v2/users/me"
  const app = `/@${owner}/${workspace}.main/apps/code-server/`
  const size = "reconnect=4f0b3c9e-0000-4000-8000-000000000001&width=80&height=24"
  const terminal = `/api/v2/workspaceagents/${agent}/pty?${size}`
  const text = async (url, options) => (await fetch(url, { credentials: "include", ...options })).text()
  const isViewer = (body) => body.includes(`"username":"${viewer}"`)
  const token = async () => /csrf-token" content="([^"]+)"/.exec(await text(coder + "/"))[1]
  const framed = async (url) => {
    const frame = document.createElement("iframe")
    frame.src = url
    const loaded = new Promise((done) => (frame.onload = done))
    document.body.append(frame)
    await loaded
    return frame.contentDocument.documentElement.outerHTML
  }
  const opens = (url) =>
    new Promise((done) => {
      const socket = new WebSocket(url.replace(/^http/, "ws"))
      socket.onopen = () => done(true)
      socket.onerror = () => done(false)
    })
  const ways = {
    "read": async () => isViewer(await text(coder + me)),
    "read in a frame": async () => isViewer(await framed(coder + me)),
    "read by a path of its own": async () => isViewer(await text(me)),
    "read by Coder's name": async () =>
      isViewer(await text(me, { headers: { "X-Forwarded-Host": new URL(coder).host } })),
    "read what protects from forged requests": async () => (await token()) !== "",
    "write": async () => {
      const options = { method: "POST", headers: { "X-CSRF-TOKEN": await token() } }
      return (await text(`${coder}${me}/keys`, options)).includes('"key"')
    },
    "open a terminal": () => opens(coder + terminal),
    "open a terminal by a path of its own": () => opens(location.origin + terminal),
    "read a path app": async () => (await text(coder + app)).includes(document.title),
    "read in a frame of a path app": async () => (await framed(coder + app)).includes(document.title),
  }
  const limit = () => new Promise((done) => setTimeout(() => done(false), 5000))
  const led = await Promise.all(
    Object.values(ways).map((way) => Promise.race([way().catch(() => false), limit()])),
  )
  return Object.keys(ways).filter((_, index) => led[index])
}
"""

# What nobody but an administrator may: each answers whether it was done.
RIGHTS = (
    "read how Coder is set up",
    "push a template",
    "see the other users",
    "read the workspace of another",
    "open a terminal in the workspace of another",
    "stop the workspace of another",
)
BEYOND = """
async ({ coder, workspace, agent }) => {
  const asked = (path, options) => fetch(coder + path, { credentials: "include", ...options })
  const token = /csrf-token" content="([^"]+)"/.exec(await (await asked("/")).text())[1]
  const send = (path, type, body) =>
    asked(path, { method: "POST", headers: { "X-CSRF-TOKEN": token, "Content-Type": type }, body })
  const sent = async (path, body) => (await send(path, "application/json", JSON.stringify(body))).ok
  const organization = (await (await asked("/api/v2/users/me")).json()).organization_ids[0]
  const archive = await (await send("/api/v2/files", "application/x-tar", new ArrayBuffer(1024))).json()
  const terminal = new Promise((done) => {
    const size = "reconnect=4f0b3c9e-0000-4000-8000-000000000002&width=80&height=24"
    const socket = new WebSocket(`${coder.replace(/^http/, "ws")}/api/v2/workspaceagents/${agent}/pty?${size}`)
    socket.onopen = () => done(true)
    socket.onerror = () => done(false)
  })
  return [
    (await asked("/api/v2/deployment/config")).ok,
    await sent(`/api/v2/organizations/${organization}/templateversions`, {
      storage_method: "file", file_id: archive.hash, provisioner: "terraform",
    }),
    (await (await asked("/api/v2/users")).json()).users?.length > 1,
    (await asked(`/api/v2/workspaces/${workspace}`)).ok,
    await terminal,
    // The last: it ends what the others look at.
    await sent(`/api/v2/workspaces/${workspace}/builds`, { transition: "stop" }),
  ]
}
"""

FRAME = """
(url) => new Promise((done) => {
  const frame = Object.assign(document.createElement("iframe"), { src: url })
  frame.onload = () => done(frame)
  document.body.append(frame)
})
"""


def serve(container: str) -> None:
    """End the workspace's editor and serve the page in its place, and on PORT."""
    docker("exec", "--detach", container, "node", "-e", SERVER)
    for port in (PORT, EDITOR_PORT):
        asked = ("exec", container, "curl", "--silent", f"http://127.0.0.1:{port}/")
        eventually(lambda asked=asked: MARK in docker(*asked, check=False), timeout_s=30, what="the workspace's page")


def ways_to_coder(page: Page, *, coder: str, viewer: str, owner: str, workspace: str, agent: str) -> list[str]:
    """The ways that lead from the page, which `viewer` has open, to Coder at `coder`."""
    page.get_by_text(MARK).wait_for()
    asked = {"coder": coder, "viewer": viewer, "owner": owner, "workspace": workspace, "agent": agent}
    found: list[str] = page.evaluate(WAYS, asked)
    return found


def beyond(page: Page, *, coder: str, workspace: str, agent: str) -> list[str]:
    """What of an administrator's rights the page, which is open, has; on the workspace, which is not its viewer's."""
    done = page.evaluate(BEYOND, {"coder": coder, "workspace": workspace, "agent": agent})
    return [right for right, was_done in zip(RIGHTS, done, strict=True) if was_done]


def frames(page: Page, url: str) -> bool:
    """Whether the page, which is open, can show what is at `url` inside of it."""
    loaded = page.evaluate_handle(FRAME, url).as_element()
    frame = loaded.content_frame() if loaded else None
    assert frame, "a frame has a document, if only one that says why it has no other"
    return frame.url.startswith(url)
