"""A server in the place of Anthropic's API, for the real Claude Code: it has it run commands, then ends the turn."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager

from tests.http_server import QuietHandler, serving

DELEGATED = "delegated work"


def serve(
    command: str, *, commands: int, address: str = "127.0.0.1", delegate: bool = False
) -> AbstractContextManager[str]:
    """The base URL of an API that asks for `command` until `commands` results came back, and then says "Done.".

    With `delegate` it asks for a sub-agent first, which gets the command.
    """

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802  http.server's name
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            results = json.dumps(asked["messages"]).count('"tool_result"')
            if results >= commands or not any(tool["name"] == "Bash" for tool in asked.get("tools", [])):
                block: dict[str, object] = {"type": "text", "text": ""}
                delta: dict[str, object] = {"type": "text_delta", "text": "Done."}
                stop_reason = "end_turn"
            else:
                name, wanted = "Bash", {"command": command, "description": "Work"}
                if delegate and DELEGATED not in json.dumps(asked["messages"]):
                    name, wanted = "Agent", {"prompt": DELEGATED, "description": "Work"}
                block = {"type": "tool_use", "id": f"toolu_{name}_{results}", "name": name, "input": {}}
                arguments = json.dumps(wanted)
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

    return serving(Handler, address)
