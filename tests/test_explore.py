"""The explorer: what its server gives and refuses, and that the browser computes what Python does.

The tests of the page run in headless Chromium, in one session for all; they are left out where
there is no Chromium, no chromedriver, or no npm when the package was installed.
"""

import functools
import http.client
import http.server
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tiers import nightly_but

import tfvae
from tfvae import code_priors, explore, export, quantizers, recipes, runs
from tfvae.errors import InvalidArgument, InvalidFile, MissingDependency
from tfvae.explore import runtime
from tfvae.ondevice import Decoder, read_description
from tfvae.ondevice.flatfile import FILE_IDENTIFIER, METADATA_NAME, embed
from tfvae.tools.main import cli

pytestmark = pytest.mark.slow  # Drives a browser.

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HAS_RUNTIME = all((runtime.FOLDER / name).is_file() for name in runtime.FILES)
CODES, CLASSES = 16, 3
TOLERANCE = 1e-5
MANY = 40  # latents: more than are shown at first

needs_runtime = pytest.mark.skipif(not HAS_RUNTIME, reason="installed without npm: no runtime")


# Small models, exported, and files made of them by hand.


def randomized(model):
    rng = np.random.default_rng(0)
    model.set_weights([w if w.ndim == 0 else rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def bits():
    keras.utils.set_random_seed(1)
    networks = tfvae.networks
    encoder = networks.dense_encoder((4, 4, 1), 2, hidden=(8,))
    decoder = networks.dense_decoder(2, (4, 4, 1), hidden=(8,))
    return randomized(tfvae.VAE(encoder, decoder, posterior="bernoulli"))


def categories():
    keras.utils.set_random_seed(1)
    networks = tfvae.networks
    encoder = networks.dense_encoder((4, 4, 1), (2, 3), hidden=(8,))
    decoder = networks.dense_decoder((2, 3), (4, 4, 1), hidden=(8,))
    return randomized(tfvae.VAE(encoder, decoder, posterior="categorical"))


def vqvae():
    keras.utils.set_random_seed(1)
    table = {"num_embeddings": CODES, "embedding_dim": 4}
    model = tfvae.VQVAE(
        tfvae.networks.residual_encoder((8, 8, 3), 4, 8, 1, 1, 4),
        quantizers.get("ema", **table),
        tfvae.networks.residual_decoder((4, 4, 4), 3, 8, 1, 1, 4),
        likelihood="bernoulli",
    )
    options = {"codebook_size": CODES, "num_classes": CLASSES}
    model.prior = code_priors.get("categorical", **options)
    return spread(model)


def vqvae_of_two_grids():
    """A model whose codes are one list, drawn by a loop."""
    keras.utils.set_random_seed(1)
    networks, shape = tfvae.networks, (8, 8, 1)
    model = tfvae.HierarchicalVQVAE(
        [networks.residual_encoder(s, None, 8, 1, 1, 4) for s in (shape, (4, 4, 8))],
        [quantizers.get("ema", num_embeddings=CODES, embedding_dim=4) for _ in range(2)],
        [
            networks.residual_decoder((4, 4, 4 + 8), 1, 8, 1, 1, 4),
            networks.residual_decoder((2, 2, 4), 8, 8, 1, 1, 4),
        ],
        likelihood="bernoulli",
    )
    model.prior = code_priors.get("categorical", codebook_size=CODES)
    return spread(model)


def conditional_vae(condition, latents, size):
    keras.utils.set_random_seed(1)
    networks, shape = tfvae.networks, (4, 4, 1)
    encoder = networks.dense_encoder(shape, 2 * latents, (8,), condition_size=size)
    decoder = networks.dense_decoder(latents, shape, (8,), condition_size=size)
    return randomized(tfvae.VAE(encoder, decoder, condition=condition))


def conditional_vqvae():
    keras.utils.set_random_seed(1)
    networks, shape = tfvae.networks, (8, 8, 1)
    model = tfvae.VQVAE(
        networks.residual_encoder(shape, 4, 8, 1, 1, 4, condition_size=CLASSES),
        quantizers.get("ema", num_embeddings=CODES, embedding_dim=4),
        networks.residual_decoder((4, 4, 4), 1, 8, 1, 1, 4, condition_size=CLASSES),
        likelihood="bernoulli",
        condition=CLASSES,
    )
    options = {"codebook_size": CODES, "num_classes": CLASSES}
    model.prior = code_priors.get("categorical", **options)
    return spread(model)


def with_flow_prior():
    keras.utils.set_random_seed(1)
    networks = tfvae.networks
    encoder = networks.dense_encoder((4, 4, 1), 6, (8,))
    decoder = networks.dense_decoder(3, (4, 4, 1), (8,))
    model = tfvae.VAE(encoder, decoder, prior="flow")
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(0.3 * rng.normal(size=weight.shape))
    return model


def ladder():
    keras.utils.set_random_seed(1)
    shape = (4, 4, 1)
    model = tfvae.LadderVAE(*tfvae.networks.residual_ladder(shape, 1, (1, 2), (2, 2), 4))
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(0.3 * rng.normal(size=weight.shape))
    return model


def spread(model):
    """Give all weights of a model of codes, and of its prior, random values."""
    rng = np.random.default_rng(0)
    for weight in [*model.variables, *model.prior.variables]:
        if weight.ndim:
            weight.assign(0.5 * rng.normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def models(make_vae):
    """What builds each model."""
    return {
        "latents": lambda: randomized(make_vae(latents=MANY)),
        "plane": lambda: randomized(make_vae(latents=2)),
        "bits": bits,
        "categories": categories,
        "codes": vqvae,
        "grids": vqvae_of_two_grids,
        "flow": with_flow_prior,
        "ladder": ladder,
        "of a class": lambda: conditional_vae(CLASSES, 2, CLASSES),
        "of a vector": lambda: conditional_vae((2,), 3, 2),
        "codes of a class": conditional_vqvae,
    }


@pytest.fixture(scope="module")
def path_of(models, tmp_path_factory):
    """Return a function that gives the file of a model, which is exported once.

    It has all signatures, or those that are named: what no page runs needs no more than `decode`.
    """
    folder = tmp_path_factory.mktemp("explore")

    def find(name, *signatures):
        path = folder / f"{'-'.join((name, *signatures))}.tflite"
        if not path.exists():
            export.litert(models[name](), path, signatures=signatures or None)
        return path

    return find


def edited(content, edit, **changes):
    """Return a file after `edit(tree)`, with other values in its description, sealed again."""
    description = {**read_description(content), **changes}
    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    (entry,) = [m for m in tree.metadata if m.name == METADATA_NAME]
    tree.metadata.remove(entry)
    tree.buffers[entry.buffer].data = None  # else there would be two digests
    edit(tree)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(tree.Pack(builder), FILE_IDENTIFIER)
    return embed(bytes(builder.Output()), description)


def without(*names):
    def edit(tree):
        tree.signatureDefs = [s for s in tree.signatureDefs if s.signatureKey.decode() not in names]

    return edit


def with_integers(tree):
    (signature,) = [s for s in tree.signatureDefs if s.signatureKey == b"decode_1"]
    tensors = tree.subgraphs[signature.subgraphIndex].tensors
    tensors[signature.inputs[0].tensorIndex].type = schema.TensorType.INT8


class Running:
    """A server at work in a thread."""

    def __init__(self, content, *examples):
        self.server = explore.Server(content, "decoder.tflite", *examples)
        self.url = self.server.url
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def ask(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response, body

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    """Return a function that starts a server for this test."""
    started = []

    def start(content, *examples):
        started.append(Running(content, *examples))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture(scope="module")
def running(path_of):
    """A server that all tests share which only ask it for something."""
    running = Running(path_of("plane", "decode").read_bytes())
    yield running
    running.close()


# The server.


@needs_runtime
@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/main.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/model.json", "application/json"),
        ("/model.tflite", "application/octet-stream"),
        ("/runtime/core/dist/index.js", "text/javascript; charset=utf-8"),
        ("/runtime/core/wasm/litert_wasm_internal.wasm", "application/wasm"),
        ("/runtime/core/wasm/litert_wasm_compat_internal.js", "text/javascript; charset=utf-8"),
        ("/runtime/wasm-utils/dist/index.js", "text/javascript; charset=utf-8"),
    ],
)
def test_every_file_has_its_type_and_stays_out_of_caches(running, route, kind):
    response, body = running.ask(route)
    assert response.status == 200
    assert response.headers["Content-Type"] == kind
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert len(body) == int(response.headers["Content-Length"]) > 0
    head, nothing = running.ask(route, "HEAD")
    assert head.headers["Content-Length"] == response.headers["Content-Length"]
    assert nothing == b""


@needs_runtime
def test_the_model_and_the_examples_are_those_that_were_given(serve, path_of, images):
    content = path_of("plane", "decode").read_bytes()
    running = serve(content, images)
    assert running.ask("/model.tflite")[1] == content
    given = np.frombuffer(running.ask("/examples.f32")[1], "<f4").reshape(images.shape)
    np.testing.assert_array_equal(given, images)
    offer = json.loads(running.ask("/model.json")[1])
    assert offer["description"] == read_description(content)
    assert offer["num_examples"] == len(images)


@needs_runtime
@pytest.mark.parametrize(
    "route",
    [
        "/nothing",
        "/../server.py",
        "/server.py",
        "/runtime/../../server.py",
        "/runtime/core/wasm/../../../../server.py",
        "/%2e%2e/server.py",
        "/runtime/%2e%2e%2f%2e%2e%2fserver.py",
        "//etc/passwd",
        "/runtime/core/package.json",
        "/examples.f32",
    ],
)
def test_there_is_nothing_else(running, route):
    assert running.ask(route)[0].status == 404


@needs_runtime
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_there_is_nothing_to_do_but_to_read(running, method):
    assert running.ask("/", method)[0].status == 501


@needs_runtime
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1234", 200),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("example.org", 403),
        ("localhost.example.org:80", 403),
        ("127.0.0.1.example.org", 403),
        ("", 403),
    ],
)
def test_only_this_machine_is_answered(running, host, status):
    assert running.ask("/model.tflite", Host=host)[0].status == status


