"""Runs on the Hugging Face Hub, for which a server on this machine stands in."""

import base64
import dataclasses
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import tfvae
from tfvae._plain import files
from tfvae.config import Config, from_dict
from tfvae.errors import HubError, InvalidArgument, InvalidFile, MissingDependency
from tfvae.hub import contents
from tfvae.hub.card import model_card
from tfvae.runs import RunDirectory

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/tiny-vae"


class Hub(http.server.ThreadingHTTPServer):
    """What of the Hub is asked for: repositories of files, written in commits and read."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Requests)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories, self.private, self.tokens, self.sizes = {}, set(), {"hf_writes"}, {}
        self.log = []

    def write(self, name, path, content):
        self.repositories.setdefault(name, {})[path] = content


class Requests(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.log.append(f"POST {self.path}")
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.server.tokens:
            return self.answer({"error": "no"}, 401)
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        name = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            asked = [file["path"] for file in json.loads(body)["files"]]
            modes = [
                {"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in asked
            ]
            return self.answer({"files": modes})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.write(name, line["value"]["path"], content)
            if line["key"] == "deletedFile":
                del self.server.repositories[name][line["value"]["path"]]
        return self.answer(
            {"commitOid": COMMIT, "commitUrl": f"{self.server.url}/{name}/commit/{COMMIT}"}
        )

    def create(self, asked):
        name = (
            f"{asked['organization']}/{asked['name']}"
            if asked.get("organization")
            else asked["name"]
        )
        url = {"url": f"{self.server.url}/{name}"}
        if name in self.server.repositories:
            return self.answer({"error": "exists", **url}, 409)
        self.server.repositories[name] = {}
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add(name)
        return self.answer(url)

    def do_GET(self):
        self.server.log.append(f"{self.command} {self.path}")
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, revision = "/".join(parts[2:4]), parts[5:6] or ["main"]
            if name not in self.server.repositories:
                return self.answer({"error": "none"}, 401, "RepoNotFound")
            if revision[0] not in ("main", COMMIT):
                return self.answer({"error": "none"}, 404, "RevisionNotFound")
            stored = self.server.repositories[name]
            if parts[4:5] == ["tree"]:
                tree = [
                    {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
                    for path, content in stored.items()
                ]
                return self.answer(tree)
            return self.answer(self.info(name))
        name, path = "/".join(parts[:2]), "/".join(parts[4:])
        content = self.server.repositories.get(name, {}).get(path)
        if content is None:
            return self.answer({"error": "none"}, 404, "EntryNotFound")
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        return None

    do_HEAD = do_GET

    def info(self, name):
        stored = self.server.repositories[name]
        siblings = [
            {"rfilename": path, "size": self.server.sizes.get(path, len(content))}
            for path, content in stored.items()
        ]
        private = name in self.server.private
        return {"id": name, "sha": COMMIT, "private": private, "siblings": siblings}

    def answer(self, value, status=200, code=None):
        content = json.dumps(value).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        # As the environment variables of these names do before the import, which Keras brings.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            template.replace(constants.ENDPOINT, server.url),
        )
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_writes")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield server
        server.shutdown()


@pytest.fixture
def run(tmp_path, device_model):
    """The directory of a run as `tfvae train` and `tfvae export` leave it, but for checkpoints."""
    folder = tmp_path / "run"
    settings = {
        "data.name": "/home/me/secret/pictures",
        "data.data_dir": "/home/me",
        "training.initial_weights": "/home/me/runs/first",
    }
    RunDirectory.create(folder, Config().override(settings))
    device_model.save(folder / "model.keras")
    (folder / "decoder.tflite").write_bytes(b"decoder")
    (folder / "samples.png").write_bytes(b"picture")
    (folder / "notes.txt").write_text("mine")
    (folder / "portrait.png").write_bytes(b"mine")
    export = {"path": "/home/me/run/decoder.tflite", "bytes": 1234, "quantize": "none"}
    measured = {"log_likelihood": -10.5, "standard_error": 0.25, "kl": 1.5, "num_examples": 12}
    report = {
        "evaluation": measured,
        "evaluation of /home/me/others.npy": measured,
        "exports": {"decoder.tflite": export},
    }
    files.write_json(folder / "report.json", report)
    return folder


def test_a_run_is_written_and_read(hub, run, tmp_path):
    """By the commands, in processes of their own that find the server by HF_ENDPOINT alone."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    address, script = f"hf://{NAME}", "import sys; from tfvae.tools.main import main; main()"

    def tfvae_command(*arguments):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    pushed = tfvae_command("push", run, address, "--license", "mit", "--json")
    assert pushed["url"] == f"{hub.url}/{NAME}"
    stored = hub.repositories[NAME]
    own = {"README.md", "report.json", "decoder.tflite", "samples.png"}
    assert set(stored) == {*contents.NEEDED, *own}
    assert not [name for name, content in stored.items() if b"/home/me" in content]
    card = stored["README.md"].decode()
    for text in (
        "license: mit",
        "-10.500 ± 0.250",
        "| data | pictures |",
        "| initial weights | first |",
        "(samples.png)",
        "1,234",
    ):
        assert text in card

    hub.write(NAME, "evil.py", b"raise SystemExit")
    pulled = tfvae_command("pull", address, tmp_path / "pulled", "--json")
    assert {path.name for path in Path(pulled["run"]).iterdir()} == {
        *own,
        "config.toml",
        "model.keras",
    }


