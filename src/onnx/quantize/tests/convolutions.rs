//! Convolutions, quantized.

use super::*;
use crate::onnx::analysis::attribute;
use crate::onnx::test_graphs::INT64;

const CHANNELS: usize = 32;
const OUTPUTS: usize = 24;

fn conv(inputs: &[&str], output: &str, groups: i64) -> NodeProto {
    NodeProto { attribute: vec![integer("group", groups)], ..node("Conv", inputs, output) }
}

fn int8() -> QuantizationOptions {
    options(QuantizedPrecision::Int8)
}

fn one_convolution() -> GraphProto {
    let weight =
        tensor("w", &[OUTPUTS, CHANNELS, 3, 3], |index| noise(index) * (1 + index / (CHANNELS * 9)) as f32);
    graph(vec![conv(&["x", "w", "b"], "y", 1)], vec![weight, tensor("b", &[OUTPUTS], noise)])
}

/// The largest of each output channel uses the whole range, and what remains of its scale stands behind the convolution.
#[test]
fn a_convolution_has_a_scale_for_each_output_channel() {
    let statistics = even(&[("x", CHANNELS, 2.0)]);
    let made = made(one_convolution(), &int8(), Method::MAX, &statistics);
    let expected = ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "Mul", "Add"];
    assert_eq!(made.operators(), expected);
    let node = made.nodes()[3];
    assert_eq!(node.input.len(), 2, "the bias is not scaled with the sums");
    assert_eq!(attribute(node, "group").unwrap().i(), 1);
    assert_eq!((node.name(), made.nodes()[5].output.as_slice()), ("y_node", &["y".to_owned()][..]));
    let of_channels = [OUTPUTS as i64, 1, 1];
    assert_eq!(made.tensor("w.rest_of_scale").dims, of_channels);
    assert_eq!(made.tensor("b.of_channels").dims, of_channels);
    assert_eq!(made.floats("b.of_channels"), (0..OUTPUTS).map(noise).collect::<Vec<_>>());
    assert_eq!(made.tensor("w.quantized").dims, [OUTPUTS as i64, CHANNELS as i64, 3, 3]);
    let (bytes, shared) = (made.bytes("w.quantized"), made.number("w.scale"));
    let ratios = made.floats("w.rest_of_scale");
    let of_output = CHANNELS * 9;
    for (index, byte) in bytes.iter().enumerate() {
        let output = index / of_output;
        let (expected, step) = (noise(index) * (output + 1) as f32, shared * ratios[output]);
        let found = f32::from(*byte as i8) * step;
        assert!((found - expected).abs() <= step * 0.51, "{index}: {found} {expected}");
    }
    for output in bytes.chunks(of_output) {
        let most = output.iter().map(|byte| (*byte as i8).unsigned_abs()).max();
        assert!(most >= Some(126), "{most:?}");
    }
    let quantized = &made.report.quantized[0];
    assert_eq!(
        (quantized.op_type.as_str(), quantized.weight_bytes),
        ("Conv", (OUTPUTS * of_output * 4) as u64)
    );
    assert!((2.0..2.01).contains(&quantized.activation_largest.unwrap()));
}

/// Smoothing would need a factor a channel between the convolutions, which activation functions don't let through.
#[test]
fn a_convolution_is_not_smoothed() {
    let mut statistics = even(&[("x", CHANNELS, 2.0)]);
    statistics.values.get_mut("x").unwrap().largest[3] = 200.0;
    let plain = made(one_convolution(), &int8(), Method::MAX, &statistics);
    let method = Method { smoothing_percent: 50, ..Method::MAX };
    let smoothed = made(one_convolution(), &int8(), method, &statistics);
    assert_eq!(plain.file.graph(), smoothed.file.graph());
}

#[test]
fn kernels_of_different_sizes_share_a_quantized_activation() {
    let nodes = vec![
        conv(&["x", "small"], "a", 1),
        conv(&["x", "large"], "b", 1),
        node("GlobalAveragePool", &["a"], "a1"),
        node("GlobalAveragePool", &["b"], "b1"),
        node("Add", &["a1", "b1"], "y"),
    ];
    let weights = vec![
        tensor("small", &[OUTPUTS, CHANNELS, 1, 1], noise),
        tensor("large", &[OUTPUTS, CHANNELS, 5, 5], noise),
    ];
    let statistics = even(&[("x", CHANNELS, 1.0)]);
    for precision in [QuantizedPrecision::Int8, QuantizedPrecision::Fp8] {
        let made = made(graph(nodes.clone(), weights.clone()), &options(precision), Method::MAX, &statistics);
        let count = |operator: &str| made.operators().iter().filter(|other| **other == operator).count();
        assert_eq!((count("QuantizeLinear"), count("DequantizeLinear"), count("Conv")), (1, 3, 2));
        assert_eq!(made.floats("small.scale"), made.floats("large.scale"));
        assert_eq!(made.bytes("large.quantized").len(), OUTPUTS * CHANNELS * 25);
    }
}

#[test]
fn what_has_no_kernel_or_gains_nothing_stays() {
    let all = || {
        graph(
            vec![
                conv(&["x", "colours"], "a", 1),
                conv(&["a", "each"], "b", CHANNELS as i64),
                conv(&["b", "w"], "c", 1),
                conv(&["c", "w", "computed"], "d", 1),
                node("ConvTranspose", &["c", "w"], "y"),
            ],
            vec![
                tensor("colours", &[CHANNELS, 3, 3, 3], noise),
                tensor("each", &[CHANNELS, 1, 3, 3], noise),
                tensor("w", &[CHANNELS, CHANNELS, 1, 1], noise),
            ],
        )
    };
    let statistics = even(&[("b", CHANNELS, 1.0), ("c", CHANNELS, 1.0)]);
    let kept = |options: &QuantizationOptions| -> Vec<WhyKept> {
        let mut all = all();
        all.input.push(value("computed", FLOAT));
        made(all, options, Method::MAX, &statistics).report.kept.iter().map(|node| node.why).collect()
    };
    use WhyKept as W;
    assert_eq!(kept(&int8()), [W::FewChannels, W::FewChannels, W::Form, W::Convolution]);
    let other = QuantizationOptions { convolutions: Treatment::Keep, ..int8() };
    assert_eq!(kept(&other), [W::Convolution; 5]);
    // Weights alone would be dequantized at every inference.
    assert_eq!(kept(&options(QuantizedPrecision::Int4)), [W::Convolution; 5]);
}

/// A value has one list of channels.
#[test]
fn a_value_that_products_read_too_is_theirs() {
    let mut all = graph(
        vec![conv(&["x", "w"], "a", 1), node("MatMul", &["x", "v"], "b"), node("Concat", &["a", "b"], "y")],
        vec![tensor("w", &[SIDE, SIDE, 1, 1], noise), tensor("v", &[SIDE, SIDE], noise)],
    );
    all.node[2].attribute = vec![integer("axis", -1)];
    all.input.push(value("unused", INT64));
    let made = made(all, &int8(), Method::MAX, &even(&[("x", SIDE, 1.0)]));
    let nodes: Vec<_> = made.report.kept.iter().map(|node| (node.op_type.as_str(), node.why)).collect();
    assert_eq!(nodes, [("Conv", WhyKept::Form)]);
    assert_eq!(made.report.quantized.len(), 1);
}