def raw(running, *lines):
    """Send a request as it stands, and return the whole answer."""
    with socket.create_connection(("127.0.0.1", running.server.server_port), timeout=10) as s:
        s.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while part := s.recv(65536):
            answer += part
    return answer.decode("latin-1")


HOST = "Host: 127.0.0.1"
SECURITY = (
    "Cache-Control: no-store",
    "Content-Security-Policy: default-src 'none'",
    "Cross-Origin-Opener-Policy: same-origin",
    "Cross-Origin-Resource-Policy: same-origin",
    "Referrer-Policy: no-referrer",
    "X-Content-Type-Options: nosniff",
    "X-Frame-Options: DENY",
)


@needs_runtime
@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (200, ["GET / HTTP/1.1", HOST, "Connection: close"]),
        (400, ["GET http://127.0.0.1/model.tflite HTTP/1.1", HOST]),
        (400, ["GET http://example.org/ HTTP/1.1", HOST]),
        (400, ["OPTIONS * HTTP/1.1", HOST]),
        (400, ["GET / HTTP/1.1", HOST, HOST]),
        (400, ["GET / HTTP/1.1"]),
        (400, ["GET /"]),
        (400, ["nonsense"]),
        (403, ["GET / HTTP/1.1", "Host: example.org", "Connection: close"]),
        (404, ["GET /nothing HTTP/1.1", HOST, "Connection: close"]),
        (414, ["GET /" + 70_000 * "a" + " HTTP/1.1", HOST]),
        (431, ["GET / HTTP/1.1", HOST, *(f"A{n}: 1" for n in range(200))]),
        (501, ["POST / HTTP/1.1", HOST]),
        (505, ["GET / HTTP/3.0", HOST]),
    ],
)
def test_every_answer_has_the_headers_that_keep_other_pages_out(running, status, lines):
    answer = raw(running, *lines)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    head = answer.split("\r\n\r\n")[0]
    assert all(header in head for header in SECURITY)
    assert "Python" not in head


