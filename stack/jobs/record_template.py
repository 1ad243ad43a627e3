"""Write the template's id beside the data: a later state adopts it, see stack/template.py."""

from __future__ import annotations

from stack.jobs import pilot_file, program


def main() -> None:
    pilot_file.update(program.variable("DATA_DIRECTORY"), template_id=program.variable("TEMPLATE_ID"))


if __name__ == "__main__":
    program.run(main)
