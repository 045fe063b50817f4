"""A graph in lower precision is held, where it is loaded, to what its manifest says it reached; else float32 runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lower_precision import add_int8
from numpy.typing import NDArray
from running_server import running_server
from tested_device import tolerance

from latentserve.v1 import bundle_pb2
from latentserve.v1.bundle_pb2 import Conversion
from latentserve_server.bundle.golden_rows import PsnrDemand
from latentserve_server.errors import PrecisionShortfall

from .test_precision import LATENTS, MODEL, add_int8_decoder, decoded, described

LOG = "latentserve_server.bundle.opening"


def noisy(images: NDArray[np.float64], decibels: float) -> NDArray[np.float64]:
    """Off by as much noise as that is, the peak being 1."""
    signs = np.where(np.arange(images.size).reshape(images.shape) % 2, 1, -1)
    return np.asarray(images + signs * 10 ** (-decibels / 20))


def passes(conversion: Conversion, **decibels: float) -> bool:
    """Whether outputs with so many decibels each are good enough."""
    golden = {name: np.where(np.arange(24).reshape(8, 3) == 0, 1.0, 0.5) for name in decibels}
    computed = {name: noisy(golden[name], found) for name, found in decibels.items()}
    try:
        PsnrDemand.of(golden, conversion).check(computed, golden, golden)
    except PrecisionShortfall:
        return False
    return True


@pytest.mark.parametrize(
    ("conversion", "demanded"),
    [
        (Conversion(psnr_db=48, golden_psnr_db=44), 43),
        (Conversion(psnr_db=48), 42),
        (Conversion(psnr_db=93, golden_psnr_db=91), 49),
        (Conversion(psnr_db=93), 44),
        (Conversion(psnr_db=20, golden_psnr_db=20), 34),
        (Conversion(), 34),
        (Conversion(golden_psnr_db=float("nan")), 49),
        (Conversion(golden_psnr_db=float("-inf")), 34),
    ],
)
def test_what_is_demanded_follows_from_what_the_manifest_says(conversion: Conversion, demanded: float) -> None:
    assert passes(conversion, image=demanded + 0.01)
    assert not passes(conversion, image=demanded - 0.01)


def test_an_encoder_is_held_to_both_of_its_outputs_where_both_were_measured() -> None:
    both = Conversion(psnr_db=60, golden_psnr_db=45)
    assert passes(both, mean=44.1, log_variance=44.1)
    assert not passes(both, mean=60, log_variance=43.9)
    assert not passes(both, mean=43.9, log_variance=60)
    assert passes(Conversion(psnr_db=60), mean=44.1, log_variance=20)


@pytest.mark.parametrize("output", ["mean", "latent"])
def test_an_encoder_without_variances_and_a_prior_are_held_to_their_latents(output: str) -> None:
    assert passes(Conversion(golden_psnr_db=45), **{output: 44.1})
    assert not passes(Conversion(golden_psnr_db=45), **{output: 43.9})


def test_values_that_are_not_numbers_fall_short() -> None:
    golden = {"image": np.zeros((2, 3))}
    with pytest.raises(PrecisionShortfall, match=r"output 'image' has -inf dB"):
        PsnrDemand.of(golden, Conversion()).check({"image": np.full((2, 3), np.nan)}, golden, golden)


@given(
    noise=st.lists(st.integers(0, 1000), min_size=1, max_size=9).filter(any),
    rows=st.integers(1, 40),
)
def test_no_batch_of_golden_rows_is_refused_where_all_of_them_pass(noise: list[int], rows: int) -> None:
    scale = np.array(noise) / np.sqrt(np.square(noise).mean())
    golden = np.full((len(noise), 4), 0.5)
    computed = golden + 10 ** (-43.01 / 20) * scale[:, np.newaxis]
    fidelity = PsnrDemand.of(["image", "image_uint8"], Conversion(psnr_db=50, golden_psnr_db=44))
    fidelity.check({"image": computed}, {"image": golden}, {"image": golden})
    taken = np.arange(rows) % len(golden)
    fidelity.check({"image": computed[taken]}, {"image": golden[taken]}, {"image": golden})


async def test_a_graph_that_falls_short_of_its_manifest_leaves_the_calls_to_float32(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_int8_decoder(MODEL.write(tmp_path / "vae" / "1"), spoil=0.05, conversion=Conversion(golden_psnr_db=48))
    async with running_server(tmp_path, precision="int8", metrics_listen="127.0.0.1:0") as served:
        np.testing.assert_allclose(await decoded(served), MODEL.images(LATENTS), rtol=0, atol=tolerance(1e-6))
        assert (await described(served)).precision == bundle_pb2.PRECISION_FLOAT32
        assert await served.metric("graph_fell_back", model="vae", version="1", graph="decoder") == 1
        assert await served.metric("graph_fell_back", model="vae", version="1", graph="encoder") == 0
    (said,) = [record for record in caplog.records if record.name == LOG and "dB" in record.getMessage()]
    assert said.levelname == "WARNING"
    assert re.fullmatch(
        re.escape(f"{tmp_path / 'vae' / '1'}: decoder in int8: output 'image' has ")
        + r"3\d\.\d\d dB over the golden rows, where 47\.00 are demanded and its manifest says 48\.00; float32 runs",
        said.getMessage(),
    )


async def test_an_encoder_that_falls_short_leaves_the_decoder_in_lower_precision(tmp_path: Path) -> None:
    bundle = MODEL.write(tmp_path / "vae" / "1")

    def spoil(model: onnx.ModelProto) -> None:
        (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "log_variance_bias"]
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.3), bias.name))

    add_int8(bundle, "encoder", spoil, Conversion(psnr_db=60, golden_psnr_db=60))
    add_int8_decoder(bundle)
    async with running_server(tmp_path, precision="int8", metrics_listen="127.0.0.1:0") as served:
        assert (await described(served)).precision == bundle_pb2.PRECISION_INT8
        assert await served.metric("graph_fell_back", graph="decoder") == 0
        assert await served.metric("graph_fell_back", graph="encoder") == 1


async def test_a_graph_that_keeps_its_word_is_served_at_every_batch_size(tmp_path: Path) -> None:
    add_int8_decoder(MODEL.write(tmp_path / "vae" / "1"), conversion=Conversion(golden_psnr_db=45, weight_bits=7))
    async with running_server(tmp_path, precision="int8", pad_batches="always", metrics_listen="127.0.0.1:0") as served:
        assert (await described(served)).precision == bundle_pb2.PRECISION_INT8
        assert await served.metric("graph_fell_back") == 0


@pytest.mark.parametrize(("bits", "warnings"), [(0, 1), (7, 0), (8, 1)])
async def test_a_bundle_that_does_not_say_seven_bits_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bits: int, warnings: int
) -> None:
    add_int8_decoder(MODEL.write(tmp_path / "vae" / "1"), conversion=Conversion(weight_bits=bits))
    async with running_server(tmp_path, precision="int8"):
        pass
    said = [record.getMessage() for record in caplog.records if record.name == LOG and record.levelname == "WARNING"]
    told = [message for message in said if "the decoder in int8 does not say that its weights take 7 bits" in message]
    assert len(told) == warnings
    for message in told:
        assert message.startswith(str(tmp_path / "vae" / "1"))
