"""Rank plans over the depth of the model: what is alike shares a subplot, and what differs can be told apart."""

import numpy as np
import pandas as pd
import pytest
from plot_results import make_comparison

from gelora_viz.errors import InputError
from gelora_viz.plots import plans
from gelora_viz.plots.marks import LEVEL
from gelora_viz.ranks import RankPlan

BERT = ("attention.self.query", "attention.self.value")
LLAMA = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
    "mlp.down_proj",
)  # fmt: skip


def plan_of(rank, kinds=BERT, *, n_blocks=6, prefix="encoder.layer", stack="", bound=np.nan):
    """A plan whose `rank` is a number, or a function of the block and the kind of matrix."""
    rows = [
        {
            "module": f"{prefix}.{block}.{kind}",
            "layer": f"{prefix}.{block}",
            "stack": stack,
            "depth": block + 1,
            "rank": rank(block, kind) if callable(rank) else rank,
            "lower_bound": bound,
        }
        for block in range(n_blocks)
        for kind in kinds
    ]
    return RankPlan(pd.DataFrame(rows), strategy="uniform")


def titles(drawing):
    return [subplot.title for subplot in drawing.subplots]


def test_kinds_of_matrix_whose_ranks_agree_in_every_plan_share_a_subplot():
    by_block = plan_of(lambda block, _: block + 1)
    assert titles(plans({"uniform": plan_of(4), "gelora": by_block})) == ["query, value"]
    by_matrix = plan_of(lambda block, kind: block + 1 + (kind == BERT[1]))
    assert titles(plans({"uniform": plan_of(4), "eva": by_matrix})) == ["query", "value"]


def test_each_plan_is_a_line_of_its_own_look_with_its_ranks_over_the_blocks():
    by_matrix = plan_of(lambda block, kind: block + 1 + (kind == BERT[1]))
    query, value = plans({"uniform": plan_of(4), "eva": by_matrix}).subplots
    assert [series.label for series in query.series] == ["uniform", "eva"]
    assert [series.kind for series in query.series] == ["line", "line"]
    assert query.series[0].style != query.series[1].style
    assert (query.series[1].x, query.series[1].y) == ((1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6))
    assert value.series[1].y == (2, 3, 4, 5, 6, 7)
    assert [series.style for series in query.series] == [series.style for series in value.series]


def test_a_single_plan_is_bars_with_strokes_at_its_lower_bound():
    (subplot,) = plans({"gelora": plan_of(3, bound=2.5)}).subplots
    bars, bounds = subplot.series
    assert (bars.kind, bars.label) == ("bars", "gelora")
    assert (bounds.style.marker, bounds.label, bounds.y) == (LEVEL, "Lower bound", (2.5,) * 6)
    (subplot,) = plans({"uniform": plan_of(3)}).subplots
    assert [series.label for series in subplot.series] == ["uniform"]


def test_subplots_share_their_axes_so_that_ranks_can_be_compared():
    drawing = plans({"a": plan_of(lambda _, kind: 20 if kind == BERT[1] else 2), "b": plan_of(1)})
    assert len({subplot.y_range for subplot in drawing.subplots}) == 1
    assert drawing.subplots[0].y_range[0] == 0
    assert drawing.subplots[0].y_range[1] > 20
    assert drawing.shared_x


def test_a_matrix_that_a_plan_does_not_name_has_rank_0_in_it():
    other = plan_of(5, ("attention.self.key",))
    drawing = plans({"query and value": plan_of(4), "key": other})
    assert titles(drawing) == ["query, value", "key"]
    assert [series.y for series in drawing.subplots[1].series] == [(0,) * 6, (5,) * 6]
    assert "rank 0 is not adapted" in drawing.caption


def test_a_kind_is_named_by_as_many_parts_as_tell_it_from_the_others():
    kinds = ("attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense")
    plan = plan_of(lambda _, kind: 1 + kinds.index(kind), kinds)
    assert titles(plans({"plan": plan})) == [
        "query", "attention.output.dense", "intermediate.dense", "output.dense"
    ]  # fmt: skip


def test_of_many_kinds_a_title_names_two():
    assert titles(plans({"plan": plan_of(4, LLAMA)})) == ["q_proj, k_proj and 5 more"]


def test_the_stacks_of_an_encoder_decoder_have_subplots_of_their_own():
    encoder = plan_of(
        2, ("layer.0.SelfAttention.q", "layer.0.SelfAttention.v"), stack="encoder", prefix="encoder.block"
    )
    kinds = ("layer.0.SelfAttention.q", "layer.1.EncDecAttention.q")
    decoder = plan_of(
        lambda _, kind: 1 + kinds.index(kind), kinds, stack="decoder", prefix="decoder.block", n_blocks=3
    )
    both = RankPlan(pd.concat([encoder.frame, decoder.frame]), strategy="uniform")
    drawing = plans({"plan": both})
    assert titles(drawing) == ["Encoder: q, v", "Decoder: SelfAttention.q", "Decoder: EncDecAttention.q"]
    assert [len(subplot.series[0].x) for subplot in drawing.subplots] == [6, 3, 3]
    assert not drawing.shared_x


@pytest.mark.parametrize("n_kinds", [1, 2, 7])
def test_96_layers_have_few_ticks_and_whole_ranks_on_both_renderers(n_kinds, tmp_path):
    kinds = LLAMA[:n_kinds]
    plan = plan_of(lambda block, kind: 1 + (block + kinds.index(kind)) % 7, kinds, n_blocks=96, prefix="layers")
    drawing = plans({"uniform": plan_of(4, kinds, n_blocks=96, prefix="layers"), "eva": plan})
    assert len(drawing.subplots) == n_kinds
    assert all(len(subplot.x_ticks) <= 12 for subplot in drawing.subplots)
    figure = drawing.to_matplotlib("icml2024", "text")
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert all(float(tick).is_integer() for tick in axes.get_yticks())
    assert all(axis.dtick == 1 for axis in list(plans({"eva": plan}).to_plotly().select_yaxes())[:n_kinds])
    assert drawing.save(tmp_path / "plans.pdf").stat().st_size > 5_000


def test_plans_of_other_models_or_none_at_all_are_refused():
    other = plan_of(4, ("attn.c_attn",), prefix="h")
    with pytest.raises(InputError, match=r"'a' and 'b' are for different models, .* encoder\.layer\.0 and h\.0"):
        plans({"a": plan_of(4), "b": other})
    with pytest.raises(InputError, match="no plans to draw"):
        plans({})
    with pytest.raises(InputError, match="the rank plan 'a' lacks column module"):
        plans({"a": RankPlan(make_comparison(), strategy="uniform")})
