"""What all panels share: errors in words, calls from the page, files, and a picture that needs no kernel."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
import traitlets

import gelora_viz as gv
from gelora_viz.errors import InputError
from gelora_viz.plots import Drawing, Series, Style, Subplot
from gelora_viz.widgets.panel import Panel, read_module, read_style

NASTY = "<script>alert(1)</script> & 'quotes'"


class Counter(Panel):
    """The smallest panel: a number up to 9, which the page may set, double, or break."""

    _esm = read_module()
    _page_calls = ("double", "fail")

    number = traitlets.Int(1).tag(sync=True)

    @traitlets.observe("number")
    def _check(self, change):
        if change["new"] > 9:
            raise InputError(f"number is {change['new']}; give at most 9")

    def double(self):
        self.number *= 2

    def fail(self):
        raise KeyError("weight")

    def reset(self):
        self.number = 0

    def describe(self):
        dots = Series("markers", (0.0, 1.0), (1.0, 2.0), NASTY, Style("#0072B2"))
        return Drawing(NASTY, (Subplot("", "x", "y", (dots,)),))


def test_python_gets_the_exception_and_the_page_gets_its_words():
    panel = Counter()
    with pytest.raises(InputError, match="at most 9"):
        panel.number = 10
    assert panel.error == ""
    panel.set_state({"number": 11})
    assert panel.error == "number is 11; give at most 9"
    assert isinstance(panel.last_error, InputError)
    panel.set_state({"number": 2})
    assert panel.error == ""


def test_a_value_of_the_wrong_type_from_the_page_is_said_in_the_panel():
    panel = Counter()
    panel.set_state({"number": "many"})
    assert "number" in panel.error
    assert "Traceback" not in panel.error


def test_the_page_calls_the_listed_methods_and_no_others():
    panel = Counter()
    panel._handle_custom_msg({"call": "double"}, [])
    panel._handle_custom_msg({"call": "reset"}, [])
    assert panel.number == 2


def test_an_unexpected_failure_is_said_and_kept():
    panel = Counter()
    panel._handle_custom_msg({"call": "fail"}, [])
    assert panel.error.startswith("KeyError: 'weight'")
    with pytest.raises(KeyError):
        raise panel.last_error


def test_a_snapshot_is_one_svg_in_the_colors_of_the_page_with_its_texts_escaped():
    shown = Counter().snapshot()._repr_html_()
    root = ET.fromstring(shown)  # noqa: S314 - made here
    assert root.get("role") == "img"
    assert NASTY in root.get("aria-label")
    assert "<script" not in shown
    assert "currentColor" in shown
    assert "#010203" not in shown
    assert len(shown) < 30_000


def test_each_panel_gets_the_shared_files_before_its_own():
    assert read_module().startswith("// What all panels share.")
    assert "--gv-blue: #0072B2" in read_style()


def test_the_package_says_which_extra_is_missing():
    program = (
        "import sys; sys.modules['anywidget'] = None\n"
        "from gelora_viz import widgets\n"
        "try: widgets.Panel\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.startswith("InputError widgets.Panel needs anywidget")
    assert "gelora_viz[widgets]" in printed


def test_widgets_are_reached_through_the_package():
    assert "widgets" in dir(gv)
    with pytest.raises(AttributeError, match="Nothing"):
        gv.widgets.Nothing  # noqa: B018


def test_rules_of_one_panel_do_not_reach_another():
    own = read_style("rank_budget.css").removeprefix(read_style())
    assert ".gelora-viz.gv-panel-rank_budget" in own
    assert ".gelora-viz " not in own
    assert 'const OWN_CLASS = "gv-panel-explorer";' in read_module("point_cloud.js", "explorer.js")
