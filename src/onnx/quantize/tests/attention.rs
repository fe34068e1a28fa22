//! What attention multiplies, quantized on request.

use super::*;

/// Attention of one head with a scale and a mask, and a product of two computed values that is none.
fn one_head() -> GraphProto {
    let mut all = graph(
        vec![
            node("MatMul", &["x", "w"], "q"),
            node("Transpose", &["x"], "k"),
            node("MatMul", &["q", "k"], "scores"),
            node("Div", &["scores", "root"], "scaled"),
            node("Add", &["scaled", "mask"], "masked"),
            node("Softmax", &["masked"], "p"),
            node("MatMul", &["p", "v"], "mixed"),
            node("MatMul", &["mixed", "k"], "y"),
        ],
        vec![tensor("w", &[SIDE, SIDE], noise), tensor("root", &[], |_| 8.0)],
    );
    all.input.extend([value("mask", FLOAT), value("v", FLOAT)]);
    all
}

fn statistics() -> Statistics {
    let mut statistics = even(&[("x", SIDE, 2.0)]);
    for (value, largest) in [("q", 3.0), ("k", 4.0), ("v", 5.0)] {
        statistics.values.insert(value.into(), Channels { largest: vec![largest], squares: vec![1.0] });
    }
    statistics
}

fn with_attention(precision: QuantizedPrecision) -> QuantizationOptions {
    QuantizationOptions { attention: Treatment::Quantize, ..options(precision) }
}

#[test]
fn each_factor_has_its_scale_and_probabilities_reach_to_one() {
    for (precision, largest) in [(QuantizedPrecision::Int8, 127.0), (QuantizedPrecision::Fp8, 448.0)] {
        let made = made(one_head(), &with_attention(precision), Method::MAX, &statistics());
        for (value, most) in [("q", 3.0), ("k", 4.0), ("v", 5.0), ("p", 1.0)] {
            let represented = made.number(&format!("{value}.scale")) * largest;
            assert!((most..most * 1.01).contains(&represented), "{value}: {represented}");
        }
        let product = |output: &str| {
            let nodes = made.nodes();
            let node = nodes.iter().find(|node| node.output[0] == output).copied();
            node.unwrap_or_else(|| panic!("{output}")).input.clone()
        };
        assert_eq!(product("scores"), ["q.dequantized", "k.dequantized"]);
        assert_eq!(product("mixed"), ["p.dequantized", "v.dequantized"]);
        assert_eq!(product("y"), ["mixed", "k"], "this is no attention");
        assert_eq!(product("masked"), ["scaled", "mask"]);
        assert_eq!(made.report.quantized.len(), 3);
        assert_eq!(made.report.kept.len(), 1);
    }
}

#[test]
fn attention_stays_unless_it_is_asked_for() {
    let plain = made(one_head(), &options(QuantizedPrecision::Int8), Method::MAX, &statistics());
    assert_eq!(plain.operators().iter().filter(|operator| **operator == "QuantizeLinear").count(), 1);
    assert_eq!(plain.report.kept.len(), 3);
    // Both products are kept by the name of either.
    for name in ["scores_node", "mixed_node"] {
        let options =
            QuantizationOptions { keep_nodes: vec![name.into()], ..with_attention(QuantizedPrecision::Int8) };
        let kept = made(one_head(), &options, Method::MAX, &statistics());
        assert_eq!(kept.file.graph(), plain.file.graph(), "{name}");
        let why: Vec<WhyKept> = kept.report.kept.iter().map(|node| node.why).collect();
        assert_eq!(why, [WhyKept::KeptNode, WhyKept::KeptNode, WhyKept::NoConstantWeight]);
    }
}

/// TensorRT for RTX fuses 8-bit attention only if nothing stands between its result and the quantization of that.
#[test]
fn what_comes_of_attention_is_not_smoothed() {
    let mut all = one_head();
    all.node.truncate(7);
    all.node.extend([node("Transpose", &["mixed"], "turned"), node("MatMul", &["turned", "out"], "y")]);
    all.initializer.push(tensor("out", &[SIDE, SIDE], noise));
    let mut statistics = statistics();
    let uneven = Channels { largest: (1..=SIDE).map(|n| n as f32).collect(), squares: vec![1.0; SIDE] };
    statistics.values.insert("turned".into(), uneven.clone());
    statistics.values.insert("x".into(), uneven);
    let method = Method { smoothing_percent: 50, ..Method::MAX };
    let smoothed = |attention| {
        let options = QuantizationOptions { attention, ..options(QuantizedPrecision::Int8) };
        let made = made(all.clone(), &options, method, &statistics);
        made.operators()
            .iter()
            .zip(made.nodes())
            .filter(|(_, node)| node.output[0].ends_with(".smoothed"))
            .count()
    };
    assert_eq!((smoothed(Treatment::Keep), smoothed(Treatment::Quantize)), (2, 1));
}

/// The search keeps attention as one thing, and what was never reached stays.
#[test]
fn attention_is_one_candidate_and_needs_samples() {
    let file = open(one_head());
    let nodes = quantizable_nodes(&file, &with_attention(QuantizedPrecision::Int8));
    let names: Vec<_> = nodes.iter().map(|node| (node.node.as_str(), node.weight_bytes)).collect();
    assert_eq!(names, [("q_node", (SIDE * SIDE * 4) as u64), ("scores_node", 0)]);
    let mut statistics = statistics();
    statistics.values.remove("v");
    let made = made(one_head(), &with_attention(QuantizedPrecision::Int8), Method::MAX, &statistics);
    let why: Vec<WhyKept> = made.report.kept.iter().map(|node| node.why).collect();
    assert_eq!(why, [WhyKept::NoActivation, WhyKept::NoActivation, WhyKept::NoConstantWeight]);
}
