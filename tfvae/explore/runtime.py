"""LiteRT's JavaScript runtime, which npm installs into this folder."""

from pathlib import Path

from tfvae.errors import MissingDependency

PACKAGE = Path(__file__).parent
FOLDER = PACKAGE / "node_modules" / "@litertjs"

# What a page loads: LiteRT picks the first of the two builds where the browser has relaxed SIMD,
# and the second one elsewhere.
FILES = (
    "core/dist/index.js",
    "wasm-utils/dist/index.js",
    "core/wasm/litert_wasm_internal.js",
    "core/wasm/litert_wasm_internal.wasm",
    "core/wasm/litert_wasm_compat_internal.js",
    "core/wasm/litert_wasm_compat_internal.wasm",
)


def check_runtime() -> None:
    """Check that the files are there.

    Raises:
        MissingDependency: they are not.
    """
    missing = [name for name in FILES if not (FOLDER / name).is_file()]
    if missing:
        raise MissingDependency(
            f"LiteRT's JavaScript runtime is not there: {FOLDER / missing[0]} is missing. No other "
            "command needs it, so it is installed by itself. Install Node.js, which brings npm, "
            f"and run: npm ci --ignore-scripts --prefix {PACKAGE}"
        )