@needs_runtime
def test_what_follows_a_request_with_a_body_is_no_request(running):
    answer = raw(running, "GET /nothing HTTP/1.1", HOST, "Content-Length: 5", "", "GET / HTTP/1.1")
    assert answer.count("HTTP/1.1 ") == 1


@needs_runtime
def test_one_client_works_beside_800_that_do_nothing(running):
    address = "127.0.0.1", running.server.server_port
    resource_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource_limit[1]), resource_limit[1]))
    idle = []
    try:
        slowest = 0.0
        for number in range(800):
            idle.append(socket.create_connection(address, timeout=10))
            if number % 2:
                idle[-1].sendall(b"GET / HTTP/1.1\r\nHost: ")  # and never the rest
            if number % 100 == 99:
                start = time.perf_counter()
                response, body = running.ask("/model.tflite")
                slowest = max(slowest, time.perf_counter() - start)
                assert response.status == 200
                assert len(body) > 0
        assert threading.active_count() < running.server.max_connections + 50
        assert slowest < 5
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, resource_limit)


@needs_runtime
def test_a_connection_on_which_nothing_comes_is_closed(running, monkeypatch):
    monkeypatch.setattr(explore.Server, "idle_seconds", 0.2)
    with socket.create_connection(("127.0.0.1", running.server.server_port), timeout=10) as idle:
        start = time.perf_counter()
        assert idle.recv(1) == b""
        assert 0.1 < time.perf_counter() - start < 5


@needs_runtime
def test_a_port_that_is_taken_is_refused(running, path_of):
    port = running.server.server_port
    with pytest.raises(InvalidArgument, match=f"port {port}.*--port"):
        explore.Server(path_of("plane", "decode").read_bytes(), "a", port=port)


def test_without_the_runtime_an_error_says_how_to_get_it(monkeypatch, tmp_path, path_of):
    monkeypatch.setattr(runtime, "FOLDER", tmp_path)
    with pytest.raises(
        MissingDependency, match=r"is missing.*npm ci --ignore-scripts --prefix .*explore"
    ):
        explore.Server(path_of("plane", "decode").read_bytes(), "a.tflite")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("decode_1"), "a.tflite has no signature 'decode_1'.*Export it again"),
        (with_integers, "int8 numbers in 'latents' of 'decode_1'.*inputs and outputs .* floats"),
    ],
)
def test_a_file_that_no_browser_runs_is_refused(path_of, edit, message):
    content = edited(path_of("plane", "decode").read_bytes(), edit)
    with pytest.raises(InvalidFile, match=message):
        explore.check(content, "a.tflite")


@pytest.mark.parametrize("content", [b"", b"\x89PNG" * 50, b"\0\0\0\0TFL3" + b"\xff" * 100])
def test_a_foreign_file_is_refused(content):
    with pytest.raises(InvalidFile, match=r"a\.tflite"):
        explore.check(content, "a.tflite")


def test_a_damaged_file_is_refused(path_of):
    with pytest.raises(InvalidFile, match=r"a\.tflite is damaged"):
        explore.check(path_of("plane", "decode").read_bytes()[:-1000], "a.tflite")


# The verb.


