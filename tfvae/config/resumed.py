"""The settings that a training may have others of when it is resumed."""

import dataclasses

from tfvae.config.configuration import Config
from tfvae.config.locations import with_absolute_paths
from tfvae.errors import InvalidArgument

RESUMED_WITH = (
    "data.data_dir",
    "data.download",
    "data.memory_gb",
    "training.epochs",
    "training.steps_per_execution",
    "training.jit_compile",
    "training.checkpoint_minutes",
    "training.distribute",
    "code_prior.epochs",
    "code_prior.distribute",
)


def check_resumed(before: Config, now: Config, sections: tuple[str, ...], what: str) -> None:
    """Refuse settings that would make a training that is resumed another one.

    Args:
        before: the configuration with which it began.
        now: that with which it is to go on; its paths may be relative.
        sections: those that the training reads.
        what: what is resumed, for the message.

    Raises:
        InvalidArgument: with the names of the settings.
    """
    changed, now = [], with_absolute_paths(now)
    for section in sections:
        old, new = (dataclasses.asdict(getattr(config, section)) for config in (before, now))
        keys = {f"{section}.{name}": name for name in new if new[name] != old[name]}
        changed += [
            f"{key} (from {old[name]!r} to {new[name]!r})"
            for key, name in keys.items()
            if key not in RESUMED_WITH
        ]
    if changed:
        raise InvalidArgument(
            f"{what} that is resumed cannot change {', '.join(changed)}; only --epochs, "
            "--data-dir, --distribute and what says how fast it is. Start a new one."
        )
