"""What fitted modules share: loaders, modes, interruption, state, copies."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anoaug.features import fitted
from tests.ranks import in_group


def maps(count: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, 4, 3, 2, generator=torch.Generator().manual_seed(seed)) + 2.0


def made(name: str) -> fitted.Fitted:
    """One of each kind, unfitted."""
    return {
        "centres": lambda: fitted.PositionalCentres(),
        "matched": lambda: fitted.PositionalCentres("ema", "cosine"),
        "radius": lambda: fitted.RadiusQuantile(0.5),
        "statistics": lambda: fitted.ChannelStatistics(covariance=True),
        "codebook": lambda: fitted.Codebook(5, iterations=3),
        "queue": lambda: fitted.FeatureQueue(100),
        "gaussians": lambda: fitted.ClassGaussians(100),
    }[name]()


NAMES = ("centres", "matched", "radius", "statistics", "codebook", "queue", "gaussians")
every = pytest.mark.parametrize("name", NAMES)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@every
def test_fit_is_one_update_after_another(name: str) -> None:
    whole, module = made(name), made(name)
    assert not module.is_fitted
    assert module.fit(maps().split(2), progress=False) is module and module.is_fitted
    if name == "codebook":  # which update moves, and fit makes
        return
    if name == "radius":  # of all distances, not of the last batch's
        whole.update(maps())
    else:
        for batch in maps().split(2):
            whole.update(batch)
    torch.testing.assert_close(state(module), state(whole))


@every
def test_state_loads_into_a_fresh_module_and_back(name: str) -> None:
    module, fresh = made(name).fit([maps()], progress=False), made(name)
    empty = state(fresh)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.is_fitted and same(state(fresh), state(module))
    module.load_state_dict(empty)
    assert not module.is_fitted
    inside = nn.Sequential(made(name))
    inside.load_state_dict(nn.Sequential(fresh).state_dict())
    assert same(state(inside[0]), state(fresh))


@every
def test_copies_and_pickles_are_independent(name: str) -> None:
    module = made(name).fit([maps()], progress=False)
    before = state(module)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert same(state(twin), before)
        twin.update(maps(seed=1) * 3)
        assert not same(state(twin), before) and same(state(module), before)
    average = torch.optim.swa_utils.AveragedModel(module, use_buffers=True)
    average.update_parameters(module)
    assert average.module.is_fitted


@every
def test_no_gradient_and_no_parameters(name: str) -> None:
    module = made(name)
    module.fit([maps().requires_grad_()], progress=False)
    module.update(maps().requires_grad_())
    assert not list(module.parameters())
    assert not any(value.requires_grad for value in module.buffers())


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_state_stays_float32_in_a_model_of_another_dtype(name: str, dtype: torch.dtype) -> None:
    expected = made(name).fit([maps()], progress=False)
    module = nn.Sequential(made(name).fit([maps()], progress=False)).to(dtype)[0]
    assert same(state(module), state(expected))
    for one in (module, expected):
        one.update(maps(seed=1))
    assert same(state(module), state(expected))


@every
def test_what_inference_mode_fits_enters_autograd(name: str) -> None:
    with torch.inference_mode():
        module = made(name).fit([maps()], progress=False)
        module.update(maps(seed=1))
    expected = made(name).fit([maps()], progress=False)
    expected.update(maps(seed=1))
    assert same(state(module), state(expected))
    assert not any(value.is_inference() for value in module.buffers())
    module.update(maps(seed=2))


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_dtype_is_learnt_in_float32(name: str, dtype: torch.dtype) -> None:
    module, expected = made(name), made(name)
    with torch.autocast("cpu", torch.bfloat16):
        module.fit([maps().to(dtype)], progress=False)
        module.update(maps().to(dtype))
    expected.fit([maps().to(dtype).float()], progress=False)
    expected.update(maps().to(dtype).float())
    torch.testing.assert_close(state(module), state(expected))
    floats = [v.dtype for v in module.buffers() if v.dtype.is_floating_point]
    assert set(floats) == {torch.float32}


@every
def test_layouts_say_the_same(name: str) -> None:
    expected = state(made(name).fit([maps()], progress=False))
    tokens = maps().flatten(2).transpose(1, 2)
    torch.testing.assert_close(state(made(name).fit([tokens], progress=False)), expected)
    registers = torch.full((6, 2, 4), 100.0)
    module = made(name)
    module.prefix = 2
    module.fit([torch.cat((registers, tokens), 1)], progress=False)
    torch.testing.assert_close(state(module), expected)
    images = torch.zeros(6, 3, 8, 8)
    rows = made(name).fit([images], lambda _: tokens.flatten(0, 1), progress=False)
    torch.testing.assert_close(state(rows), expected)


@every
def test_an_empty_batch_changes_nothing(name: str) -> None:
    module = made(name).fit([maps()], progress=False)
    before = state(module)
    module.update(maps()[:0])
    assert same(state(module), before)


class Extractor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.frozen = nn.Dropout(0.5).eval()
        self.seen: list[Any] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((self.training, self.body.training, torch.is_grad_enabled()))
        return self.frozen(self.body(images))

    def extract(self, images: Tensor) -> Tensor:
        return self(images)


@pytest.mark.parametrize("method", [False, True])
def test_the_extractor_runs_in_eval_without_gradients_and_gets_its_modes_back(method: bool) -> None:
    extractor = Extractor()
    module = fitted.ChannelStatistics()
    running = extractor.body[1].running_mean.clone()
    call = extractor.extract if method else extractor
    module.fit([torch.rand(2, 3, 4, 4)], call, progress=False)
    assert extractor.seen == [(False, False, False)]
    assert extractor.training and extractor.body[1].training and not extractor.frozen.training
    assert torch.equal(extractor.body[1].running_mean, running)


def test_an_interrupted_fit_leaves_everything_as_it_was() -> None:
    extractor, module = Extractor(), fitted.ChannelStatistics().fit([maps()], progress=False)
    before = state(module)

    def loader() -> Iterator[Tensor]:
        yield torch.rand(2, 3, 4, 4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.fit(loader(), extractor, progress=False)
    assert same(state(module), before) and extractor.training


PICTURES = torch.zeros(6, 3, 8, 8)


@pytest.mark.parametrize(
    ("batch", "where"),
    [
        ({"image": PICTURES}, {}),
        ({"pixels": PICTURES}, {"image": "pixels"}),
        ((PICTURES, 0), {}),
        ((0, PICTURES), {"image": 1}),
        ([PICTURES], {"image": lambda batch: batch[0]}),
    ],
)
def test_images_are_found_in_batches(batch: Any, where: dict[str, Any]) -> None:
    seen: list[Tensor] = []

    def extractor(images: Tensor) -> Tensor:
        seen.append(images)
        return maps()

    fitted.ChannelStatistics().fit([batch], extractor, progress=False, **where)
    assert seen[0] is PICTURES


def test_a_bar_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    fitted.ChannelStatistics().fit([maps()] * 2)
    assert "fit ChannelStatistics" in capsys.readouterr().err


def test_bad_input_is_refused() -> None:
    module = fitted.ChannelStatistics()
    with pytest.raises(ValueError, match="at least one batch"):
        module.fit([], progress=False)
    with pytest.raises(ValueError, match="expected 'image' in the batches"):
        module.fit([{"x": 1}], progress=False)
    with pytest.raises(TypeError, match="expected batches that hold images, got int"):
        module.fit([3], progress=False)
    with pytest.raises(TypeError, match="one module per layer"):
        module.fit([maps()], lambda x: [x], progress=False)
    with pytest.raises(ValueError, match="layout: expected one of"):
        fitted.ChannelStatistics(layout="nwhc")


@every
def test_a_fitted_module_refuses_other_features(name: str) -> None:
    module = made(name).fit([maps()], progress=False)
    if name == "radius":
        return
    with pytest.raises(ValueError, match="was fitted for"):
        module.update(torch.zeros(2, 5, 3, 2))


# ---- ranks ---------------------------------------------------------------------------------------


def _fitted_on(rank: int, name: str) -> dict[str, Tensor]:
    # Rank 0 has three batches, rank 1 one.
    batches = list(maps(8).split(2))
    module = made(name).fit(batches[:3] if rank == 0 else batches[3:], progress=False)
    return state(module)


@pytest.mark.slow
@every
def test_ranks_of_unequal_loaders_agree(name: str) -> None:
    first, second = in_group(_fitted_on, 2, name)
    assert same(first, second)
    if name in ("queue", "gaussians"):  # in turns
        alone = made(name).fit([maps(8)], progress=False)
        assert torch.equal(first["pushed"], alone.pushed)
        torch.testing.assert_close(first["rows"].sum(1), alone.rows.sum(1))
    elif name not in ("matched", "codebook"):  # which depend on what is a batch
        torch.testing.assert_close(first, state(made(name).fit([maps(8)], progress=False)))


def _updated_on(rank: int, name: str) -> dict[str, Tensor]:
    module = made(name)
    if name == "codebook":
        module.load_codebook(maps(1)[0].flatten(1).T)
    for batch in maps(8).split(4):
        module.update(batch.split(2)[rank])
    return state(module)


@pytest.mark.slow
@every
def test_an_update_sees_all_ranks(name: str) -> None:
    alone = made(name)
    if name == "codebook":
        alone.load_codebook(maps(1)[0].flatten(1).T)
    for batch in maps(8).split(4):
        alone.update(batch)
    first, second = in_group(_updated_on, 2, name)
    assert same(first, second)
    torch.testing.assert_close(first, state(alone))


def _empty_on(rank: int) -> None:
    with pytest.raises(ValueError, match="at least one batch on every rank"):
        made("centres").fit([maps()] if rank == 0 else [], progress=False)


@pytest.mark.slow
def test_an_empty_loader_is_refused_on_every_rank() -> None:
    in_group(_empty_on, 2)


def _wrapped_on(rank: int) -> bool:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.centres = nn.Linear(4, 1), fitted.PositionalCentres()

        def forward(self, features: Tensor) -> Tensor:
            return self.head(self.centres.lookup(features))

    model = Detector()
    wrapped = nn.parallel.DistributedDataParallel(model)
    model.centres.fit([maps()[rank::2]], progress=False)  # shapes change under the wrapper
    wrapped(maps()[:2]).sum().backward()
    before = model.centres.centres.clone()
    wrapped(maps()[:2]).sum().backward()
    return torch.equal(before, model.centres.centres)


@pytest.mark.slow
def test_ddp_takes_buffers_that_were_fitted_later() -> None:
    assert in_group(_wrapped_on, 2) == [True, True]