@needs_runtime
def test_the_command_serves_a_file_until_ctrl_c_without_tensorflow(path_of):
    script = (
        "import sys\n"
        "from tfvae.tools.main import cli\n"
        "cli.main(['explore', *sys.argv[1:]], standalone_mode=False)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    path = path_of("plane", "decode")
    command = [sys.executable, "-c", script, str(path), "--json", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = json.loads(process.stdout.readline())["url"]
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
        connection.request("GET", "/model.tflite")
        assert connection.getresponse().read() == path.read_bytes()
        connection.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out) == (0, "")
    assert err == f"{path} is at {url} until Ctrl-C\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a model that was never trained."""
    tiny = {"model.hidden": [8], "model.latent_size": 2}
    config = recipes.load("vae-digits").override(tiny)
    run = runs.RunDirectory.create(tmp_path_factory.mktemp("run") / "run", config)
    model = runs.build_model(config, runs.load_data(config))
    model.optimizer.build(model.trainable_variables)
    model.save(run.model_file)
    return run


@pytest.fixture
def explored(monkeypatch):
    """Return a function that runs the verb and gives the table of its server."""

    def call(*arguments):
        tables = []

        def interrupted(server):
            tables.append(server.table)
            raise KeyboardInterrupt

        monkeypatch.setattr(explore.Server, "serve_forever", interrupted)
        cli.main(["explore", "--no-open", *map(str, arguments)], standalone_mode=False)
        return tables[0]

    return call


@needs_runtime
def test_a_run_is_exported_for_the_occasion_and_shows_test_images(run, explored, monkeypatch):
    quickly = functools.partial(export.litert, signatures=["decode"])
    monkeypatch.setattr(export, "litert", quickly)
    before = set(run.path.iterdir())
    table = explored(run.path)
    assert set(run.path.iterdir()) == before
    assert read_description(table["/model.tflite"])["latent_shape"] == [2]
    examples = np.frombuffer(table["/examples.f32"], "<f4").reshape(-1, 8, 8, 1)
    expected = runs.load_data(run.read_config()).test.numpy(0, 16)
    np.testing.assert_array_equal(examples, expected)


@needs_runtime
def test_test_images_of_a_run_come_with_their_conditions(tmp_path, path_of, explored):
    config = recipes.load("vae-digits").override({"data.condition": "label"})
    run = runs.RunDirectory.create(tmp_path / "run", config)
    content = edited(path_of("plane", "decode").read_bytes(), lambda tree: None, num_classes=10)
    (run.path / "decoder.tflite").write_bytes(content)
    offer = json.loads(explored(run.path)["/model.json"])
    assert offer["conditions"] == runs.load_data(config).test.conditions[:16].tolist()


@needs_runtime
def test_the_export_in_a_run_is_used_and_data_may_be_missing(tmp_path, path_of, explored, capsys):
    config = recipes.load("vae-digits").override({"data.name": str(tmp_path / "gone.npy")})
    run = runs.RunDirectory.create(tmp_path / "run", config)
    shutil.copy(path_of("plane", "decode"), run.path / "decoder.tflite")
    table = explored(run.path)
    assert table["/model.tflite"] == path_of("plane", "decode").read_bytes()
    assert "/examples.f32" not in table
    assert "Without test images" in capsys.readouterr().err


@needs_runtime
def test_an_export_older_than_its_model_is_not_shown(run, path_of, explored, monkeypatch):
    def export_in_stead(model, path, *arguments, **options):
        content = path_of("plane", "decode").read_bytes()
        shape = list(model.x_shape)
        Path(path).write_bytes(edited(content, lambda tree: None, image_shape=shape))

    monkeypatch.setattr(export, "litert", export_in_stead)
    shutil.copy(path_of("plane", "decode"), run.path / "decoder.tflite")
    before = run.model_file.stat().st_mtime - 60
    os.utime(run.path / "decoder.tflite", (before, before))
    table = explored(run.path)
    (run.path / "decoder.tflite").unlink()
    assert table["/model.tflite"] != path_of("plane", "decode").read_bytes()
    assert read_description(table["/model.tflite"])["image_shape"] == [8, 8, 1]


@needs_runtime
def test_the_page_is_opened_on_request(path_of, explored, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    explored(path_of("plane", "decode"))
    assert opened == []
    explored(path_of("plane", "decode"), "--open", "--json")
    assert opened == [json.loads(capsys.readouterr().out)["url"]]


# The page, in a browser.


@pytest.fixture(scope="module")
def browser():
    if not (BROWSER and DRIVER):
        pytest.skip("there is no chromium with its chromedriver on the PATH")
    if not HAS_RUNTIME:
        pytest.skip("installed without npm: no runtime")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"):
        options.add_argument(f"--{flag}")
    for flag in ("background-networking", "component-update", "sync"):
        options.add_argument(f"--disable-{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    driver.set_window_size(1200, 1600)
    yield driver
    driver.quit()


class Page:
    """The page of one file: JavaScript in, JSON out."""

    def __init__(self, browser, running):
        self.browser, self.running = browser, running
        browser.get(running.url)

    def run(self, body, *arguments):
        """Return what an asynchronous function with this body returns."""
        script = (
            "const done = arguments[arguments.length - 1];"
            f"(async (...given) => {{ {body} }})(...arguments).then("
            "(value) => done([value ?? null]), (error) => done(String(error)));"
        )
        answer = self.browser.execute_async_script(script, *arguments)
        assert isinstance(answer, list), answer
        return answer[0]

    def image(self):
        """Return the image that is shown, when it is."""
        flat = self.run("await explore.working; return [...explore.image];")
        return np.array(flat, np.float32)

    def values(self):
        return np.array(self.run("await explore.working; return [...explore.values];"))

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def enter(self, selector, value):
        """Set an input, as a hand does."""
        self.run(
            "const input = document.querySelector(given[0]); input.value = given[1];"
            "input.dispatchEvent(new Event('input', {bubbles: true})); await explore.working;",
            selector,
            value,
        )

    def drag(self, selector, *points):
        """Press at the first point of an element, given as shares of its size, and go on."""
        from selenium.webdriver import ActionChains

        element = self.find(selector)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        width, height = element.size["width"], element.size["height"]
        actions = ActionChains(self.browser, duration=20)
        for number, (x, y) in enumerate(points):
            actions.move_to_element_with_offset(element, (x - 0.5) * width, (y - 0.5) * height)
            if number == 0:
                actions.click_and_hold()
        actions.release().perform()


@pytest.fixture
def open_page(browser, serve, path_of):
    """Return a function that opens the page of a model; checks at the end that nothing was odd."""
    pages = []
    for kind in ("browser", "performance"):
        browser.get_log(kind)

    def start(name, *examples, change=None):
        content = path_of(name).read_bytes()
        page = Page(browser, serve(content if change is None else change(content), *examples))
        page.run("await explore.ready;")
        pages.append(page)
        return page

    yield start
    errors = [
        entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"
    ]
    assert errors == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    assert all(url.startswith(tuple(page.running.url for page in pages)) for url in urls), urls
    browser.get("about:blank")  # the model leaves the browser's memory


def close(actual, expected):
    np.testing.assert_allclose(np.ravel(actual), np.ravel(expected), atol=TOLERANCE)


@pytest.mark.parametrize("name", nightly_but(["latents", "codes"], "codes"))
def test_the_browser_decodes_encodes_and_draws_as_python_does(open_page, path_of, rng, name):
    page, decoder = open_page(name), Decoder.from_file(path_of(name))
    if name == "codes":
        values = rng.integers(0, CODES, (1, *decoder.code_shape)).astype(np.int32)
        expected, kind = decoder.decode_codes(values), "Int32Array"
    else:
        values = rng.normal(size=(1, *decoder.latent_shape)).astype(np.float32)
        expected, kind = decoder.decode(values), "Float32Array"
    decode = f"return [...await explore.model.decode({kind}.from(given[0]))];"
    close(page.run(decode, values.ravel().tolist()), expected)
    x = rng.random((1, *decoder.image_shape)).astype(np.float32)
    encode = "return [...await explore.model.encode(Float32Array.from(given[0]))];"
    close(page.run(encode, x.ravel().tolist()), decoder.encode(x))


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 5, -1])
def test_a_seed_draws_the_image_of_python(open_page, path_of, seed):
    page, decoder = open_page("codes"), Decoder.from_file(path_of("codes"))
    page.enter("#temperature", 0.75)
    page.enter("#condition", 2)
    page.enter("#index", 3)
    page.enter("#seed", str(seed))
    close(page.image(), decoder.sample(4, seed, 0.75, condition=2)[3])
    words = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32).view(np.int32)
    one = {"index": np.int32([3]), "condition": np.int32([2])}
    drawn = decoder.run("sample", seed=words, temperature=np.float32(0.75), **one)
    np.testing.assert_array_equal(page.values(), drawn["codes"].ravel())


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["flow", "ladder"])
def test_what_a_flow_or_a_ladder_makes_of_a_seed_is_that_of_python(open_page, path_of, name):
    page, decoder = open_page(name), Decoder.from_file(path_of(name))
    page.enter("#temperature", 0.75)
    page.enter("#index", 2)
    page.enter("#seed", "11")
    close(page.image(), decoder.sample(3, 11, 0.75)[2])
    close(page.image(), decoder.decode(page.values()[None]))
    x = np.eye(4, dtype=np.float32).reshape(1, 4, 4, 1)
    encode = "return [...await explore.model.encode(Float32Array.from(given[0]))];"
    close(page.run(encode, x.ravel().tolist()), decoder.encode(x))
    names = page.run(
        "return [...document.querySelectorAll('.controls label')].map(e => e.innerText);"
    )
    assert [name.split()[0] for name in names] == {
        "flow": ["z"] * 3,
        "ladder": ["z1,"] * 4 + ["z2,"] * 2,
    }[name]


