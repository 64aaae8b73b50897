"""Output from results: lines, tables, pictures, and the exit code."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import page, report, results, scenes
from benchmarks.__main__ import PICTURES, main
from benchmarks.apart import measure, measure_apart
from benchmarks.growth import curves
from benchmarks.measure import BRIEF, FULL, Comparison, Effort, Limit
from benchmarks.results import Results

from .made_up import make_comparison, make_results

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PICTURE_FOLDER = page.FILE.parents[1] / "pictures"
OVER, KEPT = Limit(1.5), Limit(2.5)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0, "s", "0 ns"),
        (1.5e-7, "s", "150 ns"),
        (9.996e-7, "s", "1.00 µs"),
        (0.0123, "s", "12.3 ms"),
        (3600.0, "s", "3,600 s"),
        (-0.002, "s", "-2.00 ms"),
        (999.0, "B", "999 B"),
        (3_900.0, "B", "3.90 KB"),
        (3.9e8, "B", "390 MB"),
        (1.0, "grants", "1"),
        (36_000.0, "grants", "36,000"),
        (2.5, "grants", "2.50"),
        (12_345.6, "instructions", "12,346"),
    ],
)
def test_amounts_have_three_digits_and_a_unit(value: float, unit: str, shown: str) -> None:
    """Amounts are shown with a suitable unit and without exponents."""
    assert report.amount(value, unit) == shown


@given(st.floats(1e-12, 1e12))
def test_three_digits_are_near_the_number(value: float) -> None:
    """A rounded number has at least three digits, and is within half of the third digit."""
    shown = report.three_digits(value)
    assert float(shown.replace(",", "")) == pytest.approx(value, rel=0.005001)
    assert len(re.sub(r"[.,]", "", shown).lstrip("0")) >= 3


def test_lines_have_amounts_ratios_and_limits() -> None:
    """A line has the amount, the ratio, and the limit with its verdict."""
    made = [
        make_comparison(limit=OVER, size=1_000),
        make_comparison("grants", "grants", 1.0, 0.0, limit=Limit(1, "amount")),
    ]
    lines = [re.sub(" +", " ", line) for line in report.lines("A scene", made)]
    assert lines == [
        "A scene",
        " a hit of 1,000, compared with other cache",
        " * ours 2.00 µs 2.00 × at most 1.5 ×: OVER",
        " other cache 1.00 µs 1.00 ×",
        " grants, compared with other cache",
        " * ours 1 at most 1: kept",
        " other cache 0",
    ]


def test_results_can_be_written_and_read() -> None:
    """Results that are written as JSON and read again are equal."""
    made = make_results(
        hit_sync=[make_comparison(limit=OVER, size=3)],
        other=[make_comparison("grants", "grants", 1.0, 0.0)],
    )
    assert Results.from_json(made.to_json()) == made


def test_a_page_keeps_its_other_text() -> None:
    """Only the text between the two comments is replaced, and a second time it is the same."""
    made = make_results(hit_sync=[make_comparison(limit=KEPT)])
    text = "# Mine\n\n<!-- hit_sync -->\nold\n<!-- /hit_sync -->\n\nMine, too.\n"
    filled = page.fill(text, made)
    assert filled.startswith("# Mine\n\n<!-- hit_sync -->\n\nThe cache has")
    assert filled.endswith("|\n\n<!-- /hit_sync -->\n\nMine, too.\n")
    assert "old" not in filled
    assert page.fill(filled, made) == filled
    assert page.places(filled) == ["hit_sync"]


def test_a_table_has_the_columns_that_it_needs() -> None:
    """A table has columns only for values that exist."""
    made = make_results(hit_sync=[make_comparison(limit=OVER)])
    table = page.make_pieces(made)["hit_sync"].splitlines()[-4:]
    assert table == [
        "|  | a hit | ratio | limit |",
        "| --- | --: | --: | --: |",
        "| other cache | 1.00 µs | base |  |",
        "| **ours** | 2.00 µs | 2.00 × | 1.5 ×, **over** |",
    ]


def test_known_misses_are_read_from_the_page() -> None:
    """A known miss is a line of the list with scene, figure, size and a reason."""
    made = make_results(hit_sync=[make_comparison(limit=OVER, size=1_000)])
    assert list(made.misses()) == ["hit_sync: a hit of 1,000"]
    shown = "- `hit_sync: a hit of 1,000`: it is Monday.\n- `hit_sync: a hit`:\n"
    assert page.known_misses(shown) == ["hit_sync: a hit of 1,000"]


def test_growth_has_a_table_for_getters() -> None:
    """The table has the points, the fitted line, its largest deviation, and the exponent."""
    sizes = (1, 10, 100)
    releases = [make_comparison("the release", ours=n / 100, size=n) for n in sizes]
    assert page.make_growth_tables(curves(make_results(release=releases))).splitlines() == [
        "| callers | 1 | 10 | 100 | fitted line | largest deviation | exponent |",
        "| --- | --: | --: | --: | --: | --: | --: |",
        "| release | 10.0 ms | 100 ms | 1.00 s | 10.0 ms each | 0.0% | 1.00 |",
    ]


def test_the_committed_page_has_the_committed_results() -> None:
    """The results are of all scenes, in full; the page shows each, and lists each missed limit."""
    text = page.FILE.read_text(encoding="utf-8")
    kept = results.read()
    assert page.fill(text, kept) == text, "run python -m benchmarks --draw"
    assert sorted(page.places(text)) == sorted([*scenes.NAMES, "growth", "machine"])
    assert list(kept.scenes) == list(scenes.NAMES)
    assert kept.effort == FULL
    assert sorted(page.known_misses(text)) == sorted(kept.misses())


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn_of_any_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture shows the given results, and can be drawn without results."""
    monkeypatch.syspath_prepend(PICTURE_FOLDER)
    draw: Callable[[Results], str] = importlib.import_module(name).draw
    sizes = (1, 1_000)
    scene = {
        "hit_sync": [make_comparison()],
        "down": [make_comparison("grants", "grants", 6.0, 1_000.0, size=1_000)],
        "release": [make_comparison("the release", ours=n / 1e5, size=n) for n in sizes],
    }
    shown = {"speed": "2.00 ×", "trouble": "1,000 callers", "growth": "callers: release"}
    assert shown[name] in draw(make_results(**scene))
    assert shown[name] not in draw(make_results())


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the only scene, which finds one comparison that exceeds its limit."""
    made = ModuleType("benchmarks.scenes.made_up", "A scene that is made up.")
    made.run = lambda _: [make_comparison(limit=OVER)]  # type: ignore[attr-defined]  # a scene's
    monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setattr(scenes, "NAMES", ("made_up",))
    return made


def test_a_limit_that_is_not_kept_fails_the_command(
    scene: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a limit is exceeded, the command fails and prints the comparison at the end."""
    with pytest.raises(SystemExit, match="True"):
        main([], measure)
    printed = capsys.readouterr().out
    assert "A scene that is made up\n" in printed
    assert printed.endswith("not kept: made_up: a hit\n")


