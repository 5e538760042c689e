"""Vision transformers: patches as tokens, images as PIL or arrays, the same captures as of texts."""

import numpy as np
import pytest
import tiny_models
import torch
from tiny_models import HIDDEN_SIZE, IMAGE_SIZE, N_BLOCKS, PATCH_SIZE, VISION_ARCHITECTURES
from torch import nn

from gelora_viz.activations import capture
from gelora_viz.errors import InputError

image_module = pytest.importorskip("PIL.Image")
N_PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
each_architecture = pytest.mark.parametrize("architecture", VISION_ARCHITECTURES)


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size=(40, 50, 3), dtype=np.uint8) for _ in range(10)]


@pytest.fixture(scope="module")
def images(arrays):
    return [image_module.fromarray(array) for array in arrays]


def states_of(model, processor, images):
    """Hidden states by depth, (n_images, n_tokens, n_features)."""
    with torch.no_grad():
        return model(**processor(images, return_tensors="pt"), output_hidden_states=True).hidden_states


@each_architecture
def test_points_are_the_models_hidden_states_entry_by_entry(images, architecture):
    model, processor = tiny_models.build_vision(architecture)
    states = states_of(model, processor, images)
    expected = {
        "mean": lambda state: state.mean(dim=1),
        "cls": lambda state: state[:, 0],
        "tokens": lambda state: state[:, 1:].reshape(-1, HIDDEN_SIZE),
    }
    for pooling, pool in expected.items():
        activations = capture(model, processor, images, pooling=pooling, batch_size=4, progress=False)
        assert len(activations) == N_BLOCKS + 1
        for layer, state in zip(activations, states, strict=True):
            torch.testing.assert_close(activations[layer], pool(state), **CLOSE)


def test_hidden_states_of_vit_end_behind_its_final_norm(images):
    """Its own list ends before: layers="blocks" gives that one."""
    model, processor = tiny_models.build_vision("vit")
    found = capture(model, processor, images, layers="hidden_states", pooling="cls", progress=False)
    with torch.no_grad():
        expected = model(**processor(images, return_tensors="pt")).last_hidden_state[:, 0]
    torch.testing.assert_close(found[found.layers[-1]], expected, **CLOSE)


def test_a_point_names_its_image_and_patch_and_no_token(images):
    model, processor = tiny_models.build_vision("vit")
    provenance = capture(model, processor, images[:2], pooling="tokens", progress=False).provenance
    assert provenance["text"].tolist() == [0] * N_PATCHES + [1] * N_PATCHES
    assert provenance["position"].tolist() == [*range(N_PATCHES)] * 2
    assert provenance["token"].tolist() == [None] * 2 * N_PATCHES
    pooled = capture(model, processor, images[:2], progress=False).provenance
    assert pooled["position"].tolist() == [-1, -1]


def test_a_choice_of_patches_is_part_of_all_of_them(images):
    model, processor = tiny_models.build_vision("vit")
    every = capture(model, processor, images, pooling="tokens", progress=False)
    some = capture(model, processor, images, pooling="tokens", max_points=20, seed=1, progress=False)
    where = (some.provenance["text"] * N_PATCHES + some.provenance["position"]).to_numpy()
    assert len(np.unique(where)) == 20
    torch.testing.assert_close(some[some.layers[2]], every[every.layers[2]][where], **CLOSE)


def test_arrays_are_images_too(images, arrays):
    model, processor = tiny_models.build_vision("vit")
    one, other = (capture(model, processor, each, progress=False) for each in (images, arrays))
    assert all(torch.equal(one[layer], other[layer]) for layer in one)


def test_images_go_to_a_store_and_a_cache_like_texts(images, tmp_path):
    model, processor = tiny_models.build_vision("clip")
    kept = capture(model, processor, images, pooling="tokens", progress=False)
    for options in ({"store": tmp_path / "store"}, {"cache": tmp_path / "cache"}):
        for _ in range(2):
            stored = capture(model, processor, images, pooling="tokens", progress=False, **options)
            assert stored.provenance.equals(kept.provenance)
            assert all(torch.equal(stored[layer], kept[layer]) for layer in kept)
    with pytest.raises(InputError, match="other images"):
        capture(model, processor, images[1:], pooling="tokens", store=tmp_path / "store", progress=False)


def test_a_model_in_half_precision_reads_images_in_its_own_type(images):
    model, processor = tiny_models.build_vision("vit")
    single = capture(model, processor, images, progress=False)
    half = capture(model.to(torch.bfloat16), processor, images, progress=False)
    assert all((half[layer] - single[layer]).norm() < 0.05 * single[layer].norm() for layer in single)


class WithoutClassToken(nn.Module):
    """Patches through two blocks, and nothing before them."""

    def __init__(self):
        super().__init__()
        self.config = type("Config", (), {"patch_size": PATCH_SIZE})()
        self.patches = nn.Conv2d(3, 8, PATCH_SIZE, PATCH_SIZE)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)) for _ in range(2))

    def forward(self, pixel_values):
        states = self.patches(pixel_values).flatten(2).transpose(1, 2)
        for block in self.blocks:
            states = block(states)
        return states


def test_without_a_class_token_every_token_is_a_patch(images):
    _, processor = tiny_models.build_vision("vit")
    model = WithoutClassToken()
    tokens = capture(model, processor, images, pooling="tokens", progress=False)
    with torch.no_grad():
        states = model(processor(images, return_tensors="pt")["pixel_values"])
    torch.testing.assert_close(tokens["blocks.1"], states.flatten(0, 1), **CLOSE)
    with pytest.raises(InputError, match="16 tokens for 16 patches, so there is no class token"):
        capture(model, processor, images, pooling="cls", progress=False)


def test_patches_that_cannot_be_counted_are_refused_with_what_can_be_done(images):
    _, processor = tiny_models.build_vision("vit")
    model = WithoutClassToken()
    del type(model.config).patch_size
    with pytest.raises(InputError, match=r"names no patch_size.*choose pooling mean or cls"):
        capture(model, processor, images, pooling="tokens", progress=False)
    assert capture(model, processor, images, progress=False).n_points == 10


@pytest.mark.parametrize(
    ("given", "pooling", "message"),
    [
        ([], "mean", "images is empty"),
        ("photo.png", "mean", "images is 'photo.png'"),
        (["photo.png"], "mean", "image 0 is 'photo.png'; open it first"),
        ([np.zeros((4, 4, 4, 4))], "mean", "the image processor cannot read images 0"),
        ([np.zeros((40, 40, 3), dtype=np.uint8)], "last", '"last" means nothing for images'),
    ],
)
def test_unusable_images_are_refused_with_their_number(given, pooling, message):
    model, processor = tiny_models.build_vision("vit")
    with pytest.raises(InputError, match=message):
        capture(model, processor, given, pooling=pooling, progress=False)


def test_a_processor_of_texts_and_images_is_asked_for_its_part():
    model, processor = tiny_models.build_vision("clip")
    both = type("BothProcessor", (), {"tokenizer": None, "image_processor": processor})()
    with pytest.raises(InputError, match=r"BothProcessor reads texts and images; give its \.tokenizer"):
        capture(model, both, ["a"], progress=False)
