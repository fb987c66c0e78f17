"""The precision in which the layers of a model compute."""

HALF = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")


def in_float32(model, policies: tuple[str, ...] | None = None):
    """Return a copy of the model whose layers compute in float32, or the model if they all do.

    Args:
        model: built.
        policies: names of the dtype policies that are replaced; None for all, `HALF` for half
            precision alone, which leaves a flow in float64 as it is.
    """
    others = {layer.dtype_policy.name for layer in model._flatten_layers()} - {"float32"}
    if not others & set(policies or others):
        return model
    twin = model.copy(config_in_float32(model.get_config(), policies))
    twin.loaded_from = model.loaded_from
    return twin


def config_in_float32(config, policies: tuple[str, ...] | None = None):
    """Replace dtype policies in a Keras config, all of them or those with these names."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            replaced = policies is None or config["config"]["name"] in policies
            return {**config, "config": {"name": "float32"}} if replaced else config
        return {key: config_in_float32(value, policies) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(config_in_float32(value, policies) for value in config)
    return config
