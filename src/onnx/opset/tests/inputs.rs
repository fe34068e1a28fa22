//! Attributes that became inputs.

use super::*;

#[test]
fn axes_become_an_input_where_the_operator_has_one() {
    let reduce =
        with(vec![integers("axes", &[1, -1]), integer("keepdims", 0)], node("ReduceMean", &["x"], "y"));
    assert_eq!(
        raised(model_of(13, vec![reduce.clone()]), 18),
        ["y_node_axes = [1, -1]", "ReduceMean{keepdims=0}(x, y_node_axes) -> y"]
    );
    assert_eq!(raised(model_of(11, vec![reduce]), 17), ["ReduceMean{axes=[1, -1], keepdims=0}(x) -> y"]);
    let sum = with(vec![integers("axes", &[0])], node("ReduceSum", &["x"], "y"));
    assert_eq!(raised(model_of(12, vec![sum]), 13), ["y_node_axes = [0]", "ReduceSum(x, y_node_axes) -> y"]);
    assert_eq!(raised(model_of(12, vec![node("ReduceMax", &["x"], "y")]), 23), ["ReduceMax(x) -> y"]);
    let squeeze = with(vec![integers("axes", &[2])], node("Squeeze", &["x"], "u"));
    let unsqueeze = with(vec![integers("axes", &[0, 3])], node("Unsqueeze", &["u"], "y"));
    assert_eq!(
        raised(model_of(7, vec![squeeze, unsqueeze]), 21),
        [
            "u_node_axes = [2]",
            "Squeeze(x, u_node_axes) -> u",
            "y_node_axes = [0, 3]",
            "Unsqueeze(u, y_node_axes) -> y"
        ]
    );
}

#[test]
fn no_axes_stay_no_axes() {
    let squeeze = with(vec![integers("axes", &[])], node("Squeeze", &["x"], "y"));
    assert_eq!(raised(model_of(7, vec![squeeze]), 21), ["Squeeze(x) -> y"]);
}

#[test]
fn axes_of_mean_variance_normalization_are_said() {
    let norm = node("MeanVarianceNormalization", &["x"], "y");
    assert_eq!(
        raised(model_of(9, vec![norm.clone()]), 19),
        ["MeanVarianceNormalization{axes=[0, 2, 3]}(x) -> y"]
    );
    assert_eq!(
        raised(model_of(9, vec![with(vec![integers("axes", &[1])], norm)]), 19),
        ["MeanVarianceNormalization{axes=[1]}(x) -> y"]
    );
}

#[test]
fn slice_takes_its_bounds_as_inputs() {
    let bounds = vec![integers("axes", &[1]), integers("ends", &[i64::MAX]), integers("starts", &[-2])];
    let max = i64::MAX;
    assert_eq!(
        raised(model_of(9, vec![with(bounds, node("Slice", &["x"], "y"))]), 19),
        [
            "y_node_starts = [-2]".to_owned(),
            format!("y_node_ends = [{max}]"),
            "y_node_axes = [1]".to_owned(),
            "Slice(x, y_node_starts, y_node_ends, y_node_axes) -> y".to_owned(),
        ]
    );
    let without_axes = vec![integers("ends", &[3]), integers("starts", &[0])];
    assert_eq!(
        raised(model_of(9, vec![with(without_axes, node("Slice", &["x"], "y"))]), 10),
        ["y_node_starts = [0]", "y_node_ends = [3]", "Slice(x, y_node_starts, y_node_ends) -> y"]
    );
    assert_eq!(
        refused(model_of(9, vec![with(vec![integers("ends", &[3])], node("Slice", &["x"], "y"))]), 19),
        "can't be raised from opset 9 to 19: node `y_node` (Slice) has no attribute starts; export the model again with \
         opset 19 or later"
    );
}

#[test]
fn split_says_its_sizes_or_how_many_parts() {
    let two = NodeProto { output: vec!["y".into(), "z".into()], ..node("Split", &["x"], "y") };
    let sized = with(vec![integer("axis", 1), integers("split", &[1, 2])], two.clone());
    assert_eq!(
        raised(model_of(11, vec![sized]), 23),
        ["y_node_split = [1, 2]", "Split{axis=1}(x, y_node_split) -> y, z"]
    );
    assert_eq!(raised(model_of(11, vec![two.clone()]), 23), ["Split{num_outputs=2}(x) -> y, z"]);
    assert_eq!(raised(model_of(11, vec![two.clone()]), 13), ["Split(x) -> y, z"]);
    let by_input = NodeProto { input: vec!["x".into(), "sizes".into()], ..two };
    assert_eq!(raised(model_of(13, vec![by_input]), 23), ["Split(x, sizes) -> y, z"]);
}

