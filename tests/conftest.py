"""Which processes load what several test files share."""


def pytest_addoption(parser):
    parser.addoption("--grappler", action="store_true", help="rewrite graphs as TensorFlow does")


def pytest_configure(config):
    """Load the fixtures where tests run: a process that hands them out needs no TensorFlow."""
    hands_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if not hands_out:
        config.pluginmanager.import_plugin("shared")
