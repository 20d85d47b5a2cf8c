"""What docs/from_video.md says can be called, and shows, is there."""

import importlib
import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
GUIDE = (REPOSITORY / "docs" / "from_video.md").read_text(encoding="utf-8")


def test_every_command_is_understood():
    commands = [
        shlex.split(command)
        for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
        for command in block.replace("\\\n", " ").splitlines()
    ]
    assert len(commands) >= 4
    for _, tool, *arguments in commands:
        importlib.import_module(Path(tool).stem).parse_arguments(arguments)


def test_every_script_is_python():
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        compile(block, "from_video.md", "exec")