@pytest.mark.parametrize(
    "name", nightly_but(["of a class", "of a vector", "codes of a class"], "of a class")
)
def test_a_condition_is_given_to_all_that_takes_it(open_page, path_of, rng, name):
    page, decoder = open_page(name), Decoder.from_file(path_of(name))
    decode = decoder.decode if decoder.code_shape is None else decoder.decode_codes
    start = 0 if decoder.num_classes else [0.0, 0.0]
    y = 2 if decoder.num_classes else [0.0, 0.75]
    before = page.values()
    close(page.image(), decoder.sample(1, 0, condition=start))
    if decoder.num_classes:
        assert len(page.run("return [...document.getElementById('condition').options];")) == 3
        page.enter("#condition", 2)
    else:
        page.enter(".vector input:nth-child(2)", 0.75)
    np.testing.assert_array_equal(page.values(), before)  # the same latents under another label
    kind = np.float32 if decoder.code_shape is None else np.int32
    z = before.reshape(1, *(decoder.latent_shape or decoder.code_shape)).astype(kind)
    close(page.image(), decode(z, condition=y))
    assert np.abs(page.image() - decode(z, condition=start).ravel()).max() > 1e-3
    x = rng.random((1, *decoder.image_shape)).astype(np.float32)
    encode = "return [...await explore.model.encode(Float32Array.from(given[0]))];"
    close(page.run(encode, x.ravel().tolist()), decoder.encode(x, condition=y))
    page.enter("#index", 1)
    close(page.image(), decoder.sample(2, 0, condition=y)[1])


@pytest.mark.nightly
def test_a_map_and_icons_are_those_of_the_class(open_page, path_of):
    page, decoder = open_page("of a class"), Decoder.from_file(path_of("of a class"))
    middle = (
        "await explore.editor.ready;"
        "return [...document.querySelector('.map canvas').getContext('2d')"
        ".getImageData(35, 35, 4, 4).data].filter((_, n) => n % 4 === 0);"
    )
    for label in (1, 2):  # the second while the first is being drawn
        page.enter("#condition", label)
    expected = 255 * decoder.decode(np.zeros((1, 2)), condition=2).ravel()
    np.testing.assert_allclose(page.run(middle), expected, atol=0.51)
    page, path = open_page("codes of a class"), path_of("codes of a class")
    page.enter("#condition", 1)
    icon = page.run(
        "const icon = await explore.editor.icons.get(explore.editor.layer, 3);"
        "return [...icon.getContext('2d').getImageData(0, 0, 2, 2).data]"
        ".filter((_, n) => n % 4 === 0);"
    )
    image = Decoder.from_file(path).decode_codes(np.full((1, 4, 4), 3, np.int32), condition=1)
    np.testing.assert_allclose(icon, 255 * image[0, 4:6, 4:6].ravel(), atol=0.51)


def test_a_test_image_is_encoded_with_its_own_condition(open_page, path_of, images):
    page, decoder = (
        open_page("of a class", images, 0, [2, 1]),
        Decoder.from_file(path_of("of a class")),
    )
    for number, label, end in ((0, 2, "a"), (1, 1, "b")):
        expected = decoder.encode(images[number : number + 1], condition=label)
        close(page.run(f"return [...explore.ends.{end}.values];"), expected)


def test_a_condition_leaves_what_is_wanted_meanwhile(open_page):
    page = open_page("of a class")
    values = page.run(
        "explore.show(Float32Array.of(0.5, 0.25)); await explore.setCondition(Int32Array.of(1));"
        "return [...explore.values];"
    )
    assert values == [0.5, 0.25]


def test_without_a_condition_there_is_no_picker(open_page):
    assert not open_page("plane").find(".given").is_displayed()


def test_codes_that_a_loop_draws_are_those_of_python(open_page, path_of):
    page, decoder = open_page("grids"), Decoder.from_file(path_of("grids"))
    draw = {"seed": np.int32([0, 5]), "index": np.int32([2]), "temperature": np.float32(0.5)}
    drawn = decoder.run("sample", **draw)
    page.enter("#temperature", 0.5)
    page.enter("#index", 2)
    page.enter("#seed", "5")
    close(page.image(), drawn["image"])
    np.testing.assert_array_equal(page.values(), drawn["codes"].ravel())
    assert page.find(".values select").text.split() == ["2×2", "4×4"]


def test_a_call_that_only_says_that_it_failed_is_an_error(open_page):
    page = open_page("codes")
    outside = (
        "await explore.model.decode(new Int32Array(16).fill(1 << 30)).catch((e) => e.message);"
    )
    assert page.run(f"return {outside}").startswith("LiteRT could not run `decode_codes`: ERROR")


def test_calls_at_the_same_time_fail_and_succeed_by_themselves(open_page):
    page = open_page("codes")
    both = (
        "const {model} = explore; const wrong = new Int32Array(16).fill(1 << 30);"
        "const calls = [wrong, model.zeros(), wrong].map((codes) => model.decode(codes));"
        "return (await Promise.allSettled(calls)).map(({status}) => status);"
    )
    assert page.run(both) == ["rejected", "fulfilled", "rejected"]


