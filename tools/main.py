"""The command `tfvae`."""

import os
import re
import sys
import warnings

import click

import tfvae
from tfvae._plain import files, memory
from tfvae.errors import InvalidArgument, TfvaeError, TfvaeWarning
from tfvae.tools.benchmark import benchmark
from tfvae.tools.decode import decode
from tfvae.tools.demo import demo
from tfvae.tools.diagnose import diagnose
from tfvae.tools.encode import encode
from tfvae.tools.evaluate import evaluate
from tfvae.tools.explore import explore
from tfvae.tools.export import export
from tfvae.tools.impute import impute
from tfvae.tools.inspect import inspect
from tfvae.tools.pull import pull
from tfvae.tools.push import push
from tfvae.tools.recipes import recipes
from tfvae.tools.reconstruct import reconstruct
from tfvae.tools.sample import sample
from tfvae.tools.score import score
from tfvae.tools.train import train
from tfvae.tools.train_prior import train_prior

_EXHAUSTED = 32 << 20  # bytes left, with which libraries fail in ways of their own
_NO_MEMORY = r"ResourceExhaustedError|MemoryError|bad_alloc|OOM when allocating"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(tfvae.__version__, prog_name="tfvae")
def cli():
    """Train latent-variable models, measure them, and ship their decoders.

    Start with `tfvae demo`. A RUN is the folder that `tfvae train` wrote. Exit status: 0 done,
    1 failed, 2 bad usage.
    """


for _verb in (
    demo,
    recipes,
    train,
    train_prior,
    evaluate,
    score,
    impute,
    diagnose,
    sample,
    reconstruct,
    encode,
    export,
    inspect,
    benchmark,
    decode,
    explore,
    push,
    pull,
):
    cli.add_command(_verb)


def main() -> None:
    """Run the command line; errors are one message on standard error, never a traceback."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", TfvaeWarning)
    warnings.showwarning = lambda message, *_: click.echo(f"Warning: {message}", err=True)
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(1)
    except TfvaeError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2 if isinstance(error, InvalidArgument) else 1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        fault = _fault(error)
        if fault is not None:
            click.echo(f"Error: {fault}", err=True)
            sys.exit(1)
        if os.environ.get("TFVAE_TRACEBACK"):
            raise
        click.echo(
            f"Error: {type(error).__name__}: {error}\n"
            "This was not expected. Set TFVAE_TRACEBACK=1 to see where it happened, and please "
            "report it.",
            err=True,
        )
        sys.exit(1)


def _fault(error):
    """Return what to say of a full disk, a read-only folder or exhausted memory; else None."""
    reason = files.hindrance(error)
    if reason is not None:
        path = getattr(error, "filename", None) or "a file"
        return f"Cannot write {path}: {reason}. What was there before is still there."
    left = memory.available()
    if isinstance(error, MemoryError) or left < _EXHAUSTED or re.search(_NO_MEMORY, repr(error)):
        return (
            f"Out of memory; {memory.text(left)} can still be had. Ask for less: "
            "fewer examples (-n) or samples (--num-samples), or a smaller --batch-size."
        )
    return None
