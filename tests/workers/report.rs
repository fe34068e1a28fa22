//! The page of a release in headless Chromium: it renders, sorts and filters, plots have data, nothing is complained of.

use std::path::Path;
use std::process::Command;

use nimctl::benchmark::{Benchmark, Case, GpuRound, Latency, Machine, Round, Settings, Spread};
use nimctl::profile::ModelRelease;
use nimctl::report::{CompiledGraph, QuantizedGraphFacts, Report, ReportedProfile};
use serde_json::{Value, json};

/// Most bytes of a page.
const MAX_BYTES: usize = 1_000_000;

/// Runs before anything of the page, so that no complaint is missed.
const LISTEN: &str = "<script>window.complaints = []; window.onerror = (message) => { complaints.push(String(message)); }; \
                      console.error = console.warn = (...all) => { complaints.push(all.join(' ')); };</script>";

/// Uses the page as a person would, and writes down what it sees.
const USE: &str = r##"<script>
const rows = () => [...document.querySelectorAll("#table tbody tr")].filter((row) => !row.hidden);
const names = () => rows().map((row) => row.cells[0].textContent);
const click = (name) => [...document.querySelectorAll("#table th button")].find((one) => one.textContent === name).click();
const seen = { before: names() };
click("p50 ms"); seen.ascending = names();
click("p50 ms"); seen.descending = names();
seen.sort = document.querySelector('#table th[aria-sort="descending"]').textContent;
const filter = document.getElementById("filter");
filter.value = "L4 static"; filter.dispatchEvent(new Event("input"));
seen.filtered = names(); seen.count = document.getElementById("count").textContent;
location.hash = "#p0"; dispatchEvent(new Event("hashchange"));
seen.open = document.getElementById("p0").open;
seen.plots = [...document.querySelectorAll("figure svg")].map((svg) => svg.querySelectorAll("polyline, circle").length);
seen.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
seen.schema = JSON.parse(document.getElementById("data").textContent).schema;
seen.download = document.getElementById("download").href.startsWith("blob:");
seen.outside = [...document.querySelectorAll("[src], link")].length;
seen.complaints = complaints;
document.body.innerHTML = "<pre id=seen>" + JSON.stringify(seen).replaceAll("<", "&lt;") + "</pre>";
</script>"##;

fn benchmark(scale: u64) -> Benchmark {
    let case = |batch: u64| {
        let latencies: Vec<u64> =
            (0..2000).map(|i| (1_000_000 + (i * 7919) % 300_000) * batch * scale).collect();
        let round = Round::new(&latencies, batch, latencies.iter().sum()).unwrap();
        Case {
            graph: "vision".into(),
            batch,
            streams: 1,
            ran_on: "ONNX Runtime 1.32.0 on the CPU".into(),
            clock: "CLOCK_MONOTONIC".into(),
            boundary: "one call".into(),
            latency: Latency::new(std::slice::from_ref(&latencies)),
            items_per_s: Some(round.items_per_s),
            rounds: vec![round],
            failure: None,
        }
    };
    Benchmark {
        machine: Machine::default(),
        settings: Settings {
            rounds: 1,
            warm_up_ms: 0,
            window_ms: 1,
            budget_ms: 1,
            threads: None,
            provider: None,
            graph_optimization: None,
            cuda_graph: false,
        },
        cases: vec![case(1), case(8)],
        warnings: vec!["a warning with <b>no</b> markup".into()],
    }
}

fn profile(name: &str, gpu: &str, status: &str, benchmark: Option<Benchmark>) -> ReportedProfile {
    let gate = json!({ "gate": "row_cosine", "subject": "vision/<script>alert(1)</script>", "shapes": "opt", "value": 0.9999,
                       "threshold": 0.999, "passed": true, "worst_row": 3 });
    ReportedProfile {
        name: name.into(),
        id: (status != "not built").then(|| "a".repeat(64)),
        gpu: gpu.into(),
        precision: "fp16".into(),
        status: status.into(),
        verdict: (status != "not built").then(|| "passed".into()),
        remarks: vec!["a remark".into()],
        least_row_cosine: Some(0.9999),
        tags: [("gpu".to_owned(), gpu.to_owned())].into(),
        files: Vec::new(),
        size_bytes: 1_000_000,
        toolchain: vec![("tensorrt-rtx".into(), "1.7.1.116".into())],
        quantized: vec![QuantizedGraphFacts {
            graph: "vision".into(),
            method: "smoothing=0.8".into(),
            quantized: 20,
            weights_bytes: (68_900_000, 17_400_000),
            kept: vec!["/head/<i>MatMul</i>".into()],
            kept_share: 0.125,
            on_calibration: (0.998, 0.999),
            calibration_rows: 32,
            tried: vec![("max".into(), 0.98)],
            in_plan: Some((19, 20)),
        }],
        compiled: vec![CompiledGraph {
            graph: "vision".into(),
            products: "11 of 12 GEMMs in INT8, 1 in FP16".into(),
            attention: "fused into 3 kernels, in FP16".into(),
            dequantize_kernels: 0,
            weights: vec![("fp16".into(), 12_000), ("int8".into(), 9_500_000)],
            exceptions: vec![("/head/<b>MatMul</b>".into(), "FP16".into(), None)],
        }],
        executed_in: None,
        emulated: None,
        emulated_gates: Vec::new(),
        gates: vec![serde_json::from_value(gate).unwrap()],
        benchmark,
    }
}