SLOW = (
    "const {model} = explore; const sample = model.sample.bind(model); let count = 0;"
    "model.sample = async (draw) => { count += 1;"
    " await new Promise((done) => setTimeout(done, 50)); return sample(draw); };"
    "const seed = document.getElementById('seed');"
    "const draw = (value) => { seed.value = value; return explore.draw(); };"
)


def test_of_many_draws_the_last_one_is_made(open_page, path_of):
    page, decoder = open_page("plane"), Decoder.from_file(path_of("plane"))
    draws = "const draws = Array.from({length: 9}, (_, n) => draw(n)); await Promise.all(draws);"
    assert page.run(SLOW + draws + "return count;") == 2
    close(page.image(), decoder.sample(1, 8))


def test_a_draw_does_not_overwrite_what_is_done_meanwhile(open_page):
    page = open_page("plane")
    page.run(SLOW + "const drawn = draw(3); explore.show(Float32Array.of(0.5, 0.25)); await drawn;")
    assert page.values().tolist() == [0.5, 0.25]
    assert page.run("return [...explore.editor.values];") == [0.5, 0.25]


def test_the_page_is_inert_until_it_is_ready(browser, serve, path_of):
    watch = (
        "window.seen = []; new MutationObserver(() => {"
        " const main = document.querySelector('main');"
        " if (main && !main.hidden)"
        "  seen.push([main.inert, document.querySelector('#status')?.textContent]);"
        "}).observe(document, {attributes: true, childList: true, subtree: true});"
    )
    name = "Page.addScriptToEvaluateOnNewDocument"
    script = browser.execute_cdp_cmd(name, {"source": watch})
    page = Page(browser, serve(path_of("latents").read_bytes()))
    page.run("await explore.ready; await 0;")
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    seen = page.run("return seen;")
    assert seen[0] == [True, "Preparing …"]
    assert seen[-1] == [False, "Ready."]


@pytest.mark.parametrize("name", ["latents", "codes", "plane"])
def test_one_line_is_read_aloud(open_page, name):
    page = open_page(name)
    live = "return [...document.querySelectorAll('output')].map((e) => e.ariaLive);"
    assert set(page.run(live)) == {"off"}
    page.find("#next").click()
    page.run("await explore.working;")
    assert page.find("[role=status]").text == "Image 1 of seed 0."


def test_next_image_is_the_next_one_of_the_seed(open_page, path_of):
    page, decoder = open_page("latents"), Decoder.from_file(path_of("latents"))
    expected = decoder.sample(2, 0)
    close(page.image(), expected[0])
    page.find("#next").click()
    page.run("while (document.getElementById('index').value !== '1') await 0;")
    close(page.run("await explore.draw(); return [...explore.image];"), expected[1])


def test_a_seed_that_is_no_number_is_an_error_on_the_page(open_page, browser):
    page = open_page("plane")
    page.enter("#seed", "seven")
    page.run("await new Promise(requestAnimationFrame);")
    assert page.find("#problem").text == 'The seed is "seven"; expected a whole number.'
    browser.get_log("browser")  # which tells of it too
    page.enter("#seed", "7")
    page.image()
    assert not page.find("#problem").is_displayed()


def test_sliders_change_the_picture(open_page, path_of):
    page, decoder = open_page("latents"), Decoder.from_file(path_of("latents"))
    before, values = page.image(), page.values()
    page.enter(".controls input", 3.5)
    changed = page.values()
    assert np.sum(changed != values) == 1
    assert 3.5 in changed
    assert np.abs(page.image() - before).max() > 1e-3
    close(page.image(), decoder.decode(changed[None]))


def test_the_latents_that_matter_come_first_and_all_on_request(open_page):
    page = open_page("latents")
    visible = "return [...document.querySelectorAll('.controls label')].filter(e => e.offsetHeight)"
    assert page.run(f"{visible}.length;") == 16
    page.find(".values .buttons button:last-child").click()
    names = page.run(f"{visible}.map(e => e.firstChild.data);")
    assert sorted(names) == sorted(f"z {n + 1}" for n in range(MANY))
    assert names != sorted(names, key=lambda name: int(name[2:]))
    page.find(".values .buttons button").click()
    assert not page.values().any()


def test_two_latents_are_a_map(open_page, path_of):
    page, decoder = open_page("plane"), Decoder.from_file(path_of("plane"))
    page.drag(".map canvas", (0.5, 0.5), (0.75, 0.25))
    np.testing.assert_allclose(page.values(), [1.5, 1.5], atol=0.05)
    close(page.image(), decoder.decode(page.values()[None]))
    page.run("await explore.editor.ready;")
    # The middle one of 15 times 15 images is that of the origin.
    middle = page.run(
        "return [...document.querySelector('.map canvas').getContext('2d')"
        ".getImageData(35, 35, 4, 4).data].filter((_, n) => n % 4 === 0);"
    )
    np.testing.assert_allclose(middle, 255 * decoder.decode(np.zeros((1, 2))).ravel(), atol=0.51)


def test_categories_begin_at_the_first_one(open_page):
    page = open_page("categories", change=lambda content: edited(content, without("sample_1")))
    first = [1, 0, 0, 1, 0, 0]
    assert page.values().tolist() == first
    for end in "ab":
        assert page.run(f"return [...explore.ends.{end}.values];") == first
    page.run("await explore.show(Float32Array.of(0, 1, 0, 0, 0, 1));")
    page.find(".values .buttons button").click()
    assert page.values().tolist() == first


@pytest.mark.nightly
def test_bits_are_switches(open_page, path_of):
    page, decoder = open_page("bits"), Decoder.from_file(path_of("bits"))
    before = page.values()
    page.find(".controls input[type=checkbox]").click()
    assert np.abs(page.values() - before).tolist() == [1, 0]
    close(page.image(), decoder.decode(page.values()[None]))


def test_painting_a_code_changes_the_picture(open_page, path_of):
    page, decoder = open_page("codes"), Decoder.from_file(path_of("codes"))
    before, image = page.values().reshape(4, 4), page.image()
    code = (before[1, 2] + 1) % CODES
    page.find(f".palette button:nth-child({code + 1})").click()
    page.drag(".grid", (0.6, 0.4))
    after = page.values().reshape(4, 4)
    assert after[1, 2] == code
    assert np.sum(after != before) == 1
    assert np.abs(page.image() - image).max() > 1e-3
    close(page.image(), decoder.decode_codes(after[None].astype(np.int32)))
    assert "code" in page.find(".values output").text


