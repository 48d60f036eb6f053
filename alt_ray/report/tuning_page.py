"""What a search found, as one page with plots that answer to the mouse; opens offline. Knows nothing of how trials ran."""

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from plotly import graph_objects as go
from plotly.offline import get_plotlyjs

from alt_ray.evaluation.outcome import Outcome
from alt_ray.evaluation.outcome_text import candidate_table, findings, front_table
from alt_ray.evaluation.trials import TrialRecord
from alt_ray.report.tuning import front_of, points_of
from alt_ray.report.tuning_base import colours_of, label_of, scored
from alt_ray.report.tuning_trials import Axis, axes_of

PAGE = "report.html"
_LAYOUT: dict[str, Any] = {"template": "simple_white", "height": 480, "margin": {"l": 70, "r": 30, "t": 50, "b": 60}}


def write_page(folder: Path, outcome: Outcome) -> Path:
    """Write report.html, whole or not at all."""
    plots = [_cost(outcome), _curves(outcome)]
    if len({record.settings.temperature for record in outcome.all_records}) > 1:
        plots.insert(0, _temperature(outcome))
    if len(scored(outcome)) > 1:
        plots.append(_parallel(outcome))
    body = "".join(f"<section>{plot.to_html(full_html=False, include_plotlyjs=False)}</section>" for plot in plots)
    best = outcome.best
    lead = "No trial has finished yet." if best is None else f"Best by {outcome.objective}: {_said(outcome, best)}."
    tables = ""
    if outcome.candidates:
        what = f"Values of the sweep over {outcome.sweep}" if outcome.sweep else "Final candidates"
        seeds = len(outcome.candidates[0].runs)
        text = f"{what}, mean ± standard deviation over {seeds} seeds; * behind the most accurate beyond the noise of training"
        tables += f"<h2>{escape(text)}</h2>{_table(candidate_table(outcome))}"
    if outcome.search and outcome.front:
        tables += f"<h2>Front of accuracy and cost, one training each</h2>{_table(front_table(outcome))}"
    said = "".join(f"<li>{escape(finding)}</li>" for finding in findings(outcome))
    html = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>alt-ray tune</title>',
            f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>",
            f"<h1>alt-ray tune</h1><p><b>{escape(lead)}</b></p><p>{escape(outcome.protocol)}</p>",
            f"<ul>{said}</ul>{tables}{body}",
            "<p>Every trial: trials.csv beside this page.</p></body></html>",
        ]
    )
    part = folder / f".{PAGE}"
    part.write_text(html, encoding="utf-8")
    part.replace(folder / PAGE)
    return folder / PAGE


def _said(outcome: Outcome, record: TrialRecord) -> str:
    tests = "".join(f", {name} {value:.3f}" for name, value in record.tests.items())
    return (
        f"{label_of(outcome, record.settings.arm)}, temperature {record.settings.temperature:.3g}: validation "
        f"{record.val or 0:.3f}{tests}, {record.gflops:.4g} GFLOPs per view"
    )


def _hover(records: Sequence[TrialRecord]) -> list[str]:
    return [
        "<br>".join(
            [
                escape(record.name),
                *(f"{name.replace('_', ' ')}: {value}" for name, value in asdict(record.settings).items()),
                f"{record.status} after {record.epochs} epochs",
                f"validation {record.val or 0:.3f}",
                *(f"{name} {value:.3f}" for name, value in record.tests.items()),
            ]
        )
        for record in records
    ]


def _legend(figure: go.Figure, outcome: Outcome) -> None:
    """An entry for each merging, whatever its trials look like."""
    for arm, colour in colours_of(outcome).items():
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=label_of(outcome, arm), marker={"color": colour, "size": 10}
        )


