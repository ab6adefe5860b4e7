"""Pictures: well-formed, complete, and harmless whatever the words in them."""

import xml.etree.ElementTree as ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.figure import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Series,
    bar_charts,
    heat_map,
    line_chart,
    ticks,
    visible,
)

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@settings(derandomize=True, database=None)
@given(st.lists(st.tuples(numbers, numbers), max_size=50))
def test_a_line_chart_holds_every_point_within_its_frame(points: list[tuple[float, float]]) -> None:
    root = ElementTree.fromstring(line_chart([Series("line", points)], x="step", y="loss"))
    drawn = [tuple(map(float, point.split(","))) for point in root.find("{*}polyline").attrib["points"].split()]
    assert len(drawn) == len(points)
    assert all(LEFT <= across <= WIDTH - RIGHT and TOP <= down <= HEIGHT - BOTTOM for across, down in drawn)
    for axis, (first, last) in enumerate([(LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP)]):
        pairs = sorted((value[axis], place[axis]) for value, place in zip(points, drawn, strict=True))
        places = [place for _, place in pairs]
        assert places == sorted(places, reverse=first > last)
        if pairs and pairs[-1][0] - pairs[0][0] > 1e-9:  # values nearer than that are one
            assert (places[0], places[-1]) == (first, last)


def test_words_are_set_as_text_and_never_as_markup() -> None:
    hostile = '</text><script>alert("x")</script>'
    for picture in (
        line_chart([Series(hostile, [(0, 0)])], x=hostile, y=hostile),
        heat_map([[1.0]], [hostile], title=hostile),
        bar_charts([(hostile, [(hostile, 0.5)])], title=hostile),
    ):
        root = ElementTree.fromstring(picture)
        assert root.find(".//{*}script") is None


def test_a_heat_map_has_a_square_for_every_weight_above_zero() -> None:
    root = ElementTree.fromstring(heat_map([[1.0, 0.0], [0.5, 0.5]], ["a", "\n"]))
    assert len(root.findall("{*}rect")) == 3
    assert "↵" in [text.text for text in root.findall("{*}text")]


def test_a_series_is_smoothed_to_at_most_about_as_many_points_as_asked() -> None:
    series = Series("x", [(float(n), float(n % 2)) for n in range(1000)])
    smooth = series.smoothed(100)
    assert len(smooth.points) == 100
    assert smooth.points[0] == (4.5, 0.5)


@given(low=st.floats(-1e5, 1e5), span=st.floats(1e-3, 1e5))
def test_ticks_are_round_and_within_range(low: float, span: float) -> None:
    marks = ticks(low, low + span)
    assert 2 <= len(marks) <= 14
    assert all(low - 1e-6 * span <= mark <= low + span * (1 + 1e-6) + 1e-6 for mark in marks)


def test_a_line_of_one_point_is_a_dot() -> None:
    assert line_chart([Series("held out", [(3, 1.5)])], x="step", y="loss").count("<circle ") == 1


def test_a_token_of_any_bytes_can_be_drawn() -> None:
    names = [chr(code) for code in range(256)] + ["\ud800", "\ufffe\uffff", "]]>", "<&>"]
    for drawn in (bar_charts([("next", [(name, 0.5) for name in names])]), heat_map([[0.5]], ["\x0c\x00"])):
        ElementTree.fromstring(drawn)


def test_wide_signs_have_the_room_that_they_take() -> None:
    token, title = "漢字かな交じり文🐌", "after 漢字かな交じり文を読む"
    for drawn in (heat_map([[1.0]], [token], title=title), bar_charts([("next", [(token, 0.5)])], title=title)):
        root = ElementTree.fromstring(drawn)
        width = float(root.attrib["viewBox"].split()[2])
        for text in root.iter("{http://www.w3.org/2000/svg}text"):
            x, long = float(text.attrib["x"]), 12 * len(text.text or "") if text.text == token else 0
            assert x >= long if text.attrib["text-anchor"] == "end" else x + long <= width
        assert width >= 16 + 6 * len("after ") + 12 * len("漢字かな交じり文を読む")


def test_white_space_of_any_kind_and_what_is_not_seen_alone_can_be_seen() -> None:
    assert visible("a\u3000b\xa0c\u2009") == "a‹3000›b‹00A0›c‹2009›"
    assert visible("\u094d ") == "◌\u094d␣" and visible("क\u094d") == "क\u094d"
    assert visible("\u200d") == "‹200D›" and visible("می\u200cخواهم 👩\u200d🚀") == "می\u200cخواهم␣👩\u200d🚀"