#[test]
fn top_k_takes_its_count_as_a_list() {
    let top = with(vec![integer("axis", 1), integer("k", 5)], node("TopK", &["x"], "y"));
    assert_eq!(raised(model_of(9, vec![top]), 19), ["y_node_k = [5]", "TopK{axis=1}(x, y_node_k) -> y"]);
}

#[test]
fn limits_have_the_type_of_what_they_limit() {
    let clip = with(vec![number("max", 6.0), number("min", 0.5)], node("Clip", &["x"], "y"));
    assert_eq!(
        raised(model_of(10, vec![clip.clone()]), 19),
        ["y_node_min = 0.5", "y_node_max = 6.0", "Clip(x, y_node_min, y_node_max) -> y"]
    );
    let mut half = model_of(10, vec![clip.clone()]);
    half.graph.as_mut().unwrap().input = vec![value("x", 10)];
    assert_eq!(
        raised(half, 19),
        [
            "y_node_min = type 10 [00, 38]",
            "y_node_max = type 10 [00, 46]",
            "Clip(x, y_node_min, y_node_max) -> y"
        ]
    );
    let mut unknown = model_of(10, vec![clip]);
    unknown.graph.as_mut().unwrap().input.clear();
    assert_eq!(
        raised(unknown.clone(), 19),
        [
            "y_node_min = 0.5",
            "CastLike(y_node_min, x) -> y_node_min_2",
            "y_node_max = 6.0",
            "CastLike(y_node_max, x) -> y_node_max_2",
            "Clip(x, y_node_min_2, y_node_max_2) -> y"
        ]
    );
    assert!(refused(unknown, 14).contains("(Clip) has an input whose type can't be inferred"));
    let relu = with(vec![number("min", 0.0)], node("Clip", &["x"], "y"));
    assert_eq!(raised(model_of(10, vec![relu]), 19), ["y_node_min = 0.0", "Clip(x, y_node_min) -> y"]);
    let above = with(vec![number("max", 1.0)], node("Clip", &["x"], "y"));
    assert_eq!(raised(model_of(10, vec![above]), 19), ["y_node_max = 1.0", "Clip(x, , y_node_max) -> y"]);
}

#[test]
fn what_double_precision_was_limited_to_stays() {
    let mut double = model_of(10, vec![node("Clip", &["x"], "y")]);
    double.graph.as_mut().unwrap().input = vec![value("x", 11)];
    let lines = raised(double, 19);
    assert_eq!(lines[0], "y_node_min = type 11 [00, 00, 00, e0, ff, ff, ef, c7]");
    assert_eq!(lines[2], "Clip(x, y_node_min, y_node_max) -> y");
}

#[test]
fn pad_takes_sizes_and_value() {
    let pad = |more: Vec<AttributeProto>| {
        let attributes = [vec![text("mode", "constant"), integers("pads", &[0, 1, 0, 1])], more].concat();
        vec![with(attributes, node("Pad", &["x"], "y"))]
    };
    assert_eq!(
        raised(model_of(10, pad(vec![])), 19),
        ["y_node_pads = [0, 1, 0, 1]", "Pad{mode=constant}(x, y_node_pads) -> y"]
    );
    assert_eq!(
        raised(model_of(10, pad(vec![number("value", -1.5)])), 23),
        [
            "y_node_pads = [0, 1, 0, 1]",
            "y_node_value = -1.5",
            "Pad{mode=constant}(x, y_node_pads, y_node_value) -> y"
        ]
    );
}

#[test]
fn dft_says_its_axis_even_if_it_was_the_default() {
    assert_eq!(
        raised(model_of(17, vec![with(vec![integer("onesided", 1)], node("DFT", &["x"], "y"))]), 21),
        ["y_node_axis = 1", "DFT{onesided=1}(x, , y_node_axis) -> y"]
    );
    assert_eq!(
        raised(model_of(17, vec![with(vec![integer("axis", 2)], node("DFT", &["x", "n"], "y"))]), 21),
        ["y_node_axis = 2", "DFT(x, n, y_node_axis) -> y"]
    );
}