def test_a_fill_goes_as_far_as_the_code_does(open_page):
    page = open_page("codes")
    page.run("await explore.show(new Int32Array(16).fill(5).fill(6, 4, 8));")
    page.run("explore.editor.choose(9);")
    page.find(".values .buttons button:nth-child(2)").click()
    page.drag(".grid", (0.1, 0.9))
    assert page.values().reshape(4, 4).tolist() == [[5] * 4, [6] * 4, [9] * 4, [9] * 4]
    page.find(".values .buttons button:nth-child(3)").click()
    page.drag(".grid", (0.1, 0.4))
    assert page.run("return explore.editor.code;") == 6


def press(page, *keys):
    """Press keys by name, in what has the focus."""
    from selenium.webdriver import ActionChains, Keys

    actions = ActionChains(page.browser)
    for key in keys:
        actions.send_keys(getattr(Keys, key))
    actions.perform()
    page.run("await explore.working; await new Promise(requestAnimationFrame);")


def test_codes_are_chosen_and_painted_by_keys(open_page):
    page = open_page("codes")
    page.run("await explore.show(new Int32Array(16)); document.querySelector('.grid').focus();")
    press(page, "TAB")  # the palette, at the chosen code
    press(page, "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_LEFT", "ENTER")
    chosen = "return [...document.querySelectorAll('.palette [aria-pressed=true]')]"
    assert page.run(f"{chosen}.map((e) => [e.title, e.tabIndex]);") == [["code 2", 0]]
    stops = "return document.querySelectorAll('.palette [tabindex=\"0\"]').length;"
    assert page.run(stops) == 1
    page.run("document.querySelector('.grid').focus();")
    press(page, "ARROW_DOWN", "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_UP", "ARROW_UP", "ARROW_DOWN")
    press(page, "ENTER")
    expected = np.zeros((4, 4))
    expected[1, 2] = 2
    np.testing.assert_array_equal(page.values().reshape(4, 4), expected)
    assert page.find("[role=status]").text == "Row 1, column 2: code 2"
    outline = "return getComputedStyle(document.activeElement).outlineStyle;"
    assert page.run(outline) == "solid"


def test_the_grid_is_drawn_anew_for_an_icon_that_the_palette_asked_for(open_page):
    page = open_page("codes")
    news = page.run(
        "const {layer, icons} = explore.editor; let count = 0;"
        "const made = new icons.constructor(explore.model, () => { count += 1; });"
        "const asked = made.get(layer, 3); made.found(layer, 3); made.found(layer, 3);"
        "await asked; await new Promise(requestAnimationFrame); return count;"
    )
    assert news == 1


def test_an_icon_is_the_middle_of_an_image_of_one_code(open_page, path_of):
    page, decoder = open_page("codes"), Decoder.from_file(path_of("codes"))
    icon = page.run(
        "const icon = await explore.editor.icons.get(explore.editor.layer, 3);"
        "return [...icon.getContext('2d').getImageData(0, 0, 2, 2).data]"
        ".filter((_, n) => n % 4 !== 3);"
    )
    image = decoder.decode_codes(np.full((1, 4, 4), 3, np.int32))[0, 4:6, 4:6]
    np.testing.assert_allclose(icon, 255 * image.ravel(), atol=0.51)


@pytest.mark.parametrize("name", ["latents", "codes"])
def test_what_is_drawn_is_encoded(open_page, path_of, name):
    page, decoder = open_page(name), Decoder.from_file(path_of(name))
    page.run("explore.ends.a.pad.clear(); await explore.working;")
    page.drag("#a .pad", (0.2, 0.2), (0.8, 0.8))
    page.image()
    drawn = np.array(page.run("return [...explore.ends.a.pad.toImage()];"), np.float32)
    drawn = drawn.reshape(decoder.image_shape)
    assert drawn[0, -1].max() == 0
    assert np.diagonal(drawn[..., 0]).max() > 0.9
    close(page.run("return [...explore.ends.a.values];"), decoder.encode(drawn[None]))
    close(page.values(), decoder.encode(drawn[None]))


def test_examples_are_the_ends_and_the_next_one_on_request(open_page, path_of, images):
    page, decoder = open_page("plane", images), Decoder.from_file(path_of("plane"))
    end = "return [...explore.ends.{}.values];"
    close(page.run(end.format("a")), decoder.encode(images[:1]))
    close(page.run(end.format("b")), decoder.encode(images[1:2]))
    page.find("#a .buttons button:last-child").click()
    page.run("await new Promise((done) => setTimeout(done, 200));")
    close(page.run(end.format("a")), decoder.encode(images[1:2]))


@pytest.mark.parametrize("name", ["latents", "codes"])
def test_the_way_leads_from_a_to_b(open_page, name):
    page = open_page(name)
    a, b = (page.run(f"return [...explore.ends.{end}.values];") for end in "ab")
    page.enter("#way", 0)
    close(page.values(), a)
    page.enter("#way", 0.5)
    half = page.values()
    page.enter("#way", 1)
    close(page.values(), b)
    if name == "latents":
        close(half, np.mean([a, b], axis=0))
    else:
        of_b = half != a
        np.testing.assert_array_equal(half[of_b], np.array(b)[of_b])
        assert 0 < of_b.sum() <= 8


def test_the_animation_tells_its_frames_per_second(open_page):
    page = open_page("latents")
    page.find("#animate").click()
    page.run("while (!(explore.fps > 0)) await new Promise(requestAnimationFrame);")
    page.find("#animate").click()
    before = page.values()
    page.run("await new Promise((done) => setTimeout(done, 100));")
    np.testing.assert_array_equal(page.values(), before)
    assert page.find("#fps").text.endswith(" frames/s")
    assert page.find("#latency").text.endswith(" ms")


