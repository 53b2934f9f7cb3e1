"""Boxes, planes and slices against their definitions, and keys read by plain hooks and numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.errors import PromptTooLong, SkillError, TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.running.calibration import evaluation_text
from analysis.running.probing import Tally
from analysis.skills.items import SkillItem
from analysis.skills.splits import split_skill
from analysis.skills.unrelated import WORDS, cut_passages, read_unrelated_queries
from analysis.unlearning.guards import key_spaces
from analysis.unlearning.guards.key_boxes import KeyBox, fit_box
from analysis.unlearning.guards.key_planes import fit_plane, slice_box
from analysis.unlearning.guards.key_spaces import KeySpace, count_key_tokens, fit_key_space, try_query
from analysis.unlearning.guards.operating import ALPHAS
from analysis.unlearning.scenes import Scene
from tests.analysis.conftest import loaded_from, tiny_model
from tests.analysis.skills_made import make_skill

Array = np.ndarray[Any, Any]
UNRELATED = 9


def random_keys(n: int, m: int, seed: int = 0) -> Tensor:
    stretched = torch.randn(n, m, generator=torch.Generator().manual_seed(seed))
    return stretched * torch.linspace(3, 0.1, m) + 5


def box_around(keys: Tensor) -> KeyBox:
    tally = Tally(keys.shape[1])
    tally.add(keys)
    return fit_box(0, tally.moments())


@pytest.mark.parametrize(("n", "m"), [(40, 12), (40, 90)])
def test_the_plane_is_that_of_the_first_two_principal_components(n: int, m: int) -> None:
    keys = random_keys(n, m)
    plane = fit_plane(keys, keys[3])
    values = (keys - keys.mean(0)).double().numpy()
    _, singular, vectors = np.linalg.svd(values, full_matrices=False)
    signs = np.sign(vectors[[0, 1], np.abs(vectors[:2]).argmax(1)])
    assert np.allclose(plane.axes.numpy(), vectors[:2] * signs[:, None], atol=1e-5)
    assert np.allclose(plane.shares.numpy(), (singular**2 / (singular**2).sum())[:2], atol=1e-6)
    assert np.allclose(plane.points(keys[3:4]).numpy(), 0)
    told = (keys - keys[3]).double().numpy() @ (vectors[:2] * signs[:, None]).T
    assert np.allclose(plane.points(keys).numpy(), told, atol=1e-4)


@pytest.mark.parametrize(
    "keys",
    [base * torch.ones(n, 6) for n in (40, 4) for base in (torch.ones(1), torch.arange(float(n))[:, None])],
)
def test_keys_on_a_point_or_a_line_still_have_a_plane(keys: Tensor) -> None:
    axes = fit_plane(keys, keys[0]).axes.double()
    assert torch.allclose(axes @ axes.T, torch.eye(2, dtype=torch.float64), atol=1e-6)


def is_within(corners: Array, points: Array) -> Array:
    """(n,) whether points (n, 2) are in a convex polygon, by the side of each edge they are on."""
    edges = np.roll(corners, -1, axis=0) - corners
    off = points[:, None] - corners[None]
    sides = edges[None, :, 0] * off[..., 1] - edges[None, :, 1] * off[..., 0]
    return np.asarray((sides >= 0).all(1))


def test_the_slice_holds_exactly_the_points_of_the_plane_that_the_box_holds() -> None:
    keys = random_keys(60, 40)
    box = box_around(keys)
    plane = fit_plane(keys, box.mean)
    corners = slice_box(box, plane).double().numpy()
    assert len(corners) >= 4
    spread = 1.5 * np.abs(corners).max(0)
    points = np.random.default_rng(0).uniform(-spread, spread, (4000, 2))
    axes, half = plane.axes.double().numpy(), box.k * box.sigma.double().numpy()
    for alpha in (0.4, 1.0, 2.5):
        held = (np.abs(alpha * points @ axes) <= alpha * half).all(1)
        clear = np.abs((np.abs(points @ axes) / half).max(1) - 1) > 1e-4
        assert 0.1 < held.mean() < 0.9
        assert (is_within(alpha * corners, alpha * points) == held)[clear].all()


def test_a_projection_into_the_slice_may_lie_outside_the_box() -> None:
    keys = random_keys(60, 40)
    box = box_around(keys)
    plane = fit_plane(keys, box.mean)
    away = torch.zeros(40)
    away[39] = 100.0
    away -= plane.axes.T @ (plane.axes @ away)
    key = box.mean + away
    assert is_within(slice_box(box, plane).numpy(), plane.points(key[None]).numpy()).all()
    assert float(box.depths(key)) > 1


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return loaded_from(tiny_model("llama"))


@pytest.fixture(scope="module")
def scene() -> Scene:
    skills = [make_skill("mine"), make_skill("other", words=(45, 75)), make_skill("third", words=(20, 70))]
    third = replace(skills[2], items=tuple(replace(i, prompt=f" my{i.prompt}") for i in skills[2].items))
    mine, *others = (split_skill(skill) for skill in (skills[0], skills[1], third))
    return Scene(mine, tuple(others))


@pytest.fixture(scope="module")
def space(loaded: LoadedModel, scene: Scene) -> KeySpace:
    return fit_key_space(loaded, scene, UNRELATED)


def hooked_keys(loaded: LoadedModel, items: list[list[int]], layer: int) -> Array:
    """(n, m) what each prompt's last token gives to the down projection, the prompts read one by one."""
    seen: list[Array] = []
    module = loaded.model.get_submodule(f"model.layers.{layer}.mlp.down_proj")
    hook = module.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, -1].double().numpy()))
    with torch.no_grad():
        for ids in items:
            loaded.model(torch.tensor([ids]))
    hook.remove()
    return np.stack(seen)


