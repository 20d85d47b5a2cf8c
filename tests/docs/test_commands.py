"""Every command that a page shows is understood, and settings in it are settings."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from hhcl_torchreid.config import load_config

REPOSITORY = Path(__file__).parents[2]
PAGES = ["README.md", *(f"docs/{name}.md" for name in ("engineers", "from_video", "results", "usage"))]


def commands():
    for page in PAGES:
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        blocks = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
        yield from re.findall(r"^(?:python tools/|hhcl ).*", blocks, re.MULTILINE)
        yield from re.findall(r"`(hhcl [a-z-]+ --[^`.]*\.yaml[^`]*)`", text)


@pytest.mark.parametrize("command", sorted({command for command in commands() if "..." not in command}))
def test_a_command_is_understood(command):
    program, *arguments = shlex.split(command)
    if program == "hhcl":
        module = f"hhcl_torchreid.commands.{arguments.pop(0).replace('-', '_')}"
    else:
        module = Path(arguments.pop(0)).stem
    args = importlib.import_module(module).parse_arguments(arguments)
    if getattr(args, "config_file", ""):
        load_config(str(REPOSITORY / "configs" / Path(args.config_file).name), options=args.opts)