@pytest.mark.slow
def test_a_scene_has_its_own_process() -> None:
    """A scene is measured in another process, so that this one does not import it."""
    sys.modules.pop("benchmarks.scenes.cancelled", None)
    title, comparisons = measure_apart("cancelled", BRIEF)
    assert title == "The first caller is cancelled half-way"
    assert comparisons
    assert "benchmarks.scenes.cancelled" not in sys.modules


def test_a_brief_run_fails_for_no_limit(scene: Any, tmp_path: Path) -> None:
    """The ratios of a brief run mean little; its results are still written."""
    with pytest.raises(SystemExit, match="False"):
        main(["--brief", "made_up", "--json", str(tmp_path / "it.json")], measure)
    written = Results.from_json((tmp_path / "it.json").read_text(encoding="utf-8"))
    assert list(written.misses()) == ["made_up: a hit"]


def test_a_scene_that_cannot_be_run_is_left_out(
    scene: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scene that cannot run is reported; only a run with ``--write`` fails because of it."""

    def run(effort: Effort) -> list[Comparison]:
        raise scenes.LeftOutError("wants a moon")

    scene.run = run
    with pytest.raises(SystemExit, match="False"):
        main([], measure)
    assert capsys.readouterr().out.endswith("A scene that is made up: left out, wants a moon\n")
    with pytest.raises(SystemExit, match="made_up wants a moon, and all scenes are wanted"):
        main(["--write"], measure)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["gone"], "no such scene: gone; there are made_up"),
        (["--write", "made_up"], "--write requires all scenes, without --brief"),
        (["--write", "--brief"], "--write requires all scenes, without --brief"),
    ],
)
def test_wrong_arguments_of_the_command(
    scene: Any, given: list[str], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command line is an error with exit code 2."""
    with pytest.raises(SystemExit, match="2"):
        main(given, measure)
    assert shown in capsys.readouterr().err


def test_writing_keeps_results_page_and_pictures(
    scene: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A complete run with ``--write`` writes the results, the page and the pictures."""
    written = tmp_path / "docs" / "explanation" / "speed.md"
    written.parent.mkdir(parents=True)
    written.write_text("<!-- made_up -->\n<!-- /made_up -->\n")
    (tmp_path / "docs" / "pictures").mkdir()
    for name in PICTURES:
        (tmp_path / "docs" / "pictures" / f"{name}.py").write_text(
            "open(__file__ + '.drawn', 'w').close()"
        )
    monkeypatch.setattr(page, "FILE", written)
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    with pytest.raises(SystemExit, match="True"):
        main(["--write"], measure)
    assert list(results.read().scenes) == ["made_up"]
    assert "**over**" in written.read_text()
    drawn = (tmp_path / "docs" / "pictures").glob("*.drawn")
    assert sorted(path.name.partition(".")[0] for path in drawn) == sorted(PICTURES)
