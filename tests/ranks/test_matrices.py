"""Which matrices of a model are adapted: PEFT's choice, or the caller's, inside the blocks only."""

from __future__ import annotations

import pytest
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny_models import ARCHITECTURES, HIDDEN_SIZE, N_BLOCKS
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from gelora_viz import find_blocks, find_matrices, uniform_budget
from gelora_viz.errors import InputError

each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def adapted_by_peft(model, target_modules):
    """Names of the modules that PEFT itself puts LoRA on."""
    adapted = get_peft_model(model, LoraConfig(target_modules=target_modules))
    return {name for name, module in adapted.base_model.model.named_modules() if isinstance(module, BaseTunerLayer)}


@each_architecture
def test_by_default_the_matrices_are_those_that_peft_would_adapt(tiny, architecture):
    model, _ = tiny(architecture)
    found = [matrix.module for matrix in find_matrices(model)]
    assert len(found) == len(set(found)) > 0
    assert set(found) == adapted_by_peft(model, target_modules=None)


@each_architecture
def test_all_linear_is_every_matrix_that_peft_would_adapt_inside_the_blocks(tiny, architecture):
    model, _ = tiny(architecture)
    found = {matrix.module for matrix in find_matrices(model, "all-linear")}
    blocks = tuple(f"{block.name}." for block in find_blocks(model))
    assert found == {name for name in adapted_by_peft(model, "all-linear") if name.startswith(blocks)}


@each_architecture
def test_shapes_are_those_of_the_map_and_every_matrix_knows_its_block(tiny, architecture):
    model, _ = tiny(architecture)
    for matrix in find_matrices(model, "all-linear"):
        module = model.get_submodule(matrix.module)
        shape = (
            tuple(module.weight.shape) if isinstance(module, Conv1D) else (module.in_features, module.out_features)
        )
        assert (matrix.in_features, matrix.out_features) == shape
        assert matrix.cost == sum(shape)
        assert matrix.max_rank == min(shape)
        assert matrix.module.startswith(f"{matrix.block.name}.")


def test_the_fused_conv1d_of_gpt2_counts_inputs_and_outputs_the_right_way_round(tiny):
    model, _ = tiny("gpt2")
    matrices = find_matrices(model)
    assert [matrix.module for matrix in matrices] == [f"h.{block}.attn.c_attn" for block in range(N_BLOCKS)]
    assert {(matrix.in_features, matrix.out_features) for matrix in matrices} == {(HIDDEN_SIZE, 3 * HIDDEN_SIZE)}


def test_grouped_key_and_value_heads_give_matrices_that_are_not_square(tiny):
    model, _ = tiny("llama")
    shapes = {matrix.module.rsplit(".", 1)[-1]: matrix[2:4] for matrix in find_matrices(model, ["q_proj", "k_proj"])}
    assert shapes == {"q_proj": (HIDDEN_SIZE, HIDDEN_SIZE), "k_proj": (HIDDEN_SIZE, HIDDEN_SIZE // 2)}


def test_an_encoder_decoder_has_the_matrices_of_both_stacks_each_at_its_own_depth(tiny):
    model, _ = tiny("t5")
    matrices = find_matrices(model)
    per_block = {"encoder": 2, "decoder": 4}  # q and v; the decoder also looks at the encoder
    for stack, n_matrices in per_block.items():
        depths = [matrix.block.depth for matrix in matrices if matrix.block.stack == stack]
        assert depths == [depth for depth in range(1, N_BLOCKS + 1) for _ in range(n_matrices)]


def test_a_list_names_endings_and_a_string_is_a_regular_expression_for_the_whole_name(tiny):
    model, _ = tiny("bert")
    endings = [matrix.module for matrix in find_matrices(model, ["attention.output.dense", "key"])]
    assert len(endings) == 2 * N_BLOCKS
    assert all(name.endswith(("attention.output.dense", "key")) for name in endings)
    assert [matrix.module for matrix in find_matrices(model, r"encoder\.layer\.1\..*\.(query|key)")] == [
        "encoder.layer.1.attention.self.query",
        "encoder.layer.1.attention.self.key",
    ]
    with pytest.raises(InputError, match="match no linear layer"):
        find_matrices(model, r"layer\.1\.attention\.self\.query")


def test_an_ending_matches_whole_parts_of_a_name_only(tiny):
    model, _ = tiny("gpt2")
    assert {m.module.rsplit(".", 2)[-2] for m in find_matrices(model, ["c_proj"])} == {"attn", "mlp"}
    with pytest.raises(InputError):
        find_matrices(model, ["proj"])


def test_poolers_and_task_heads_belong_to_no_block_and_are_left_out(tiny_folder):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder("bert"), num_labels=3)
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    found = {matrix.module for matrix in find_matrices(model, "all-linear")}
    assert linear - found == {"bert.pooler.dense", "classifier"}


def test_where_nothing_matches_the_message_says_the_nearest_endings_or_all_of_them(tiny):
    model, _ = tiny("llama")
    with pytest.raises(InputError, match=r"\['q_prj'\] match no linear layer; did you mean q_proj"):
        find_matrices(model, ["q_prj"])
    with pytest.raises(InputError, match=r"match no linear layer; there is down_proj, gate_proj, .*v_proj"):
        uniform_budget(model, 4, ["zzzzzz"])


def test_a_misspelt_name_is_refused_beside_one_that_matches(tiny):
    with pytest.raises(InputError, match=r"\['vlaue'\] match no linear layer; did you mean value"):
        find_matrices(tiny("bert")[0], ["query", "vlaue"])


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (["word_embeddings"], "Embedding, such as embeddings.word_embeddings"),
        (["query", "LayerNorm"], "LayerNorm, such as embeddings.LayerNorm"),
        (["attention"], "BertAttention, such as encoder.layer.0.attention"),
        (r".*\.dropout", "Dropout, such as"),
    ],
)
def test_a_name_of_another_type_of_module_is_refused_with_its_type(tiny, target, kind):
    with pytest.raises(InputError, match=f"match no linear layer but {kind}.*endings are dense, key, query, value"):
        find_matrices(tiny("bert")[0], target)


def test_a_linear_layer_outside_the_blocks_is_left_out_beside_others_and_refused_alone(tiny_folder):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder("bert"), num_labels=3)
    assert {matrix.module.rsplit(".", 1)[-1] for matrix in find_matrices(model, ["query", "classifier"])} == {"query"}
    with pytest.raises(InputError, match=r"\['classifier'\] match no linear layer in the blocks; endings are dense"):
        find_matrices(model, ["classifier"])


def test_target_modules_that_are_no_names_are_refused(tiny):
    with pytest.raises(InputError, match="target_modules has 3; give names"):
        find_matrices(tiny("bert")[0], [3])


def test_a_module_without_blocks_is_refused():
    with pytest.raises(InputError, match="no recognizable blocks"):
        find_matrices(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
