"""Real transformers, small enough to build in a blink, and texts for them to read.

Every model comes from its family's own config and classes: random weights, 3 blocks, 4 heads, 32 features. Every
tokenizer is of the family's own kind and trained here, on `SENTENCES`. The families differ as those in use do:

=========== ================== ============= ========================================================================
family      tokenizer          padding       what to watch
=========== ================== ============= ========================================================================
bert        WordPiece          right         lower-cases; [CLS] first, [SEP] last
roberta     byte-level BPE     right         positions start behind the padding id
deberta-v2  Unigram            right         relative positions only; no position embeddings
gpt2        byte-level BPE     right, none   no padding token; fused q/k/v in a Conv1D, stored (in, out)
llama       byte-level BPE     left, none    no padding token; 2 key/value heads, so k_proj and v_proj are not square
t5          Unigram            right         encoder and decoder; </s> last; decoding starts from the padding id
=========== ================== ============= ========================================================================

`FURTHER_ARCHITECTURES` are for what must hold for any transformer, such as the capture of hidden states: each brings
its own modeling code, and a tokenizer of one of the kinds above. `VISION_ARCHITECTURES` read images.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    BartConfig,
    BertConfig,
    BertTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    DebertaV2Config,
    DebertaV2Tokenizer,
    DistilBertConfig,
    ElectraConfig,
    GemmaConfig,
    GPT2Config,
    GPT2Tokenizer,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    RobertaTokenizer,
    T5Config,
    T5Tokenizer,
    ViTConfig,
    ViTModel,
)

if TYPE_CHECKING:
    from transformers.image_processing_utils import BaseImageProcessor

ARCHITECTURES: tuple[str, ...] = ("bert", "roberta", "deberta-v2", "gpt2", "llama", "t5")
FURTHER_ARCHITECTURES: dict[str, str] = {
    "distilbert": "bert",
    "electra": "bert",
    "gpt-neox": "gpt2",
    "qwen2": "llama",
    "qwen3": "llama",
    "mistral": "llama",
    "gemma": "llama",
    "phi": "gpt2",
    "bart": "roberta",
}
"""Family -> the family whose kind of tokenizer it gets."""
VISION_ARCHITECTURES: tuple[str, ...] = ("vit", "clip")

HIDDEN_SIZE = 32
N_BLOCKS = 3
N_HEADS = 4
MAX_TOKENS = 128
IMAGE_SIZE = 32
PATCH_SIZE = 8
VOCABULARY_SIZE = 400
INITIALIZER_RANGE = HIDDEN_SIZE**-0.5  # the usual 0.02 would leave each block's output almost equal to its input

SENTENCES: dict[str, tuple[str, ...]] = {
    "weather": (
        "The rain fell softly on the old tin roof.",
        "A cold wind came down from the northern hills.",
        "By noon the fog had lifted off the harbour.",
        "Thunder rolled somewhere far behind the ridge.",
        "It snowed all night!",
        "The forecast promised sun; we packed umbrellas anyway.",
        "Frost drew white ferns across the window panes.",
        "Will the storm reach us before dark?",
        "Warm air rose, and the first clouds gathered.",
        "Hail the size of peas rattled against the car.",
        "The drought cracked every field in the valley.",
        "A pale rainbow stood over the wet road for 10 minutes.",
        "After three grey weeks the sky was finally blue.",
        "The barometer kept falling.",
        "Dust hung in the still summer heat.",
        "In March, the river broke its banks twice.",
        "Nobody remembered a winter so mild.",
        "A sudden gust took the hat off my head.",
        "The evening turned the clouds orange and violet.",
        "Dew soaked our shoes on the way to the barn.",
    ),
    "kitchen": (
        "Whisk the eggs with a pinch of salt.",
        "She sliced the onions thin and let them brown slowly.",
        "The bread needs another hour to rise.",
        "Add 200 grams of flour and stir.",
        "Garlic burns quickly, so lower the heat!",
        "He tasted the soup and reached for the pepper.",
        "Cover the pot; simmer until the lentils are tender.",
        "Is there any butter left?",
        "The oven was far too hot for meringue.",
        "Grandmother kept her recipes in a blue tin.",
        "Rinse the rice until the water runs clear.",
        "A splash of vinegar wakes up a dull sauce.",
        "The kettle whistled.",
        "Knead the dough on a floured board for ten minutes.",
        "They roasted chestnuts over the open fire.",
        "Chop the parsley and squeeze half a lemon over it.",
        "Every pan in the house was dirty after dinner.",
        "Fresh basil smells of summer.",
        "The cake sank in the middle, but nobody minded.",
        "Strain the stock through a clean cloth.",
    ),
    "journey": (
        "The night train to the coast was half an hour late.",
        "We changed at a station with no name.",
        "Her ticket was valid on every bus in the city.",
        "The ferry leaves at 7.",
        "Two cyclists overtook us on the mountain pass!",
        "A porter carried the trunks up to the third floor.",
        "Which platform does the express depart from?",
        "He drove through the tunnel without turning on the lights.",
        "The map showed a path that no longer existed.",
        "At the border, an officer stamped our passports.",
        "They walked the last mile beside the canal.",
        "The pilot announced a long delay.",
        "Our hotel overlooked the railway yard.",
        "Somewhere in the desert the engine gave out.",
        "She slept through four countries.",
        "Take the second left after the bridge, then ask again.",
        "The old tram climbed slowly towards the castle.",
        "His suitcase went to Lisbon; he did not.",
        "Sailors say the harbour is hardest to leave.",
        "I have never missed a connection before.",
    ),
}


def labelled_texts() -> tuple[list[str], list[int]]:
    """480 distinct texts of one or two sentences, and their classes in turn: 0 weather, 1 kitchen, 2 journey."""
    texts, labels = [], []
    n_sentences = len(SENTENCES["weather"])
    for step in range(8):
        for start in range(n_sentences):
            for label, sentences in enumerate(SENTENCES.values()):
                second = sentences[(start + step) % n_sentences]
                texts.append(sentences[start] if step == 0 else f"{sentences[start]} {second}")
                labels.append(label)
    return texts, labels


def build(architecture: str, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The family's backbone (what `AutoModel` gives) in eval mode, and its tokenizer; equal seeds, equal weights."""
    if architecture not in (*ARCHITECTURES, *FURTHER_ARCHITECTURES):
        raise ValueError(f"no tiny model of family {architecture!r}; choose from {', '.join(ARCHITECTURES)}")
    tokenizer = _train_tokenizer(FURTHER_ARCHITECTURES.get(architecture, architecture))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(_config(architecture, tokenizer))
    return model.eval(), tokenizer


