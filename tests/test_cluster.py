import json

import pytest

from tfvae._plain import cluster
from tfvae.errors import InvalidArgument

WORKERS = ["a:1", "b:2", "c:3"]


def config(workers=WORKERS, index=1, kind="worker", **others):
    task = {"type": kind, "index": index}
    return json.dumps({"cluster": {"worker": workers, **others}, "task": task})


def test_this_worker_is_the_one_that_the_task_names():
    worker = cluster.this_worker({"TF_CONFIG": config()})
    assert worker == (1, ("a:1", "b:2", "c:3"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "TF_CONFIG, which is not set; expected the same cluster"),
        (" ", "not set"),
        ("{", "TF_CONFIG is not JSON"),
        ("[]", "no section 'cluster'"),
        ('{"cluster": {"worker": ["a:1", "b:2"]}}', "no section 'task'"),
        (config(["a:1"], 0), "names 1 worker; 'multiworker' is for two or more"),
        (config(["a:1", "a:1"]), "different addresses"),
        (config(["a:1", "b"]), "different addresses"),
        (config(["a:1", ":2"]), "different addresses"),
        (config(["a:1", "b:70000"]), "different addresses"),
        (config("a:1"), "different addresses"),
        (config(index=3), "an index from 0 to 2"),
        (config(index="1"), "an index from 0 to 2"),
        (config(index=True), "an index from 0 to 2"),
        (config(kind="chief"), "expected the type 'worker'"),
        (config(ps=["d:4"]), "tasks of the type ps"),
    ],
)
def test_what_names_no_worker_is_refused(text, message):
    with pytest.raises(InvalidArgument, match=message):
        cluster.this_worker({} if text is None else {"TF_CONFIG": text})
