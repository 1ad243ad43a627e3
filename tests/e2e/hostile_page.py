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
async ({ coder, owner, agent, workspace }) => {
  const me = "/api/v2/users/me"
  const app = `/@${owner}/${workspace}.main/apps/code-server/`
  const size = "reconnect=4f0b3c9e-0000-4000-8000-000000000001&width=80&height=24"
  const terminal = `/api/v2/workspaceagents/${agent}/pty?${size}`
  const text = async (url, options) => (await fetch(url, { credentials: "include", ...options })).text()
  const isOwner = (body) => body.includes(`"username":"${owner}"`)
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
    "read": async () => isOwner(await text(coder + me)),
    "read in a frame": async () => isOwner(await framed(coder + me)),
    "read by a path of its own": async () => isOwner(await text(me)),
    "read by Coder's name": async () =>
      isOwner(await text(me, { headers: { "X-Forwarded-Host": new URL(coder).host } })),
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


def serve(container: str) -> None:
    """End the workspace's editor and serve the page in its place, and on PORT."""
    docker("exec", "--detach", container, "node", "-e", SERVER)
    for port in (PORT, EDITOR_PORT):
        asked = ("exec", container, "curl", "--silent", f"http://127.0.0.1:{port}/")
        eventually(lambda asked=asked: MARK in docker(*asked, check=False), timeout_s=30, what="the workspace's page")


def ways_to_coder(page: Page, *, coder: str, owner: str, workspace: str, agent: str) -> list[str]:
    """The ways that lead from the page, which is open, to Coder at `coder`."""
    page.get_by_text(MARK).wait_for()
    asked = {"coder": coder, "owner": owner, "workspace": workspace, "agent": agent}
    found: list[str] = page.evaluate(WAYS, asked)
    return found