def _temperature(outcome: Outcome) -> go.Figure:
    figure = go.Figure(layout={**_LAYOUT, "title": "Accuracy against alignment temperature"})
    _legend(figure, outcome)
    colours, records = colours_of(outcome), scored(outcome)
    figure.add_scatter(
        x=[record.settings.temperature for record in records],
        y=[record.val for record in records],
        mode="markers",
        showlegend=False,
        text=_hover(records),
        hoverinfo="text",
        marker={
            "color": [colours[record.settings.arm] for record in records],
            "size": 10,
            "symbol": ["circle-open" if record.status == "stopped" else "circle" for record in records],
        },
    )
    figure.update_xaxes(title="alignment temperature (logarithmic)", type="log", dtick=1, minor={"ticks": "outside"})
    figure.update_yaxes(title="validation accuracy (top-1); hollow: stopped early")
    return figure


def _cost(outcome: Outcome) -> go.Figure:
    figure = go.Figure(layout={**_LAYOUT, "title": "Accuracy against cost"})
    test = outcome.tests[0] if outcome.sweep and outcome.tests else None
    colours, points = colours_of(outcome), points_of(outcome, test)
    front = front_of(points, "final" if outcome.sweep else "finished")
    figure.add_scatter(
        x=[point.gflops for point in front],
        y=[point.accuracy for point in front],
        mode="lines+markers",
        name="front",
        hoverinfo="skip",
        line={"color": "#c0392b", "shape": "hv"},
        marker={"size": 18, "symbol": "circle-open"},
    )
    _legend(figure, outcome)
    symbols = {"final": "diamond", "finished": "circle", "stopped": "circle-open"}
    texts = []
    for point in points:
        speed = outcome.speeds.get(point.arm)
        lines = [
            label_of(outcome, point.arm),
            f"{point.accuracy:.3f} ± {point.deviation:.3f}",
            f"{point.gflops:.4g} GFLOPs",
        ]
        texts.append("<br>".join([*lines, *([] if speed is None else [f"encoder {speed:.3g} videos/s"])]))
    figure.add_scatter(
        x=[point.gflops for point in points],
        y=[point.accuracy for point in points],
        error_y={"type": "data", "array": [point.deviation for point in points], "color": "#555555"},
        mode="markers",
        showlegend=False,
        text=texts,
        hoverinfo="text",
        marker={
            "color": [colours[point.arm] for point in points],
            "size": [12 if point.kind == "final" else 9 for point in points],
            "symbol": [symbols[point.kind] for point in points],
        },
    )
    figure.update_xaxes(title="GFLOPs per view (encoder, alignment and adapter)")
    figure.update_yaxes(title=f"{test or 'validation'} accuracy (top-1); diamonds: mean over seeds")
    return figure


def _curves(outcome: Outcome) -> go.Figure:
    figure = go.Figure(layout={**_LAYOUT, "title": "Learning curves", "showlegend": False})
    colours = colours_of(outcome)
    for record in scored(outcome):
        figure.add_scatter(
            x=[entry["epoch"] for entry in record.history],
            y=[entry.get("val_top_1") for entry in record.history],
            mode="lines",
            line={"color": colours[record.settings.arm], "dash": "dash" if record.status == "stopped" else "solid"},
            text=_hover([record])[0],
            hoverinfo="text+y",
        )
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title="validation accuracy (top-1); dashed: stopped early")
    return figure


def _parallel(outcome: Outcome) -> go.Figure:
    def dimension(axis: Axis) -> dict[str, Any]:
        places, texts = zip(*axis.ticks(), strict=True)
        return {"label": axis.title, "values": axis.scaled(), "range": [0, 1], "tickvals": places, "ticktext": texts}

    values = [record.val for record in scored(outcome)]
    line = {"color": values, "colorscale": "Plasma", "showscale": True, "colorbar": {"title": "validation"}}
    figure = go.Figure(go.Parcoords(dimensions=[dimension(axis) for axis in axes_of(outcome)], line=line))
    return figure.update_layout(**{**_LAYOUT, "margin": {"l": 70, "r": 60, "t": 90, "b": 40}}, title="All trials")


def _table(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
pre { overflow-x: auto; background: #f6f6f6; padding: .8rem; font-size: 13px; line-height: 1.4; }
section { margin: 2rem 0; }
"""
