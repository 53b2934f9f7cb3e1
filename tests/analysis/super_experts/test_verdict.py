"""The criterion is arithmetic on stored maxima: the published sets, its edges, and what it says of itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.errors import ExpertError
from analysis.super_experts.criterion import Criterion, Rule, outlier_bound
from analysis.super_experts.profile import BlockFormation
from analysis.super_experts.verdict import SuperExpertVerdict, find_super_experts
from tests.analysis.super_experts.profiles_made import made_profile

FEW = {f"L{layer}.E{expert}": 1.0 + 0.02 * expert + 0.1 * layer for layer in range(4) for expert in range(8)}
"""32 experts that are all alike."""


AS_RELEASED = Criterion(as_released=True)
BY_SIZE = Criterion(rule="percentile", percentile=95.0)
FORMS = BlockFormation(formed=3, share=0.9)


def supers(verdict: SuperExpertVerdict) -> list[str]:
    return [str(row.block.address) for row in verdict.supers]


def near(verdict: SuperExpertVerdict) -> dict[str, str]:
    return {str(miss.row.block.address): miss.rule for miss in verdict.near_misses}


def alike(layers: int, experts: int, largest: float) -> dict[str, float]:
    """Experts spread evenly up to `largest`."""
    size = layers * experts
    names = [f"L{layer}.E{expert}" for layer in range(layers) for expert in range(experts)]
    order = np.random.default_rng(0).permutation(size)
    return {name: largest * (0.5 + 0.5 * float(order[i]) / size) for i, name in enumerate(names)}


class TestPublished:
    """Su et al., Tables 1 and 2, as METHODS §3 quotes them."""

    def test_qwen3_30b_a3b(self) -> None:
        sizes = alike(48, 128, 7.3) | {"L1.E68": 744.0, "L2.E92": 540.0, "L3.E82": 430.0}
        verdict = find_super_experts(made_profile(sizes, massive=(1, 2, 3), depth=48))
        assert supers(verdict) == ["L1.E68", "L2.E92", "L3.E82"]
        assert verdict.threshold.rule == "percentile"
        assert verdict.threshold.size == 48 * 128
        assert verdict.threshold.percentile_value == pytest.approx(7.3, rel=0.01)
        assert verdict.threshold.ratio_value == pytest.approx(74.4)

    def test_deepseek_v2_lite_with_its_shared_experts_and_a_dense_layer(self) -> None:
        sizes = alike(27, 64, 9.0) | {f"L{layer}.S0": 5.0 for layer in range(1, 27)}
        sizes = {name: size for name, size in sizes.items() if not name.startswith("L0.")}
        sizes |= {"L3.E54": 1424.0, "L4.E38": 462.0, "L0": 6000.0}
        verdict = find_super_experts(made_profile(sizes, massive=(3, 4), depth=27))
        assert supers(verdict) == ["L3.E54", "L4.E38"]
        assert verdict.threshold.size == 26 * 65
        assert verdict.threshold.ratio_value == pytest.approx(142.4)  # the dense block is not in A

    def test_mixtral_8x7b_has_so_few_experts_that_the_other_rule_is_taken(self) -> None:
        sizes = alike(32, 8, 40.0) | {"L1.E3": 5600.0}
        made = made_profile(sizes, massive=(1,), depth=32, forming={"L1.E3": FORMS})
        verdict = find_super_experts(made)
        assert supers(verdict) == ["L1.E3"]
        assert (verdict.threshold.rule, verdict.threshold.size) == ("forms", 256)
        assert supers(find_super_experts(made, Criterion(rule="percentile"))) == ["L1.E3"]

    def test_deepseek_r1_has_shared_experts_among_its_super_ones(self) -> None:
        named = "L8.E24 L8.S0 L12.E190 L13.E64 L14.E202 L14.S0 L22.S0 L33.E64 L33.S0 L35.S0".split()
        sizes = alike(58, 32, 10.0) | {f"L{layer}.S0": 8.0 for layer in range(58)}
        sizes |= {name: 500.0 + i for i, name in enumerate(named)} | {"L12.E190": 501.0, "L14.E202": 503.0}
        massive = tuple(sorted({int(name[1:].split(".")[0]) for name in named}))
        assert set(supers(find_super_experts(made_profile(sizes, massive=massive, depth=58)))) == set(named)


class TestPercentile:
    """P99.5 and the ratio."""

    @pytest.mark.parametrize(("size", "admitted"), [(201, 1), (202, 2), (400, 2), (401, 2), (402, 3)])
    def test_the_percentile_is_interpolated_as_numpy_does(self, size: int, admitted: int) -> None:
        sizes = {f"L0.E{expert}": 1.0 + expert for expert in range(size)}
        criterion = Criterion(rule="percentile", ratio=0.0, layers="all")
        verdict = find_super_experts(made_profile(sizes), criterion)
        assert verdict.threshold.percentile_value == np.percentile(np.arange(1.0, size + 1), 99.5)
        assert len(verdict.supers) == admitted

    def test_percentile_ratio_and_layers_move_the_set_without_a_rerun(self) -> None:
        sizes = alike(16, 64, 5.0) | {"L1.E1": 100.0, "L2.E2": 40.0, "L3.E3": 8.0, "L14.E7": 300.0}
        profile = made_profile(sizes, massive=(1, 2, 3), depth=16)
        assert supers(find_super_experts(profile)) == ["L1.E1", "L2.E2"]
        assert supers(find_super_experts(profile, Criterion(ratio=0.2))) == ["L1.E1"]
        assert supers(find_super_experts(profile, Criterion(ratio=0.02))) == ["L1.E1", "L2.E2", "L3.E3"]
        assert supers(find_super_experts(profile, Criterion(percentile=99.85, ratio=0.0))) == ["L1.E1"]
        assert supers(find_super_experts(profile, Criterion(layers="all"))) == ["L14.E7", "L1.E1", "L2.E2"]
        assert supers(find_super_experts(profile, Criterion(layers="first75"))) == ["L1.E1", "L2.E2"]

    def test_near_misses_name_the_one_rule_that_excluded_each(self) -> None:
        sizes = alike(16, 64, 5.0) | {"L1.E1": 100.0, "L3.E3": 8.0, "L7.E7": 90.0, "L2.E9": 10.2}
        verdict = find_super_experts(made_profile(sizes, massive=(1, 2, 3), depth=16))
        assert supers(verdict) == ["L1.E1", "L2.E9"]
        assert near(verdict) == {"L7.E7": "layers", "L3.E3": "ratio"}

    def test_a_percentile_that_names_an_expert_which_is_no_outlier_is_warned_of(self) -> None:
        verdict = find_super_experts(made_profile(FEW, massive=(0, 1, 2, 3)), Criterion(rule="percentile"))
        assert len(verdict.supers) == 1
        assert any("is no outlier" in remark and "always selects one" in remark for remark in verdict.remarks)
        outlying = find_super_experts(
            made_profile(FEW | {"L1.E1": 50.0}, massive=(1,)), Criterion(rule="percentile")
        )
        assert not any("no outlier" in remark for remark in outlying.remarks)


class TestForms:
    """The rule that goes by no size."""

    def test_it_is_the_default_below_400_experts_and_for_dense_models(self) -> None:
        verdict = find_super_experts(made_profile(FEW, massive=(0, 1, 2, 3)))
        assert verdict.threshold.rule == "forms"
        assert supers(verdict) == []
        many = made_profile(alike(4, 100, 5.0), massive=(1,))
        assert find_super_experts(many).threshold.rule == "percentile"
        assert find_super_experts(many, Criterion(rule="forms")).threshold.rule == "forms"
        dense = made_profile({f"L{layer}": 1.0 + layer for layer in range(500)}, depth=500)
        assert find_super_experts(dense).threshold.rule == "forms"

    def test_who_forms_one_is_super_and_who_is_only_large_is_a_near_miss(
        self,
    ) -> None:
        made = made_profile(FEW | {"L2.E1": 900.0}, massive=(1,), forming={"L1.E5": FORMS})
        verdict = find_super_experts(made)
        assert supers(verdict) == ["L1.E5"]
        assert near(verdict) == {"L2.E1": "forms"}

    def test_ratio_and_percentile_do_not_matter_to_it_but_the_layers_do(self) -> None:
        made = made_profile(FEW, massive=(1, 3), forming={"L1.E5": FORMS, "L3.E0": FORMS})
        strict = Criterion(rule="forms", ratio=1.0, percentile=99.9)
        assert set(supers(find_super_experts(made, strict))) == {"L1.E5", "L3.E0"}
        early = find_super_experts(made, Criterion(rule="forms", layers="first75"))
        assert supers(early) == ["L1.E5"]
        assert near(early)["L3.E0"] == "layers"

    def test_near_misses_name_the_half_they_lack(self) -> None:
        forming = {
            "L1.E1": BlockFormation(jointly=2, share=0.42),
            "L1.E2": BlockFormation(share=0.3),
            "L1.E3": BlockFormation(share=0.2),
            "L1.E4": BlockFormation(apart=0.4),
        }
        found = near(find_super_experts(made_profile(FEW, massive=(1,), forming=forming)))
        assert {name: rule for name, rule in found.items() if name < "L2"} == {
            "L1.E1": "half", "L1.E2": "half", "L1.E4": "supplied",
        }  # fmt: skip

    def test_what_is_formed_jointly_is_said_with_the_two_largest(self) -> None:
        forming = {
            name: BlockFormation(jointly=2, share=share)
            for name, share in (("L1.E1", 0.42), ("L1.E2", 0.31), ("L1.E3", 0.05))
        }
        verdict = find_super_experts(made_profile(FEW, massive=(1,), forming=forming))
        (told,) = [remark for remark in verdict.remarks if "jointly" in remark]
        assert "the two largest are L1.E1 (42%) and L1.E2 (31%)" in told
        assert supers(verdict) == []

    def test_what_is_unknown_is_said(self) -> None:
        forming = {"L1.E1": BlockFormation(unknown=2)}
        verdict = find_super_experts(made_profile(FEW, massive=(1,), forming=forming))
        assert any("L1 forms a massive activation, but which of its experts" in r for r in verdict.remarks)

    def test_the_rule_of_earlier_versions_is_refused_with_its_successor(self) -> None:
        with pytest.raises(ExpertError, match=r"'small' is no longer offered.*choose forms"):
            Criterion(rule="small")  # type: ignore[arg-type]

    @pytest.mark.parametrize("rule", ["percentile", "forms"])
    def test_a_largest_output_that_is_no_outlier_is_warned_of_in_both_rules(self, rule: Rule) -> None:
        made = made_profile(FEW, massive=(1,), forming={"L1.E5": FORMS})
        assert any("is no outlier" in r for r in find_super_experts(made, Criterion(rule=rule)).remarks)
        outlying = made_profile(FEW | {"L1.E5": 60.0}, massive=(1,), forming={"L1.E5": FORMS})
        said = find_super_experts(outlying, Criterion(rule=rule)).remarks
        assert not any("is no outlier" in remark for remark in said)

    def test_an_outlier_is_five_deviations_of_log_a_by_the_median_of_deviations(self) -> None:
        sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
        assert outlier_bound(sizes) == pytest.approx(4.0 * math.exp(5 * 1.4826 * math.log(2)))
        assert outlier_bound(np.array([0.0])) is None

    def test_one_window_is_said_to_be_one(self) -> None:
        made = made_profile(FEW, massive=(1,), forming={"L1.E5": FORMS}, windows=1)
        assert any("The text is one window" in remark for remark in find_super_experts(made).remarks)
        more = made_profile(FEW, massive=(1,), forming={"L1.E5": FORMS})
        assert not any("The text is one window" in remark for remark in find_super_experts(more).remarks)


class TestLayers:
    """L."""

    def test_an_outlier_of_the_last_layer_is_excluded_and_shown_as_such(self) -> None:
        verdict = find_super_experts(
            made_profile(FEW | {"L1.E5": 60.0, "L3.E2": 90.0}, massive=(1,)), BY_SIZE
        )
        assert supers(verdict) == ["L1.E5"]
        assert near(verdict)["L3.E2"] == "layers"
        assert any("90, is that of L3.E2, whose layer is not in L" in remark for remark in verdict.remarks)

    def test_without_a_massive_layer_nothing_is_super_and_it_says_why(self) -> None:
        verdict = find_super_experts(made_profile(FEW | {"L1.E5": 60.0}, largest=12.5))
        assert supers(verdict) == []
        assert near(verdict) == {"L1.E5": "forms"}
        assert any("the largest |h| is 12.5, after layer 0, 12.5 × the median" in r for r in verdict.remarks)

    def test_the_first_three_quarters_are_rounded_as_released(self) -> None:
        profile = made_profile(FEW, depth=4)
        assert find_super_experts(profile, Criterion(layers="first75")).threshold.layers == (0, 1, 2)
        five = {f"L{layer}.E0": 1.0 for layer in range(5)}
        assert find_super_experts(
            made_profile(five, depth=5), Criterion(layers="first75")
        ).threshold.layers == (
            0,
            1,
            2,
            3,
        )

    def test_experts_that_saw_no_token_are_left_out_and_counted(self) -> None:
        verdict = find_super_experts(
            made_profile(FEW | {"L1.E5": 60.0, "L0.E1": 0.0, "L2.E2": 0.0}, massive=(1,))
        )
        assert verdict.threshold.size == 30
        assert any("2 of 32 experts saw no token" in remark for remark in verdict.remarks)
        with pytest.raises(ExpertError, match="no expert saw a token of this text; give a longer one"):
            find_super_experts(made_profile({"L0.E0": 0.0}), Criterion(layers="all"))


class TestAsReleased:
    """The authors' code."""

    def test_it_reads_the_first_routed_token_the_first_layers_and_floors_the_ratio(self) -> None:
        first = dict.fromkeys(FEW, 0.5) | {"L1.E5": 99.0, "L2.E1": 9.5}
        sizes = FEW | {"L0.E0": 500.0, "L1.E5": 99.0, "L3.E2": 5000.0}
        verdict = find_super_experts(made_profile(sizes, massive=(0,), first_routed=first), AS_RELEASED)
        threshold = verdict.threshold
        assert (threshold.rule, threshold.layers, threshold.size) == ("percentile", (0, 1, 2), 24)
        assert threshold.ratio_value == 9.0  # 99 // 10
        assert threshold.percentile_value == pytest.approx(np.percentile([*[0.5] * 22, 9.5, 99.0], 99.5))
        assert supers(verdict) == ["L1.E5"]

    def test_below_ten_the_ratio_excludes_nobody(self) -> None:
        assert find_super_experts(made_profile(FEW), AS_RELEASED).threshold.ratio_value == 0.0

    def test_experts_that_saw_no_token_count_as_0(self) -> None:
        unseen = {f"L1.E{expert}": 0.0 for expert in range(8, 58)}
        verdict = find_super_experts(made_profile(FEW | unseen), AS_RELEASED)
        known = [size for name, size in FEW.items() if name < "L3"]
        assert verdict.threshold.size == 74
        assert verdict.threshold.percentile_value == np.percentile([*known, *[0.0] * 50], 99.5)
        assert any("50 of 82 experts saw no token of this text and count as 0" in r for r in verdict.remarks)

    def test_of_shared_experts_all_tokens_count(self) -> None:
        """Their output has a batch dimension: the first entry, which the released code takes, is all."""
        sizes = FEW | {"L1.S0": 200.0, "L1.E5": 150.0}
        verdict = find_super_experts(made_profile(sizes, first_routed=dict.fromkeys(sizes, 1.0)), AS_RELEASED)
        assert verdict.threshold.ratio_value == 20.0
        assert supers(verdict) == ["L1.S0"]

    def test_where_only_late_layers_have_experts_there_is_nothing_to_compare(self) -> None:
        with pytest.raises(ExpertError, match="no expert saw a token"):
            find_super_experts(made_profile({"L0": 5.0, "L3.E0": 2.0, "L3.E1": 3.0}), AS_RELEASED)

    def test_it_leaves_no_other_choice(self) -> None:
        with pytest.raises(ExpertError, match="fixes rule"):
            Criterion(ratio=0.2, as_released=True)


class TestDense:
    """Models without experts."""

    def test_blocks_are_compared_with_one_another(self) -> None:
        sizes = {f"L{layer}": 2.0 + 0.1 * layer for layer in range(12)} | {"L2": 900.0}
        verdict = find_super_experts(made_profile(sizes, massive=(2,), depth=12, forming={"L2": FORMS}))
        assert supers(verdict) == ["L2"]
        assert any("has no experts: its FFN blocks are compared" in remark for remark in verdict.remarks)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "guess"}, "choose auto, percentile, forms"),
        ({"layers": "some"}, "choose massive, first75, all"),
        ({"percentile": 100.0}, "between 0 and 100"),
        ({"percentile": math.nan}, "between 0 and 100"),
        ({"ratio": -0.1}, "from 0 to 1"),
    ],
)
def test_a_criterion_that_means_nothing_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ExpertError, match=message):
        Criterion(**settings)  # type: ignore[arg-type]
