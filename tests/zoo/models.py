"""The zoo: models of other libraries, how each is exported, what was adapted, and what is still missing for it."""

from __future__ import annotations

from dataclasses import dataclass

TORCH = "torch.onnx.export"
SCRIPT = "torch.onnx.export(dynamo=False)"
KERAS = 'Model.export(format="onnx")'
JAX = "jax2onnx.to_onnx"
TF2ONNX = "tf2onnx.convert"


@dataclass(frozen=True)
class Model:
    """One model of a library."""

    name: str
    library: str
    program: str
    """The file in libraries/ that writes it."""
    export: str
    """The way it is exported."""
    adapted: str = "nothing"
    """What its user has to change before the export."""
    missing: str = ""
    """What `latentserve-import` says as it refuses it; empty for a model that is served."""
    environment: str = "torch"
    """The file in environments/ without its ending."""
    backend: str = ""
    """KERAS_BACKEND, where Keras writes it."""


MODELS = (
    Model("pythae-vae", "pythae", "pythae_models", TORCH),
    Model("pythae-conv-vae", "pythae", "pythae_models", TORCH),
    Model("pythae-celeba-vae", "pythae", "pythae_models", TORCH),
    Model("pythae-wae", "pythae", "pythae_models", TORCH),
    Model("diffusers-kl", "diffusers", "diffusers_models", SCRIPT),
    Model("diffusers-kl-shifted", "diffusers", "diffusers_models", TORCH),
    Model("diffusers-tiny", "diffusers", "diffusers_models", TORCH),
    Model("diffusers-dc", "diffusers", "diffusers_models", TORCH, "optimize=False"),
    Model("diffusers-vq", "diffusers", "diffusers_models", TORCH),
    Model("stylegan2-one-row", "stylegan2-pytorch", "stylegan2_models", SCRIPT),
    Model("stylegan2-adapted", "stylegan2-pytorch", "stylegan2_models", TORCH, "Conv2DMod.forward"),
    Model("stylegan2-noise", "stylegan2-pytorch", "stylegan2_models", TORCH, "Conv2DMod.forward"),
    Model("pretrained-biggan", "pytorch-pretrained-biggan", "biggan_models", TORCH, "truncation a constant"),
    Model("biggan", "torch", "plain_torch", TORCH),
    Model("example-vae", "torch", "plain_torch", TORCH),
    Model("tutorial-dcgan", "torch", "plain_torch", SCRIPT),
    Model("stylegan-groups", "torch", "plain_stylegan", TORCH),
    Model("tutorial-dcgan-one-row", "torch", "plain_torch", SCRIPT),
    Model("monai-kl", "MONAI", "monai_models", TORCH),
    Model("monai-var-auto-encoder", "MONAI", "monai_models", TORCH),
    Model("monai-vq", "MONAI", "monai_models", TORCH),
    Model("compressai-relu", "compressai", "compressai_models", TORCH),
    Model("compressai-gdn", "compressai", "compressai_models", SCRIPT),
    Model("torchgan-dcgan", "torchgan", "torchgan_models", TORCH),
    Model("torchgan-conditional", "torchgan", "torchgan_models", TORCH),
    Model("torchgan-acgan", "torchgan", "torchgan_models", TORCH),
    Model("torchgan-infogan", "torchgan", "torchgan_models", TORCH, "continuous code a part of the latents"),
    Model("mimicry-sngan", "torch-mimicry", "mimicry_models", TORCH),
    Model("mimicry-sagan", "torch-mimicry", "mimicry_models", TORCH),
    Model("mimicry-cgan-pd", "torch-mimicry", "mimicry_models", TORCH),
    *(
        Model(
            f"keras-{backend}-{name}",
            f"Keras on {backend}",
            "keras_models",
            KERAS,
            "bilinear enlargement by nearest" if (backend, name) == ("jax", "conditional-gan") else "nothing",
            environment=backend,
            backend=backend,
        )
        for backend in ("torch", "jax", "tensorflow")
        for name in ("vae", "gan", "conditional-gan")
    ),
    Model("tensorflow-cvae", "tensorflow_cpu", "tensorflow_models", TF2ONNX, environment="tensorflow"),
    Model("flax-linen-vae", "flax", "jax_models", JAX, environment="jax"),
    Model("flax-nnx-vae", "flax", "jax_models", JAX, environment="jax"),
    Model("equinox-gan", "equinox", "jax_models", JAX, environment="jax"),
    Model("haiku-ladder-vae", "dm-haiku", "haiku_models", JAX, "Conv2DTranspose by repetition", environment="jax"),
)
