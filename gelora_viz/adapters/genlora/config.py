"""What a GenLoRA adapter is: rank, groups, radial basis functions, and which of their parts train."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from peft import PeftConfig

from gelora_viz._checks import check_choice, check_flag, check_names, check_number, check_whole, describe
from gelora_viz.adapters.genlora.peft_type import genlora_type
from gelora_viz.errors import InputError


@dataclass
class GenLoraConfig(PeftConfig):
    """Configuration of GenLoRA in our reconstruction: low-rank factors whose basis vectors are generated.

    The update is dW = (alpha / r) B A. Each row of A (r, in) and each column of B (out, r) is synthesized from a
    latent vector by radial basis functions (RBFs), as `gelora_viz.adapters.genlora.generator` says. Per matrix this
    takes in + out latent numbers and r x num_groups x num_rbfs weights for each factor; LoRA takes r (in + out).

    Args:
        r: rank, at most min(in, out) of every adapted matrix. 32, since generated vectors cost little.
        num_groups: contiguous groups of coordinates, each with RBFs of its own. 8: with a single group, the entropy
            effective rank of a fresh A with r = 32 was 7.7 of 32, with eight and four RBFs 20.6. (The paper scales
            something it calls group size; this is our reading.)
        num_rbfs: RBFs per row and group; num_groups x num_rbfs must reach r, since at initialization, and for good
            where neither centers nor widths train, it is the highest rank that a factor can have.
        train_latent: whether the latent vectors train; frozen, they stay as drawn, and are saved all the same.
        train_weights: whether the RBFs' weights train. False needs init_weights=False: B's weights begin at zero, and
            nothing would ever learn.
        train_centers: whether each row and group has centers of its own, which train, or all share one fixed grid.
        train_widths: the same for widths. On the embedded task (docs/genlora_reconstruction.md) centers and widths of
            one's own changed neither accuracy nor effective rank, for twice the parameters.
        alpha: numerator of the scale alpha / r; None takes 2 r, also where rank_pattern changes r.
        dropout: dropout rate of the layer's input in training.
        target_modules: module-name endings to adapt (see `peft.LoraConfig`): endings of names, a regular expression,
            or "all-linear"; None takes PEFT's choice for LoRA on the model's type.
        exclude_modules: endings of names, or a regular expression, of modules to leave alone.
        rank_pattern: name or regular expression -> r, as in `peft.LoraConfig`.
        alpha_pattern: name or regular expression -> alpha.
        layers_to_transform: indices of the layers to adapt (see `peft.LoraConfig`).
        layers_pattern: name of the list of layers (see `peft.LoraConfig`).
        modules_to_save: further modules that train and are saved whole, such as a task head.
        bias: "none", "all" or "genlora_only": which biases train.
        init_weights: True starts with dW = 0; False draws B's weights as A's, for tests.

    Raises:
        InputError: if a number is unusable, num_groups x num_rbfs is below r, or nothing could train.

    References:
        GenLoRA, https://arxiv.org/abs/2602.05709. Generator, initialization and defaults are our reconstruction.

    Example:
        >>> config = GenLoraConfig(r=16, num_groups=8, num_rbfs=4, train_centers=False, train_widths=False)
        >>> config.n_parameters(384, 384), 2 * (384 + 384)  # LoRA r = 2 has about as many
        (1792, 1536)
    """

    r: int = field(default=32, metadata={"help": "Rank."})
    num_groups: int = field(default=8, metadata={"help": "Groups of coordinates."})
    num_rbfs: int = field(default=4, metadata={"help": "Radial basis functions per row and group."})
    train_latent: bool = field(default=True, metadata={"help": "Whether the latent vectors train."})
    train_weights: bool = field(default=True, metadata={"help": "Whether the RBFs' weights train."})
    train_centers: bool = field(default=True, metadata={"help": "Whether rows have centers of their own."})
    train_widths: bool = field(default=True, metadata={"help": "Whether rows have widths of their own."})
    alpha: float | None = field(default=None, metadata={"help": "Scale times r; None is 2 r."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout of the layer's input."})
    target_modules: list[str] | set[str] | str | None = field(
        default=None, metadata={"help": "Modules to adapt, as in LoraConfig."}
    )
    exclude_modules: list[str] | set[str] | str | None = field(
        default=None, metadata={"help": "Modules to leave alone."}
    )
    rank_pattern: dict[str, int] = field(default_factory=dict, metadata={"help": "Name or pattern -> r."})
    alpha_pattern: dict[str, float] = field(default_factory=dict, metadata={"help": "Name or pattern -> alpha."})
    layers_to_transform: list[int] | int | None = field(default=None, metadata={"help": "Which layers to adapt."})
    layers_pattern: list[str] | str | None = field(default=None, metadata={"help": "Name of the list of layers."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Further modules to train and save."})
    bias: Literal["none", "all", "genlora_only"] = field(default="none", metadata={"help": "Which biases train."})
    init_weights: bool = field(default=True, metadata={"help": "Whether the update starts at zero."})

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = genlora_type()
        for name in ("target_modules", "exclude_modules"):
            given = getattr(self, name)
            if given is not None:
                check_names(given, name, "query")
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)
        for name in ("r", "num_groups", "num_rbfs"):
            check_whole(getattr(self, name), name)
        for name in ("train_latent", "train_weights", "train_centers", "train_widths", "init_weights"):
            check_flag(getattr(self, name), name)
        for name in ("rank_pattern", "alpha_pattern"):
            self._check_pattern(name)
        for pattern, rank in (self.rank_pattern or {}).items():
            check_whole(rank, f"rank_pattern[{pattern!r}]")
        for pattern, alpha in (self.alpha_pattern or {}).items():
            check_number(alpha, f"alpha_pattern[{pattern!r}]", above=0)
        for rank in {self.r, *(self.rank_pattern or {}).values()}:
            self._check_reach(rank)
        if self.alpha is not None:
            check_number(self.alpha, "alpha", above=0)
        check_number(self.dropout, "dropout", at_least=0, below=1)
        check_choice(self.bias, "bias", ("none", "all", "genlora_only"))
        if not self.train_weights and self.init_weights:
            raise InputError(
                "train_weights=False keeps B's weights at zero, so nothing can learn; let the weights train"
            )
        if not (self.train_latent or self.train_weights or self.train_centers or self.train_widths):
            raise InputError("neither latents, weights, centers nor widths train; let at least one of them train")
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            raise InputError(
                "layers_to_transform needs a list of target_modules, not a pattern; name the layers in the pattern"
            )
        if self.layers_pattern and self.layers_to_transform is None:
            raise InputError("layers_pattern says where layers_to_transform counts; give both, or neither")

    def _check_pattern(self, name: str) -> None:
        pattern = getattr(self, name)
        if pattern and not (isinstance(pattern, dict) and all(isinstance(key, str) for key in pattern)):
            raise InputError(f"{name} is {describe(pattern)}; give a mapping from names or expressions to numbers")

    def _check_reach(self, rank: int) -> None:
        reach = self.num_groups * self.num_rbfs
        if reach < rank:
            raise InputError(
                f"num_groups x num_rbfs = {self.num_groups} x {self.num_rbfs} = {reach} is below r = {rank}, which "
                f"generated factors could not reach; raise either, or lower r to {reach}"
            )

    def n_parameters(self, in_features: int, out_features: int, r: int | None = None) -> int:
        """Trainable parameters of one adapted matrix: in + out for trained latents, 2 r G K for each trained kind.

        Args:
            in_features: inputs of the matrix.
            out_features: outputs of the matrix.
            r: its rank where rank_pattern says another than `r`.
        """
        kinds = self.train_weights + self.train_centers + self.train_widths
        latents = (in_features + out_features) * self.train_latent
        return latents + 2 * (r or self.r) * self.num_groups * self.num_rbfs * kinds

    def scale(self, r: int, alpha: float | None = None) -> float:
        """The scale alpha / r of a matrix with this rank and, where a pattern names one, this alpha."""
        chosen = self.alpha if alpha is None else alpha
        return 2.0 if chosen is None else float(chosen) / r
