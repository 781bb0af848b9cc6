"""What methods share: the adapter formed as one matrix."""

import jax
import tiny

from llmesr_jax.methods import layers


def test_the_formed_adapter_is_its_layers_one_after_the_other():
    """Values, and gradients in all four arrays."""
    module = layers.Adapter(6, 4)
    with tiny.float64():
        params = tiny.as_float64(module.init(jax.random.key(0))["params"])
        rows, weights = (jax.random.normal(jax.random.key(i), (7, n)) for i, n in ((1, 6), (2, 4)))

        def formed(p):
            kernel, bias = module.apply({"params": p})
            return rows @ kernel + bias[None]

        def chained(p):
            return (rows @ p["kernel_0"] + p["bias_0"][None]) @ p["kernel_1"] + p["bias_1"][None]

        run = lambda f: jax.jit(lambda p: (f(p), jax.grad(lambda p: (f(p) * weights).sum())(p)))(params)  # noqa: E731
        found = [run(f) for f in (formed, chained)]
    tiny.assert_close(*found, 1e-12)