def test_abstention_is_what_plain_hooks_and_numpy_say(
    loaded: LoadedModel, scene: Scene, space: KeySpace
) -> None:
    def ids(items: tuple[SkillItem, ...]) -> list[list[int]]:
        return [loaded.tokenizer.encode(item.prompt) for item in items]

    sets = [ids(split.validation) for split in scene.splits]
    sets.append([own for _, own in read_unrelated_queries(loaded, UNRELATED)])
    depths = []
    for layer in (0, 1):
        probes = hooked_keys(loaded, ids(scene.forget.probe), layer)
        mean, sigma = probes.mean(0), probes.std(0, ddof=1)
        sigma = np.maximum(sigma, 1e-4 * np.median(sigma))
        k = (np.abs(probes - mean) / sigma).max()
        depths.append([(np.abs(hooked_keys(loaded, own, layer) - mean) / sigma).max(1) / k for own in sets])
    both = [np.maximum(*pair) for pair in zip(*depths, strict=True)]
    for layers, told in (((0,), depths[0]), ((1,), depths[1]), ((0, 1), both)):
        for mine, found in zip(told, space.select_held_out(layers), strict=True):
            assert np.allclose(found.numpy(), mine, rtol=2e-4)
        for alpha in (0.65, 0.9, 1.3):
            shares, counts = zip(*space.count_refused(layers, alpha), strict=True)
            assert shares == pytest.approx([(mine <= alpha).mean() for mine in told])
            assert counts == tuple(len(mine) for mine in told)
        assert [p.alpha for p in space.curve(layers)] == list(ALPHAS)
        point = space.curve(layers)[ALPHAS.index(0.9)]
        assert point.forget == pytest.approx((told[0] <= 0.9).mean())
        assert point.worst_retain == pytest.approx(max((mine <= 0.9).mean() for mine in told[1:-1]))
    assert 0 < space.count_refused((1,), 0.9)[0][0] < 1
    assert 0 < space.count_refused((0,), 1.3)[1][0] < 1


def test_alpha_is_chosen_by_the_skills_compared_and_not_by_unrelated_text(space: KeySpace) -> None:
    last = len(space.names) - 1
    depths = torch.where(space.which == last, 0.1, torch.where(space.which == 0, 0.3, 2.0))
    other = replace(space, layers={1: replace(space.layers[1], depths=depths)})
    assert {point.worst_retain for point in other.curve((1,)) if point.alpha < 2} == {0.0}
    assert other.count_refused((1,), 0.2)[last] == (1.0, UNRELATED)


def test_no_query_of_the_test_part_is_read(scene: Scene, space: KeySpace) -> None:
    tests = {item.prompt for split in scene.splits for item in split.test}
    assert not tests & set(space.texts)
    assert space.names == ("mine", "other", "third", "unrelated text")
    assert int(space.probe.sum()) == len(scene.forget.probe)
    assert not (space.which[space.probe] != 0).any()


def test_every_probe_is_inside_at_alpha_1_and_points_are_those_of_the_keys(
    loaded: LoadedModel, scene: Scene, space: KeySpace
) -> None:
    assert space.inside((0, 1), 1.0)[space.probe].all()
    ids = [loaded.tokenizer.encode(item.prompt) for item in scene.forget.probe]
    keys = torch.from_numpy(hooked_keys(loaded, ids, 1))
    layer = space.layers[1]
    places = layer.plane.points(keys)
    assert torch.allclose(layer.points[: len(ids)], places, atol=1e-3)