def test_keras_and_a_pulled_run_have_the_model(hub, run, tmp_path, device_model):
    tfvae.hub.push(run, f"hf://{NAME}")
    by_keras = keras.saving.load_model(f"hf://{NAME}")
    pulled = RunDirectory(tfvae.hub.pull(f"hf://{NAME}", tmp_path / "pulled"))
    assert pulled.read_config().data.name == "pictures"
    expected = device_model.sample(3).numpy()
    for model in (by_keras, pulled.load_model()):
        np.testing.assert_array_equal(model.sample(3).numpy(), expected)


def test_what_is_of_another_model_does_not_stay_beside_it(hub, run):
    report = files.read_report(run)
    exports = report["exports"]
    more = {"decoder-int8.tflite": {}, "encoder.onnx": {}, "figures/mine.tflite": {}}
    more["decoder-int8.tflite"] = exports["decoder.tflite"]
    files.write_json(run / "report.json", {**report, "exports": exports | more})
    for name in ("decoder-int8.tflite", "decoder-int8.png"):
        (run / name).write_bytes(b"of before")
    tfvae.hub.push(run, NAME)
    of_owner = {
        "notes.md",
        "paper.png",
        "encoder.onnx",
        "foreign.tflite",
        "figures/paper.png",
        "figures/mine.tflite",
        "figures/samples.png",
        "figures/decoder-int8.tflite",
    }
    for name in of_owner:
        hub.write(NAME, name, b"mine")
    assert {"decoder-int8.tflite", "decoder-int8.png", "samples.png"} < set(hub.repositories[NAME])
    files.write_json(run / "report.json", report)
    for name in ("decoder-int8.tflite", "decoder-int8.png", "samples.png"):
        (run / name).unlink()
    (run / "decoder-int4.tflite").write_bytes(b"exported before the last training")
    tfvae.hub.push(run, NAME)
    others = {"README.md", "report.json", "decoder.tflite", *of_owner}
    assert set(hub.repositories[NAME]) == {*contents.NEEDED, *others}


def test_a_report_on_the_hub_that_is_of_another_program_is_replaced(hub, run):
    hub.write(NAME, "report.json", b"[]")
    hub.write(NAME, "foreign.tflite", b"mine")
    tfvae.hub.push(run, NAME)
    assert "exports" in json.loads(hub.repositories[NAME]["report.json"])
    assert "foreign.tflite" in hub.repositories[NAME]


def test_the_pictures_of_a_run_are_those_that_commands_write():
    root = Path(tfvae.__file__).parents[1]
    sources = [*root.glob("tfvae/runs/*.py"), *root.glob("tools/*.py")]
    written = r'(?:run|run\.path) / "([\w-]+\.png)"'
    found = {name for path in sources for name in re.findall(written, path.read_text("utf-8"))}
    assert found == contents.PICTURES


def test_a_configuration_from_elsewhere_names_no_data_of_this_machine(hub, run, tmp_path):
    tfvae.hub.push(run, NAME)
    hub.write(
        NAME, "config.toml", b'[data]\nname = "../../etc"\ndata_dir = "/etc"\ndownload = true\n'
    )
    data = RunDirectory(tfvae.hub.pull(NAME, tmp_path / "pulled")).read_config().data
    assert (data.name, data.data_dir, data.download) == ("etc", "", False)


@pytest.mark.parametrize("path", [r"C:\Users\me\pictures", "C:/Users/me/pictures/", "me/pictures"])
def test_paths_of_any_system_are_left_out(path):
    config = from_dict({"data": {"name": path}, "training": {"initial_weights": path}})
    config = contents._without_paths(config)
    assert config.data.name == config.training.initial_weights == "pictures"
    sections = {"evaluation": {}, f"evaluation of {path}": {"kl": 1.0}, "evaluation of mnist": {}}
    report = contents._plain({"exports": {"decoder.tflite": {"path": path}}, **sections})
    assert report == {
        "exports": {"decoder.tflite": {"path": "pictures"}},
        "evaluation": {},
        "evaluation of pictures": {"kl": 1.0},
        "evaluation of mnist": {},
    }


def test_data_of_one_name_in_several_folders_has_a_section_each():
    names = ["/a/test.npy", "/b/test.npy", "test.npy (2)", "/c/test.npy", "/a/other.npy"]
    report = {f"evaluation of {name}": {"kl": kl} for kl, name in enumerate(names)}
    plain = contents._plain(report)
    assert plain == {
        "evaluation of test.npy": {"kl": 0},
        "evaluation of test.npy (2)": {"kl": 1},
        "evaluation of test.npy (2) (2)": {"kl": 2},
        "evaluation of test.npy (3)": {"kl": 3},
        "evaluation of other.npy": {"kl": 4},
    }
    assert contents._plain(plain) == plain