def build_vision(architecture: str, seed: int = 0) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """A vision transformer in eval mode with a class token and 16 patches, and its image processor (needs Pillow)."""
    # Imported here: it is what needs Pillow.
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    sizes = {
        "hidden_size": HIDDEN_SIZE,
        "num_hidden_layers": N_BLOCKS,
        "num_attention_heads": N_HEADS,
        "intermediate_size": 2 * HIDDEN_SIZE,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "vit":
            model: PreTrainedModel = ViTModel(ViTConfig(**sizes, initializer_range=INITIALIZER_RANGE))
        else:
            model = CLIPVisionModel(CLIPVisionConfig(**sizes, initializer_factor=10.0))
    return model.eval(), ViTImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})


def save(architecture: str, folder: str | Path, seed: int = 0) -> Path:
    """Write model and tokenizer as a checkpoint folder that `from_pretrained` reads without a network."""
    model, tokenizer = build(architecture, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def _train_tokenizer(architecture: str) -> PreTrainedTokenizerBase:
    match architecture:
        case "bert":
            tokenizer = BertTokenizer(vocab=_word_piece_vocabulary(BertTokenizer()))
        case "roberta":
            tokenizer = RobertaTokenizer().train_new_from_iterator(_corpus(), VOCABULARY_SIZE, show_progress=False)
        case "deberta-v2":
            tokenizer = DebertaV2Tokenizer(vocab=_unigram_vocabulary(DebertaV2Tokenizer()))
        case "gpt2":
            tokenizer = GPT2Tokenizer().train_new_from_iterator(_corpus(), VOCABULARY_SIZE, show_progress=False)
        case "llama":
            tokenizer = _train_llama3_tokenizer()
        case _:
            tokenizer = T5Tokenizer(vocab=_unigram_vocabulary(T5Tokenizer(extra_ids=0)), extra_ids=0)
    tokenizer.model_max_length = MAX_TOKENS
    return tokenizer


def _corpus() -> list[str]:
    return [sentence for sentences in SENTENCES.values() for sentence in sentences]


def _train_llama3_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE behind the generic class, as Llama 3 has it; `LlamaTokenizer` is Llama 2's Metaspace BPE."""
    bos, eos = "<|begin_of_text|>", "<|end_of_text|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[bos, eos],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, padding_side="left")


# The library's WordPiece and Unigram trainers give other ids and scores in every run; its BPE trainer does not. So
# BPE finds the pieces for all, and how a text is cut into them (longest match, likeliest path) is the family's own.


def _word_piece_vocabulary(blank: PreTrainedTokenizerBase) -> dict[str, int]:
    pieces = _pieces(_learn_pieces(blank, VOCABULARY_SIZE // 2))
    return {piece: i for i, piece in enumerate([*_specials(blank), *pieces, *(f"##{piece}" for piece in pieces)])}


def _unigram_vocabulary(blank: PreTrainedTokenizerBase) -> list[tuple[str, float]]:
    learned = _learn_pieces(blank, VOCABULARY_SIZE)
    pieces = _pieces(learned)
    counts = Counter(token for sentence in _corpus() for token in learned.encode(sentence).tokens)
    scores = [(piece, math.log((counts[piece] + 1) / (counts.total() + len(pieces)))) for piece in pieces]
    return [*((token, 0.0) for token in _specials(blank)), *scores]


def _specials(blank: PreTrainedTokenizerBase) -> list[str]:
    return sorted(set(blank.all_special_tokens), key=blank.convert_tokens_to_ids)


def _pieces(learned: Tokenizer) -> list[str]:
    return sorted(learned.get_vocab(), key=learned.token_to_id)


def _learn_pieces(blank: PreTrainedTokenizerBase, n_pieces: int) -> Tokenizer:
    """BPE on the corpus as the family normalizes and pre-splits it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = blank.backend_tokenizer.normalizer
    tokenizer.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    tokenizer.train_from_iterator(_corpus(), trainers.BpeTrainer(vocab_size=n_pieces, show_progress=False))
    return tokenizer


def _config(architecture: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    common = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    usual = common | {
        "hidden_size": HIDDEN_SIZE,
        "num_hidden_layers": N_BLOCKS,
        "num_attention_heads": N_HEADS,
        "intermediate_size": 2 * HIDDEN_SIZE,
        "max_position_embeddings": MAX_TOKENS,
        "initializer_range": INITIALIZER_RANGE,
    }
    match architecture:
        case "bert":
            return BertConfig(**usual)
        case "roberta":
            behind_padding = MAX_TOKENS + tokenizer.pad_token_id + 1
            return RobertaConfig(**usual | {"max_position_embeddings": behind_padding, "type_vocab_size": 1})
        case "deberta-v2":
            return DebertaV2Config(
                **usual,
                relative_attention=True,
                position_buckets=16,
                norm_rel_ebd="layer_norm",
                share_att_key=True,
                pos_att_type=["p2c", "c2p"],
                position_biased_input=False,
                type_vocab_size=0,
            )
        case "gpt2":
            return GPT2Config(
                **common,
                n_embd=HIDDEN_SIZE,
                n_layer=N_BLOCKS,
                n_head=N_HEADS,
                n_inner=2 * HIDDEN_SIZE,
                n_positions=MAX_TOKENS,
                initializer_range=INITIALIZER_RANGE,
            )
        case "llama":
            return LlamaConfig(**usual, num_key_value_heads=N_HEADS // 2)
        case "electra":
            return ElectraConfig(**usual, embedding_size=HIDDEN_SIZE // 2)
        case "gpt-neox":
            return GPTNeoXConfig(**usual)
        case "phi":
            return PhiConfig(**usual)
        case "qwen2":
            return Qwen2Config(**usual, num_key_value_heads=N_HEADS // 2)
        case "mistral":
            return MistralConfig(**usual, num_key_value_heads=N_HEADS // 2)
        case "qwen3" | "gemma":
            family = Qwen3Config if architecture == "qwen3" else GemmaConfig
            return family(**usual, num_key_value_heads=N_HEADS // 2, head_dim=HIDDEN_SIZE // N_HEADS)
        case "distilbert":
            return DistilBertConfig(
                **common,
                dim=HIDDEN_SIZE,
                n_layers=N_BLOCKS,
                n_heads=N_HEADS,
                hidden_dim=2 * HIDDEN_SIZE,
                max_position_embeddings=MAX_TOKENS,
                initializer_range=INITIALIZER_RANGE,
            )
        case "bart":
            return BartConfig(
                **common,
                d_model=HIDDEN_SIZE,
                encoder_layers=N_BLOCKS,
                decoder_layers=N_BLOCKS,
                encoder_attention_heads=N_HEADS,
                decoder_attention_heads=N_HEADS,
                encoder_ffn_dim=2 * HIDDEN_SIZE,
                decoder_ffn_dim=2 * HIDDEN_SIZE,
                max_position_embeddings=MAX_TOKENS,
                init_std=INITIALIZER_RANGE,
                decoder_start_token_id=tokenizer.eos_token_id,
            )
        case _:
            return T5Config(
                **common,
                d_model=HIDDEN_SIZE,
                d_kv=HIDDEN_SIZE // N_HEADS,
                d_ff=2 * HIDDEN_SIZE,
                num_layers=N_BLOCKS,
                num_decoder_layers=N_BLOCKS,
                num_heads=N_HEADS,
                decoder_start_token_id=tokenizer.pad_token_id,
            )