def test_a_file_without_sample_says_why(open_page):
    def change(content):
        reason = {"sample": "the prior needs Foo"}
        return edited(content, without("sample", "sample_1"), left_out=reason)

    page = open_page("plane", change=change)
    assert page.find("#no-sample").text == (
        "This file was exported without `sample`: the prior needs Foo."
    )
    assert not page.find("#sample").is_displayed()
    page.enter("#way", 0.5)
    assert page.image().size == 16


def test_a_file_without_encode_has_neither_drawings_nor_test_images(open_page):
    images = np.zeros((2, 4, 4, 1), np.float32)

    def change(content):
        return edited(content, without("encode", "encode_1"))

    page = open_page("latents", images, change=change)
    names = "return [...document.querySelectorAll('.controls label')].map(e => e.firstChild.data);"
    assert page.run(names) == [f"z {n + 1}" for n in range(MANY)]
    buttons = "return [...document.querySelectorAll('#a button')].map(e => e.textContent);"
    assert page.run(buttons) == ["Current image"]
    assert not page.find("#draw").is_displayed()
    page.enter("#way", 1)
    close(page.values(), page.run("return [...explore.ends.b.values];"))


def test_a_prior_that_does_not_run_here_leaves_the_rest(browser, serve, path_of):
    running = serve(path_of("plane").read_bytes())
    page = Page(browser, running)
    page.run("await explore.ready;")
    # A seed of three words is refused by LiteRT, as an operator would be that it lacks.
    broken = (
        "const {whyNoSample} = await import('/runtime.js'); const {model} = explore;"
        "const run = model.run.bind(model);"
        "model.run = (name, inputs) => run(name, {...inputs, seed: [new Int32Array(3), [3]]});"
        "return whyNoSample(model);"
    )
    assert page.run(broken).startswith("LiteRT could not run `sample`: ")


def test_a_model_that_is_refused_is_told_on_the_page(browser, serve, path_of):
    running = serve(path_of("plane").read_bytes())
    running.server.table["/model.tflite"] = b"nothing"
    page = Page(browser, running)
    error = page.run("return explore.ready.then(() => 'fine', (error) => error.message);")
    assert error.startswith("LiteRT refused decoder.tflite. Export it again.")


def test_a_runtime_that_does_not_come_is_told_on_the_page(browser, serve, path_of):
    running = serve(path_of("plane").read_bytes())
    del running.server.table["/runtime/core/dist/index.js"]
    page = Page(browser, running)
    page.run("await explore.ready.catch(() => 0);")
    assert "LiteRT's JavaScript did not load" in page.find("#problem").text


def test_the_page_in_the_docs_draws_an_image(browser, tmp_path, path_of):
    text = (Path(__file__).parents[1] / "docs" / "explore.md").read_text(encoding="utf-8")
    (tmp_path / "index.html").write_text(text.split("```html\n")[1].split("```")[0])
    shutil.copy(path_of("plane"), tmp_path / "decoder.tflite")
    (tmp_path / "node_modules").symlink_to(runtime.FOLDER.parent)
    handler = functools.partial(SilentFiles, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        browser.get(f"http://127.0.0.1:{server.server_port}/index.html")
        shown = "const c = document.querySelector('canvas'); return c.width === 4 &&"
        shown += " [...c.getContext('2d').getImageData(0, 0, 4, 4).data];"
        pixels = wait_for(lambda: browser.execute_script(shown))
        server.shutdown()
    expected = 255 * Decoder.from_file(path_of("plane")).sample(1, seed=7)
    np.testing.assert_allclose(pixels[::4], expected.ravel(), atol=0.51)


class SilentFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def wait_for(ask, seconds=30):
    """Return what `ask` returns as soon as it is something."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return answer


def test_layers_have_controls_of_their_kind(open_page):
    page = open_page("plane")
    controls = page.run(
        "const {controlsOf} = await import('/latents.js'); return controlsOf({latent_shape: [8],"
        "latent_kinds: ['categorical', 'bernoulli'], layer_shapes: [[2, 3], [2]]});"
    )
    assert [(c["kind"], c["start"], c["width"]) for c in controls] == [
        ("categorical", 0, 3),
        ("categorical", 3, 3),
        ("bernoulli", 6, 1),
        ("bernoulli", 7, 1),
    ]
    assert [c["name"] for c in controls] == ["z1, 1", "z1, 2", "z2, 1", "z2, 2"]


def test_an_icon_that_failed_holds_up_no_other_and_is_made_again(open_page):
    page = open_page("plane")
    script = (
        "const {Icons} = await import('/codes.js'); let calls = 0;"
        "const decode = async () => { calls += 1; if (calls === 1) throw new Error('refused once');"
        " return new Float32Array([0, 0, 1, 1]); };"
        "const model = {imageShape: [2, 2, 1], zeros: () => new Int32Array(1), decode};"
        "const layer = {height: 1, width: 1, at: () => 0}; const icons = new Icons(model, () => 0);"
        "const told = icons.get(layer, 0).catch((error) => error.message);"
        "const other = icons.get(layer, 1); await told; const again = icons.get(layer, 0);"
        "return [await told, (await other).width, (await again).width, calls];"
    )
    assert page.run(script) == ["refused once", 2, 2, 3]


def test_every_code_has_its_place_in_a_grid(open_page):
    page = open_page("plane")
    places = (
        "const {layersOf} = await import('/codes.js');"
        "return layersOf(given[0]).map(({height, width, at}) => Array.from({length: height},"
        "(_, row) => Array.from({length: width}, (_, column) => at(row, column))));"
    )
    grids = {"code_shape": [20], "code_grids": [[2, 2], [4, 4]]}
    coarse, fine = page.run(places, grids)
    np.testing.assert_array_equal(coarse, np.arange(4).reshape(2, 2))
    np.testing.assert_array_equal(fine, 4 + np.arange(16).reshape(4, 4))
    levels = page.run(places, {"code_shape": [2, 3, 4]})
    np.testing.assert_array_equal(levels, np.moveaxis(np.arange(24).reshape(2, 3, 4), -1, 0))
    assert page.run(places, {"code_shape": [5]}) == [[[0, 1, 2, 3, 4]]]