fn page() -> String {
    let report = Report {
        schema: nimctl::report::REPORT_SCHEMA.into(),
        model: ModelRelease { name: "m".into(), release: "1.0.0".into() },
        profiles: vec![
            profile("onnx-fp16", "any other", "executed", Some(benchmark(10))),
            profile("onnx-fp32", "any other", "executed", Some(benchmark(2))),
            profile("tensorrt-rtx-l4-fp16", "l4", "static", None),
            profile("tensorrt-h100-sxm-fp16", "h100-sxm", "not built", None),
        ],
        comparisons: Vec::new(),
    };
    report.to_html().unwrap()
}

/// Returns Chromium's name.
///
/// # Panics
/// There is none: the test that needs it is chosen by name, not left out here.
fn chromium() -> &'static str {
    let mut names = ["chromium", "chromium-browser", "google-chrome"].into_iter();
    let found = names.find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    found.expect(
        "there is no Chromium: install Debian's `chromium`, or leave this test out (`cargo nextest run` does, and \
         `cargo test -- --skip in_a_browser`)",
    )
}

/// Opens a page in a window of this width, and returns what the script saw.
fn look(chromium: &str, page: &Path, width: u32, folder: &Path) -> Value {
    let output = Command::new("timeout")
        .args([
            "60",
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--dump-dom",
        ])
        .arg(format!("--window-size={width},900"))
        .arg(format!("--user-data-dir={}", folder.join("browser").display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let seen = dom.split("<pre id=\"seen\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let seen = seen.unwrap_or_else(|| panic!("{dom}\n{}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(&seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")).unwrap()
}

#[test]
fn the_page_works_in_a_browser() {
    let chromium = chromium();
    let page = page();
    assert!(page.len() < MAX_BYTES);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    let watched = page.replacen("<head>", &format!("<head>{LISTEN}"), 1).replacen(
        "</body>",
        &format!("{USE}</body>"),
        1,
    );
    fs_err::write(&path, watched).unwrap();
    for width in [1280, 500] {
        let seen = look(chromium, &path, width, folder.path());
        let all = ["onnx-fp16", "onnx-fp32", "tensorrt-rtx-l4-fp16", "tensorrt-h100-sxm-fp16"];
        let turned = ["onnx-fp32", "onnx-fp16", "tensorrt-rtx-l4-fp16", "tensorrt-h100-sxm-fp16"];
        let expected = json!({
            "before": all, "ascending": turned, "descending": all, "sort": "p50 ms",
            "filtered": ["tensorrt-rtx-l4-fp16"], "count": "1 of 4 shown",
            "open": true, "wide": false, "schema": "nimctl.report/1", "download": true, "outside": 0, "complaints": [],
        });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&seen[key], value, "{key} at {width}: {seen}");
        }
        let plots = seen["plots"].as_array().unwrap();
        assert!(plots.len() == 4 && plots.iter().all(|marks| marks.as_u64().unwrap() > 2), "{seen}");
    }
}

#[test]
fn what_a_gpu_told_is_on_the_page() {
    let mut benchmark = benchmark(1);
    assert_eq!(benchmark.cases[0].device_words(), None);
    let round = &mut benchmark.cases[0].rounds[0];
    let spread = |median| Some(Spread { min: 1.0, median, max: 9000.0 });
    round.device_p50_ms = Some(0.75);
    round.discarded = 12;
    round.gpu = Some(GpuRound {
        readings: 40,
        sm_clock_mhz: spread(2040.0),
        power_w: spread(71.5),
        temperature_max_c: Some(64),
        energy_mj_per_item: Some(3.4),
        ..GpuRound::default()
    });
    let report = Report {
        schema: nimctl::report::REPORT_SCHEMA.into(),
        model: ModelRelease { name: "m".into(), release: "1.0.0".into() },
        profiles: vec![profile("tensorrt-rtx-l4-fp16", "l4", "executed", Some(benchmark))],
        comparisons: Vec::new(),
    };
    let line = "<li>vision batch 1 × 1: device-only p50 0.750 ms, 2040 MHz, 71.5 W, up to 64 °C, 3.40 mJ per item, 12 \
                samples discarded</li>";
    let page = report.to_html().unwrap();
    assert!(page.contains(line), "{page}");
}

#[test]
fn names_from_a_recipe_are_text_and_nothing_else() {
    let page = page();
    assert!(!page.contains("<script>alert") && !page.contains("<b>no</b>"));
}
