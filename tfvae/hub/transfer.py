"""Writing a run to the Hugging Face Hub, and reading one from there."""

import contextlib
import re
import shutil
import tempfile
from pathlib import Path

from tfvae import paths
from tfvae._plain import files, memory
from tfvae.errors import HubError, InvalidArgument, InvalidFile, MissingDependency, TfvaeError
from tfvae.hub import contents
from tfvae.hub.card import model_card

_ADDRESS = re.compile(r"(?:hf://)?(\w[\w.-]*/\w[\w.-]*)", re.ASCII)
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_LONGEST = 96  # characters of a name on the Hub


def push(run: str | Path, address: str, private: bool = False, license_id: str = "unknown") -> str:
    """Write a run to the Hub, with a model card; return the address of its page.

    What is written is the model, as `keras.saving.load_model("hf://user/name")` reads it,
    `config.toml` and `report.json` without paths of this machine, the pictures, and the `.tflite`
    files that `tfvae export` wrote into the run. What was there under these names is replaced.
    Pictures of a run and exports that the report there names are removed if the run does not have
    them: they are of another model. All other files of the repository stay.

    Args:
        run: the directory of a run that has finished.
        address: "hf://user/name"; the repository is made if it is not there.
        private: whether nobody else may see it.
        license_id: of the model, as the Hub calls it, such as "apache-2.0".

    Raises:
        InvalidArgument: an address or a license that cannot be one, or a repository that others
            see where `private` is asked for.
        InvalidFile: there is no finished run.
        HubError: there is no token, or the Hub refuses or cannot be reached.
        MissingDependency: huggingface_hub is not installed.
    """
    name, run = _name_of(address), Path(run)
    if not _LICENSE.fullmatch(license_id):
        raise InvalidArgument(
            f"The license is {license_id!r}; expected an identifier of the Hub, such as "
            "apache-2.0, mit, cc-by-4.0, other or unknown."
        )
    if run.is_file():
        raise InvalidArgument(f"{run} is a file; expected a run, whose folder has a report too.")
    paths.check_model(run)
    hub = _library()
    if hub.get_token() is None:
        raise HubError(
            "There is no token to write to the Hub with. Make one that may write, at "
            "https://huggingface.co/settings/tokens, and set HF_TOKEN, or run: hf auth login"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config, report = contents.collect(run, folder)
        card = model_card(name, config, report, folder, license_id)
        (folder / "README.md").write_text(card, encoding="utf-8")
        with _translated(hub, name):
            api = hub.HfApi(library_name="tfvae")
            url = api.create_repo(name, private=private, exist_ok=True)
            info = api.model_info(name, files_metadata=True)
            if private and not info.private:
                raise InvalidArgument(
                    f"hf://{name} is there already, and public. Choose another name, or make it "
                    "private on its page."
                )
            api.upload_folder(
                repo_id=name,
                folder_path=folder,
                commit_message="Upload a run",
                delete_patterns=_outdated(hub, name, info, folder),
            )
    return str(url)


def pull(address: str, folder: str | Path, revision: str | None = None) -> Path:
    """Read a run that `push` wrote into a new folder, and return its path.

    The folder is a run as `tfvae train` leaves one, but for checkpoints. No code is run: only files
    of the names that `push` writes are read, their sizes are checked before they are, and the
    model is checked as any file from elsewhere is when it is opened.

    Args:
        address: "hf://user/name".
        folder: where to; there may be nothing yet.
        revision: a branch, a tag or a commit; the newest commit if None.

    Raises:
        InvalidArgument: an address that cannot be one.
        InvalidFile: something is in the way; or what is there is no run, is damaged, or takes more
            memory than there is (or than the environment variable TFVAE_MAX_MEMORY allows).
        HubError: there is nothing under this address, or the Hub refuses or cannot be reached.
        MissingDependency: huggingface_hub is not installed.
    """
    name, folder = _name_of(address), Path(folder)
    if folder.exists():
        raise InvalidFile(f"{folder} is in the way. Choose another folder, or move it away.")
    files.check_writable_folder(folder.parent, folder)
    hub = _library()
    with _translated(hub, name, revision), files.atomic(folder) as written:
        info = hub.HfApi(library_name="tfvae").model_info(
            name, revision=revision, files_metadata=True
        )
        sizes = {f.rfilename: f.size or 0 for f in info.siblings if contents.is_shared(f.rfilename)}
        _check(name, sizes)
        written.mkdir()
        for file in sizes:
            _download(hub, name, file, info.sha, sizes[file], written)
        contents.make_run(written)
    return folder


def _outdated(hub, name, info, folder):
    """Return what was made of the model on the Hub, and is not in a folder that replaces it."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    report = {}
    if "report.json" in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            _download(hub, name, "report.json", info.sha, sizes["report.json"], Path(temporary))
            with contextlib.suppress(InvalidFile):  # that of another program names no exports
                report = files.read_report(temporary)
    made = contents.made_of_model(report) & sizes.keys()
    return [file for file in sorted(made) if not (folder / file).exists()]


def _check(name, sizes):
    missing = [file for file in contents.NEEDED if file not in sizes]
    if missing:
        raise InvalidFile(
            f"hf://{name} has no {missing[0]}: it is not a run that `tfvae push` wrote. A model of "
            "Keras alone is opened by keras.saving.load_model."
        )
    if sum(sizes.values()) > memory.limit():
        raise InvalidFile(
            f"hf://{name} has {memory.text(sum(sizes.values()))}, and "
            f"{memory.text(memory.limit())} can be had. If you trust it, and the memory is there, "
            f"raise {memory.VARIABLE}."
        )


def _download(hub, name, file, commit, size, folder):
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = Path(hub.hf_hub_download(name, file, revision=commit, local_dir=temporary))
        if path.stat().st_size != size:
            raise InvalidFile(f"{file} of hf://{name} has another size than the Hub says it has.")
        shutil.move(path, folder / file)


def _name_of(address):
    match = _ADDRESS.fullmatch(address)
    if match is None or len(match[1]) > _LONGEST or re.search(r"--|\.\.|\.git$", match[1]):
        raise InvalidArgument(f"{address!r} is no address on the Hub; expected hf://user/name.")
    return match[1]


def _library():
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"The Hub needs the package {error.name!r}, which is not installed. Install it: "
            "pip install 'tfvae[hub]'."
        ) from error
    return huggingface_hub


@contextlib.contextmanager
def _translated(hub, name, revision=None):
    """Say in one sentence what the Hub refuses."""
    errors = hub.errors
    where = f"hf://{name}"
    try:
        yield
    except TfvaeError:
        raise
    except errors.RevisionNotFoundError:
        raise HubError(
            f"{where} has no revision {revision!r}. Leave it out for the newest."
        ) from None
    except errors.GatedRepoError:
        raise HubError(
            f"{where} is given to those alone who asked for it on its page. Ask there, and set "
            "HF_TOKEN, or run: hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"There is no model {where}, or it is private and your token does not open it. Check "
            "the name; for a private one set HF_TOKEN, or run: hf auth login"
        ) from None
    except Exception as error:  # what carries the requests has errors of its own
        if files.hindrance(error) is not None:
            raise
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise HubError(
                f"The Hub refuses this token for {where} (HTTP {status}). Make one that may write "
                "there, at https://huggingface.co/settings/tokens."
            ) from None
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise HubError(
            f"The Hub at {hub.constants.ENDPOINT} did not do this for {where}: {reason}. Check the "
            "network (and HF_ENDPOINT, if it is set), and try again."
        ) from None
