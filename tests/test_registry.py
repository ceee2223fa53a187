"""Names of variants: unknown ones list the choices, taken ones are refused."""

from __future__ import annotations

import pytest

from mvdiff.registry import Registry


@pytest.fixture
def slot() -> Registry:
    slot = Registry("attention")
    slot.register("none")(int)
    slot.register("depthwise")(str)
    return slot


def test_names_give_back_what_was_registered_unchanged(slot):
    @slot.register("epipolar")
    class Epipolar:
        pass

    assert slot["epipolar"] is Epipolar
    assert slot["none"] is int
    assert list(slot) == ["depthwise", "epipolar", "none"]
    assert "none" in slot
    assert "other" not in slot


def test_an_unknown_name_lists_the_choices_and_the_closest(slot):
    with pytest.raises(KeyError) as caught:
        slot["depthwize"]
    message = caught.value.args[0]
    assert message.startswith("unknown attention 'depthwize'; choose from depthwise, none.")
    assert "Did you mean 'depthwise'?" in message


def test_a_name_like_no_other_gets_no_suggestion(slot):
    with pytest.raises(KeyError) as caught:
        slot["zzz"]
    assert "Did you mean" not in caught.value.args[0]


def test_a_taken_name_is_refused_and_keeps_its_owner(slot):
    with pytest.raises(ValueError, match="attention 'none' is registered twice"):
        slot.register("none")(float)
    assert slot["none"] is int


def test_slots_do_not_share_names(slot):
    other = Registry("volume")
    other.register("none")(bytes)
    assert slot["none"] is int
    assert other["none"] is bytes