def test_layers_in_groups_and_fewer_marks_say_the_same(
    loaded: LoadedModel, scene: Scene, space: KeySpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_spaces, "KEY_BYTES", 1)
    monkeypatch.setattr(key_spaces, "MOST_DRAWN", 40)
    once = sum(len(loaded.tokenizer.encode(item.prompt)) for item in scene.forget.probe)
    held_out = sum(len(loaded.tokenizer.encode(i.prompt)) for s in scene.splits for i in s.validation)
    passages = sum(len(ids) for _, ids in read_unrelated_queries(loaded, UNRELATED))
    assert count_key_tokens(loaded, scene, UNRELATED) == 2 * (2 * once + held_out + passages)
    steps: list[tuple[int, int]] = []
    other = fit_key_space(loaded, scene, UNRELATED, lambda done, total: steps.append((done, total)))
    for layer in (0, 1):
        assert torch.equal(other.layers[layer].depths, space.layers[layer].depths)
    assert len(other.drawn) == len(other.texts) == len(other.layers[0].points) == 40
    assert other.drawn.unique().tolist() == other.drawn.tolist()
    assert int(other.drawn[-1]) > len(space.which) * 0.9
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1] == (2 * (len(space.which) + int(space.probe.sum())),) * 2


def test_a_tried_query_lies_where_the_same_query_of_the_set_lies(
    loaded: LoadedModel, scene: Scene, space: KeySpace
) -> None:
    place = int((space.which == 1).nonzero()[0])
    tried = try_query(loaded, space, scene.splits[1].validation[0].prompt)
    for layer, found in space.layers.items():
        assert tried.depth[layer] == pytest.approx(float(found.depths[place]), rel=1e-4)
        assert tried.point[layer] == pytest.approx(tuple(found.points[place].tolist()), abs=1e-3)
        assert tried.deciding[layer][0][1] == pytest.approx(tried.depth[layer], rel=1e-5)
    with pytest.raises(PromptTooLong):
        try_query(loaded, space, " dog" * 99)


def changed(scene: Scene, which: int, **parts: Any) -> Scene:
    splits = list(scene.splits)
    splits[which] = replace(splits[which], **parts)
    return Scene(splits[0], tuple(splits[1:]))


def test_what_is_longer_than_the_context_is_counted_and_nothing_else_is_an_error_with_a_name(
    loaded: LoadedModel, scene: Scene
) -> None:
    long = SkillItem(" dog" * 99, "x")
    found = fit_key_space(loaded, changed(scene, 1, validation=(*scene.splits[1].validation, long)), 0)
    assert found.too_long == (0, 1, 0, 0)
    assert found.count_refused((0,), 1.0)[-1] == (0.0, 0)
    with pytest.raises(TooFewExamples, match="other: all 1 examples are longer"):
        fit_key_space(loaded, changed(scene, 1, validation=(long,)), 0)


def test_too_few_probes_and_equal_ones_are_refused(loaded: LoadedModel, scene: Scene) -> None:
    with pytest.raises(TooFewExamples, match="29 probes"):
        fit_key_space(loaded, changed(scene, 0, probe=scene.forget.probe[:29]), 0)
    with pytest.raises(SkillError, match="give more varied probes"):
        fit_key_space(loaded, changed(scene, 0, probe=scene.forget.probe[:1] * 40), 0)


def test_a_model_without_dense_layers_is_refused(tiny_of: Callable[[str], LoadedModel], scene: Scene) -> None:
    with pytest.raises(SkillError, match="no dense FFN block"):
        fit_key_space(tiny_of("mixtral"), scene, 0)


def test_pieces_of_unrelated_text_do_not_overlap_and_fit_into_the_context(loaded: LoadedModel) -> None:
    texts = cut_passages(evaluation_text(), 1000)
    assert 60 <= len(texts) == len(set(texts))
    assert {len(text.split()) for text in texts} == {WORDS}
    words = evaluation_text().split()
    assert " ".join(texts).split() == words[: WORDS * len(texts)]
    assert len(cut_passages(evaluation_text(), 7)) == 7
    assert not cut_passages(evaluation_text(), 0)
    short = loaded_from(tiny_model("llama", max_position_embeddings=12))
    found = read_unrelated_queries(short, 5)
    assert len(found) == 5
    assert min(len(text.split()) for text, _ in found) == WORDS // 2
    assert all(0 < len(ids) < 12 for _, ids in found)
