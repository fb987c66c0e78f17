"""Brings LiteRT's JavaScript runtime from npm into a source tree; see docs/explore.md."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDER = Path(__file__).parent / "tfvae" / "explore"
TIMEOUT = 300


class BuildWithRuntime(build_py):
    """Fetch the runtime for an editable installation; wheels are built without it."""

    def run(self):
        """Build; without npm everything but `tfvae explore` will work."""
        wanted = self.editable_mode and not runtime_is_there()
        problem = fetch_runtime() if wanted else None
        if problem:
            print(
                f"warning: {problem}. `tfvae explore` will not work in what is built now; "
                "everything else will.",
                file=sys.stderr,
            )
        super().run()


def runtime_is_there() -> bool:
    """Whether an earlier build has brought the version that is wanted."""
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"]["@litertjs/core"]
    found = FOLDER / "node_modules" / "@litertjs" / "core" / "package.json"
    return found.is_file() and json.loads(found.read_text())["version"] == wanted


def fetch_runtime() -> str | None:
    """Run npm, which checks the digests in package-lock.json; return what went wrong."""
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm to bring LiteRT's JavaScript runtime with (install Node.js)"
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, cwd=FOLDER, check=True, timeout=TIMEOUT)
    except (OSError, subprocess.SubprocessError) as error:
        return f"npm could not bring LiteRT's JavaScript runtime ({error})"
    return None


setup(cmdclass={"build_py": BuildWithRuntime})
