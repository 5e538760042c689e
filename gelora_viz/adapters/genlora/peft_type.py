"""GenLoRA's name among PEFT's methods, which PEFT keeps in an enum that it does not mean to be extended."""

from __future__ import annotations

from peft.utils import PeftType

GENLORA = "GENLORA"


def genlora_type() -> PeftType:
    """The enum member `PeftType.GENLORA`, made on first use.

    PEFT registers only methods whose name is a member, so a method from outside has to add one. What is done here is
    what `enum` does for the members in a class body; it holds for Python 3.11 to 3.14.
    """
    known = PeftType.__members__.get(GENLORA)
    if known is not None:
        return known
    member = str.__new__(PeftType, GENLORA)
    member._name_ = GENLORA
    member._value_ = GENLORA
    member._sort_order_ = len(PeftType._member_names_)  # type: ignore[attr-defined]
    PeftType._member_names_.append(GENLORA)
    PeftType._member_map_[GENLORA] = member
    PeftType._value2member_map_[GENLORA] = member
    if hasattr(PeftType, "_hashable_values_"):  # Python 3.13 looks here first
        PeftType._hashable_values_.append(GENLORA)  # type: ignore[attr-defined]
    type.__setattr__(PeftType, GENLORA, member)
    return member
