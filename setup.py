"""Puts the configurations and the demo's weights, which lie beside it, into the package that is built."""

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RESOURCES = {"configs": "*.yaml", "weights": "*.pth"}


class BuildWithResources(build_py):
    """Copies the files beside the package into it; an editable installation finds them where they are."""

    def run(self):
        """Builds the package, then adds the files."""
        super().run()
        if not self.editable_mode:
            for source, target in self._resources().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode=1):
        """Names what is built, for the record of what is installed."""
        return super().get_outputs(include_bytecode) + list(self._resources().values())

    def get_output_mapping(self):
        """Names where what is built comes from."""
        return super().get_output_mapping() | {target: source for source, target in self._resources().items()}

    def _resources(self):
        into = Path(self.build_lib, "hhcl_torchreid")
        files = [file for folder, pattern in RESOURCES.items() for file in sorted(Path(folder).glob(pattern))]
        return {str(file): str(into / file) for file in files}


def description():
    """Gives the README without pictures and links to files, which lead nowhere outside of a checkout."""
    text = Path("README.md").read_text(encoding="utf-8")
    text = re.sub(r"^!\[.*\n\n(\*.*\*\n\n)?", "", text, flags=re.MULTILINE)
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]+\)", r"\1", text)


setup(
    cmdclass={"build_py": BuildWithResources},
    long_description=description(),
    long_description_content_type="text/markdown",
)
