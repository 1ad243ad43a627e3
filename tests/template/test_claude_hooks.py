"""Claude Code, as it is in the workspace image, tells by its hooks when it works and when it waits.

It talks to a server in the place of Anthropic's API, which has it run one command and then ends the turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from template_support import SCRIPTS

from toolchain.builder import Builder
from toolchain.pieces import PIECES


@pytest.fixture
def claude() -> Path:
    """The `claude` of the workspace image."""
    program = Builder(pieces=PIECES).directory("code-server") / "bin" / "claude"
    assert program.exists(), f"{program} is missing: run `python3 -m toolchain build code-server`"
    return program


@pytest.fixture
def api(tmp_path: Path) -> Iterator[str]:
    """A Messages API: its first answer is a command that shows the claims, its second ends the turn."""
    command = f"cat {tmp_path}/state/claims/[0-9]* >{tmp_path}/during"

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answered = "tool_result" in json.dumps(asked["messages"][-1])
            if answered or not any(tool["name"] == "Bash" for tool in asked.get("tools", [])):
                block: dict[str, object] = {"type": "text", "text": ""}
                delta: dict[str, object] = {"type": "text_delta", "text": "Done."}
                stop_reason = "end_turn"
            else:
                block = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}
                arguments = json.dumps({"command": command, "description": "Show the claims"})
                delta = {"type": "input_json_delta", "partial_json": arguments}
                stop_reason = "tool_use"
            usage = {"input_tokens": 1, "output_tokens": 1}
            message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": []}
            events = (
                {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}},
                {"type": "content_block_start", "index": 0, "content_block": block},
                {"type": "content_block_delta", "index": 0, "delta": delta},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage},
                {"type": "message_stop"},
            )
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for event in events:
                self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_claude_code_claims_work_during_a_turn_and_rests_after_it(claude: Path, api: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".claude").mkdir(parents=True)
    # In a workspace the template lays the same hooks into /etc/claude-code.
    hooks = (SCRIPTS / "claude-hooks.json").read_text().replace("/opt/coder-pilot", str(SCRIPTS))
    (home / ".claude" / "settings.json").write_text(hooks)
    state = tmp_path / "state"
    done = subprocess.run(
        [claude, "-p", "Work", "--allowedTools", "Bash"],
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ANTHROPIC_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": api,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CODER_PILOT_STATE_DIR": str(state),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "Done."), done.stderr
    assert (tmp_path / "during").read_text().startswith("working ")
    (claim,) = state.glob("claims/[0-9]*")
    assert claim.read_text().startswith("idle ")