@pytest.mark.parametrize(
    ("left_out", "draws"),
    [({}, True), ({"encode": "it was not asked for"}, True), ({"sample": "no `draw`"}, False)],
)
def test_a_card_draws_with_a_decoder_that_can(left_out, draws, tmp_path):
    (tmp_path / "decoder.tflite").write_bytes(b"decoder")
    values = {"bytes": 1, "quantize": "none", "left_out": left_out}
    report = {"exports": {"decoder.tflite": values}}
    card = model_card("someone/decoder", Config(), report, tmp_path, "mit")
    assert ("tfvae decode decoder/decoder.tflite --sample 64" in card) == draws
    assert ("needs no TensorFlow" in card) == draws
    assert "[`decoder.tflite`](decoder.tflite)" in card
    assert ".png" not in card  # the model may be of a table


@pytest.mark.parametrize("condition", ["", "label"])
def test_a_card_gives_a_condition_where_the_model_has_one(condition, tmp_path):
    config = Config()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, condition=condition))
    card = model_card("someone/digits", config, {}, tmp_path, "mit")
    assert ("model.sample(16, condition=Y)" in card) == bool(condition)
    assert ("tfvae sample digits --condition Y" in card) == bool(condition)
    assert ("Y is the `label`" in card) == bool(condition)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda hub: hub.repositories[NAME].pop("config.json"),
            "has no config.json: it is not a run",
        ),
        (
            lambda hub: hub.sizes.update({"samples.png": 10**15}),
            "and .* can be had.*TFVAE_MAX_MEMORY",
        ),
        (lambda hub: hub.sizes.update({"samples.png": 3}), "samples.png of .* has another size"),
        (lambda hub: hub.write(NAME, "model.weights.h5", b"nothing"), "is damaged or truncated"),
        (lambda hub: hub.write(NAME, "config.toml", b"\xff"), "is not a TOML file"),
        (lambda hub: hub.write(NAME, "report.json", b"[]"), "not a report of tfvae"),
    ],
)
def test_what_is_no_run_is_refused_and_nothing_is_left(change, message, hub, run, tmp_path):
    tfvae.hub.push(run, NAME)
    change(hub)
    with pytest.raises(InvalidFile, match=message):
        tfvae.hub.pull(NAME, tmp_path / "here" / "pulled")
    assert not list(tmp_path.glob("here/*"))


def test_refusals_of_the_hub_are_one_sentence(hub, run, tmp_path, monkeypatch):
    def refused(call, message):
        with pytest.raises(HubError, match=message):
            call()

    pull, push = tfvae.hub.pull, tfvae.hub.push
    refused(
        lambda: pull("hf://someone/nothing", tmp_path / "a"), "There is no model hf://someone/n"
    )
    push(run, NAME)
    refused(lambda: pull(NAME, tmp_path / "a", "v9"), "has no revision 'v9'")
    with pytest.raises(InvalidArgument, match="is there already, and public"):
        push(run, NAME, private=True)
    push(run, "someone/hidden", private=True)
    assert hub.private == {"someone/hidden"}
    monkeypatch.setenv("HF_TOKEN", "hf_reads")
    refused(lambda: push(run, NAME), r"refuses this token .*HTTP 401")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    refused(lambda: push(run, NAME), "There is no token.*HF_TOKEN.*hf auth login")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    refused(lambda: pull(NAME, tmp_path / "a"), "127.0.0.1:9 did not do this .*Check the network")


@pytest.mark.parametrize(
    "address", ["tiny", "hf://a/b/c", "https://a/b", "a/..", "a/b--c", "a/é", "/a"]
)
def test_an_address_that_cannot_be_one_is_refused(address, tmp_path):
    with pytest.raises(InvalidArgument, match="is no address on the Hub; expected hf://user/name"):
        tfvae.hub.pull(address, tmp_path / "a")


def test_what_cannot_be_shared_is_refused(run, tmp_path, monkeypatch):
    with pytest.raises(InvalidFile, match="There is no run or model"):
        tfvae.hub.push(tmp_path / "none", NAME)
    with pytest.raises(InvalidArgument, match="expected a run"):
        tfvae.hub.push(run / "model.keras", NAME)
    with pytest.raises(InvalidArgument, match="expected an identifier of the Hub"):
        tfvae.hub.push(run, NAME, license_id="Mine: all of it")
    with pytest.raises(InvalidFile, match="run is in the way"):
        tfvae.hub.pull(NAME, run)
    with zipfile.ZipFile(run / "model.keras", "a") as archive:
        archive.writestr("assets/words.txt", "a")
    with pytest.raises(InvalidFile, match=r"holds assets/words\.txt"):
        contents.collect(run, tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"pip install 'tfvae\[hub\]'"):
        tfvae.hub.pull(NAME, tmp_path / "a")