#[test]
fn scatter_has_another_name() {
    let scatter = with(vec![integer("axis", 1)], node("Scatter", &["x", "i", "u"], "y"));
    assert_eq!(raised(model_of(9, vec![scatter]), 19), ["ScatterElements{axis=1}(x, i, u) -> y"]);
}

#[test]
fn dropout_loses_a_mask_that_nobody_reads() {
    let dropout = |mask: &str| {
        let node = NodeProto { output: vec!["d".into(), mask.into()], ..node("Dropout", &["x"], "d") };
        with(vec![number("ratio", 0.25)], node)
    };
    let relu = || node("Relu", &["d"], "y");
    assert_eq!(
        raised(model_of(9, vec![dropout("mask"), relu()]), 19),
        ["d_node_ratio = 0.25", "Dropout(x, d_node_ratio) -> d", "Relu(d) -> y"]
    );
    assert_eq!(raised(model_of(9, vec![node("Dropout", &["x"], "y")]), 19), ["Dropout(x) -> y"]);
    let reads = model_of(9, vec![dropout("mask"), relu(), node("Not", &["mask"], "n")]);
    assert_eq!(
        refused(reads, 19),
        "can't be raised from opset 9 to 19: node `d_node` (Dropout) returns its mask, whose values were not defined; \
         export the model again with opset 19 or later"
    );
}

#[test]
fn batch_normalization_is_for_inference_and_for_channels() {
    let norm = |outputs: &[&str], attributes| {
        let mut norm = node("BatchNormalization", &["x", "s", "b", "m", "v"], "y");
        norm.output = outputs.iter().map(|&name| name.into()).collect();
        vec![with(attributes, norm)]
    };
    let raised_norm = "BatchNormalization{momentum=0.5}(x, s, b, m, v) -> y";
    let momentum = || number("momentum", 0.5);
    assert_eq!(raised(model_of(7, norm(&["y"], vec![integer("spatial", 1), momentum()])), 19), [raised_norm]);
    let unused = ["y", "mean", "var", "saved_mean", "saved_var"];
    assert_eq!(raised(model_of(9, norm(&unused, vec![momentum()])), 19), [raised_norm]);
    assert!(refused(model_of(7, norm(&["y"], vec![integer("spatial", 0)])), 19).contains("spatial = 0"));
    let mut trained = model_of(9, norm(&["y", "mean"], vec![]));
    trained.graph.as_mut().unwrap().output.push(value("mean", FLOAT));
    assert!(
        refused(trained, 19)
            .contains("(BatchNormalization) returns statistics, which it does in training only")
    );
}

#[test]
fn group_normalization_scales_every_channel() {
    let norm =
        || vec![with(vec![integer("num_groups", 2)], node("GroupNormalization", &["x", "s", "b"], "y"))];
    let mut known = model_of(18, norm());
    known.graph.as_mut().unwrap().input = vec![shaped("x", FLOAT, &[0, 6, 0, 0])];
    assert_eq!(
        raised(known, 21),
        [
            "y_node_repeats = [1, 3]",
            "y_node_behind = [1]",
            "y_node_flat = [-1]",
            "Unsqueeze(s, y_node_behind) -> y_node_scale",
            "Expand(y_node_scale, y_node_repeats) -> y_node_scale_2",
            "Reshape(y_node_scale_2, y_node_flat) -> y_node_scale_3",
            "Unsqueeze(b, y_node_behind) -> y_node_bias",
            "Expand(y_node_bias, y_node_repeats) -> y_node_bias_2",
            "Reshape(y_node_bias_2, y_node_flat) -> y_node_bias_3",
            "GroupNormalization{num_groups=2}(x, y_node_scale_3, y_node_bias_3) -> y",
        ]
    );
    let unknown = raised(model_of(18, norm()), 21);
    assert_eq!(
        unknown[..5],
        [
            "Shape{start=1, end=2}(x) -> y_node_channels",
            "y_node_groups = [2]",
            "Div(y_node_channels, y_node_groups) -> y_node_channels_of_group",
            "y_node_one = [1]",
            "Concat{axis=0}(y_node_one, y_node_channels_of_group) -> y_node_repeats",
        ]
    );
    let mut single = model_of(18, norm());
    single.graph.as_mut().unwrap().input = vec![shaped("x", FLOAT, &[0, 2, 0])];
    assert_eq!(raised(single, 21), ["GroupNormalization{num_groups=2}(x, s, b) -> y"]);
}
