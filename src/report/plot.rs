//! Plots of a benchmark, as SVG.

use plotters::prelude::*;

use crate::benchmark::{Benchmark, Case};

const SIZE: (u32, u32) = (640, 320);
/// Distinguishable without red-green vision, on white and on black (after Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(178, 134, 0),
];
/// Replaced by the page's text colour.
const INK: RGBColor = RGBColor(1, 1, 1);
const INK_TEXT: &str = "#010101";

/// Returns every plot that there is data for, with its caption.
pub(super) fn plots(benchmark: &Benchmark) -> Vec<(&'static str, String)> {
    let cases: Vec<&Case> = benchmark.cases.iter().filter(|case| case.latency.is_some()).collect();
    if cases.is_empty() {
        return Vec::new();
    }
    let drawn = [
        ("Latency distribution: percent of runs that took at most this long", distribution(&cases)),
        ("Latency and throughput: median latency at each batch and number of streams", trade_off(&cases)),
    ];
    drawn.into_iter().filter_map(|(title, svg)| Some((title, svg?))).collect()
}

fn label(case: &Case) -> String {
    format!("{} batch {} × {}", case.graph, case.batch, case.streams)
}

/// The distribution of each case, on a logarithmic axis: batches differ by factors.
fn distribution(cases: &[&Case]) -> Option<String> {
    let curves: Vec<(String, Vec<(f64, f64)>)> = cases
        .iter()
        .filter_map(|case| {
            let curve = &case.latency.as_ref()?.curve_ms;
            Some((label(case), curve.iter().copied().zip((0..).map(f64::from)).collect()))
        })
        .collect();
    let all = || curves.iter().flat_map(|(_, curve)| curve.iter().map(|point| point.0));
    chart(range(all())?, 0.0..100.0, ("ms", "%"), &curves, false)
}

/// The median latency over items per second: a line for each graph.
fn trade_off(cases: &[&Case]) -> Option<String> {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for case in cases {
        let median = case.latency.as_ref()?.curve_ms.get(50).copied()?;
        let point = (case.items_per_s?, median);
        match lines.iter_mut().find(|(graph, _)| *graph == case.graph) {
            Some((_, points)) => points.push(point),
            None => lines.push((case.graph.clone(), vec![point])),
        }
    }
    let x = range(lines.iter().flat_map(|(_, points)| points.iter().map(|point| point.0)))?;
    let max = lines.iter().flat_map(|(_, points)| points.iter().map(|point| point.1)).fold(0.0, f64::max);
    chart(x, 0.0..max * 1.1, ("items/s", "ms"), &lines, true)
}

fn range(values: impl Iterator<Item = f64>) -> Option<std::ops::Range<f64>> {
    let (low, high) =
        values.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
    (low > 0.0 && low.is_finite() && high.is_finite()).then_some(low * 0.9..high * 1.1)
}

fn chart(
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
    (x_name, y_name): (&str, &str),
    lines: &[(String, Vec<(f64, f64)>)],
    with_points: bool,
) -> Option<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(x.log_scale(), y)
            .ok()?;
        let text = ("sans-serif", 13).into_font().color(&INK);
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(INK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .label_style(text.clone())
            .axis_desc_style(text.clone())
            .x_desc(x_name)
            .y_desc(y_name)
            .x_labels(16)
            .y_labels(6)
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .draw()
            .ok()?;
        for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let colour = *colour;
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
                .ok()?
                .label(name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
            if with_points {
                chart.draw_series(points.iter().map(|&point| Circle::new(point, 4, colour.filled()))).ok()?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .label_font(text)
            .draw()
            .ok()?;
        area.present().ok()?;
    }
    Some(svg.replace(INK_TEXT, "currentColor"))
}

/// Formats a number of an axis.
fn short(value: f64) -> String {
    let decimals = if value >= 10.0 || value.fract() == 0.0 {
        0
    } else if value >= 1.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}
