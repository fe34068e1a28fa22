//! Resize, Upsample, GridSample and RoiAlign.

use super::*;

fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(6),
        floats: values.to_vec(),
        ..AttributeProto::default()
    }
}

fn scales(values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some("scales".into()),
        data_type: Some(FLOAT),
        dims: vec![values.len() as i64],
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

const SAMPLED: &str =
    "Resize{mode=nearest, nearest_mode=floor, coordinate_transformation_mode=asymmetric}(x, , scales) -> y";

#[test]
fn upsample_becomes_resize() {
    let attributes = vec![text("mode", "nearest"), floats("scales", &[1.0, 2.0])];
    let old = with(attributes, node("Upsample", &["x"], "y"));
    assert_eq!(
        raised(model_of(7, vec![old.clone()]), 9),
        ["y_node_scales = [1.0, 2.0]", "Upsample{mode=nearest}(x, y_node_scales) -> y"]
    );
    assert_eq!(raised(model_of(7, vec![old.clone()]), 10)[1], "Resize{mode=nearest}(x, y_node_scales) -> y");
    assert_eq!(raised(model_of(7, vec![old]), 21)[1], SAMPLED.replace("scales", "y_node_scales"));
    let by_input = with(vec![text("mode", "linear")], node("Upsample", &["x", "s"], "y"));
    assert_eq!(
        raised(model_of(9, vec![by_input.clone()]), 21),
        ["Resize{mode=linear, coordinate_transformation_mode=asymmetric}(x, , s) -> y"]
    );
    assert_eq!(
        raised(model_of(9, vec![by_input]), 11),
        [
            "y_node_roi = []",
            "Resize{mode=linear, coordinate_transformation_mode=asymmetric}(x, y_node_roi, s) -> y"
        ]
    );
}

#[test]
fn the_nearest_element_is_defined_only_where_a_tensor_grows() {
    let resize = || vec![with(vec![text("mode", "nearest")], node("Resize", &["x", "scales"], "y"))];
    let with_scales = |values: &[f32]| {
        let mut model = model_of(10, resize());
        model.graph.as_mut().unwrap().initializer = vec![scales(values)];
        model
    };
    assert_eq!(raised(with_scales(&[1.0, 1.0, 2.5, 3.0]), 21), [SAMPLED]);
    let message = "(Resize) takes the nearest elements with scales below 1 or unknown ones, and which element is nearest \
                   was not defined; export the model again with opset 21 or later";
    assert!(refused(with_scales(&[1.0, 1.0, 0.5, 0.5]), 21).ends_with(message));
    assert!(refused(model_of(10, resize()), 21).ends_with(message), "the scales are unknown");
    let mut replaceable = with_scales(&[2.0]);
    replaceable.graph.as_mut().unwrap().input.push(value("scales", FLOAT));
    assert!(refused(replaceable, 21).ends_with(message), "a caller may replace the scales");
    let linear = with(vec![text("mode", "linear")], node("Resize", &["x", "scales"], "y"));
    assert_eq!(
        raised(model_of(10, vec![linear]), 21),
        ["Resize{mode=linear, coordinate_transformation_mode=asymmetric}(x, , scales) -> y"]
    );
    let cubic = with(vec![text("mode", "cubic")], node("Resize", &["x", "scales"], "y"));
    assert!(
        refused(model_of(10, vec![cubic]), 21).contains("has the mode `cubic`: expected nearest or linear")
    );
}

#[test]
fn sizes_stand_alone() {
    let resize = node("Resize", &["x", "roi", "empty", "sizes"], "y");
    assert_eq!(raised(model_of(11, vec![resize]), 13), ["Resize(x, roi, , sizes) -> y"]);
    let resize = node("Resize", &["x", "roi", "scales"], "y");
    assert_eq!(raised(model_of(11, vec![resize]), 23), ["Resize(x, roi, scales) -> y"]);
}

#[test]
fn a_transformation_that_is_gone_has_an_equal_one_with_floor_only() {
    let resize = |more: Vec<AttributeProto>| {
        let attributes =
            [vec![text("coordinate_transformation_mode", "tf_half_pixel_for_nn")], more].concat();
        model_of(11, vec![with(attributes, node("Resize", &["x", "r", "s"], "y"))])
    };
    assert_eq!(
        raised(resize(vec![text("nearest_mode", "floor")]), 19),
        ["Resize{coordinate_transformation_mode=half_pixel, nearest_mode=round_prefer_ceil}(x, r, s) -> y"]
    );
    assert!(refused(resize(vec![]), 19).contains("tf_half_pixel_for_nn, which is gone"));
    assert!(
        refused(resize(vec![text("mode", "linear"), text("nearest_mode", "floor")]), 19).contains("is gone")
    );
}

#[test]
fn modes_of_grid_sample_have_other_names() {
    let sampled = |attributes| {
        raised(model_of(16, vec![with(attributes, node("GridSample", &["x", "g"], "y"))]), 20).remove(0)
    };
    assert_eq!(sampled(vec![]), "GridSample{mode=linear}(x, g) -> y");
    assert_eq!(sampled(vec![text("mode", "bicubic")]), "GridSample{mode=cubic}(x, g) -> y");
    assert_eq!(sampled(vec![text("mode", "nearest")]), "GridSample{mode=nearest}(x, g) -> y");
    let other = with(vec![text("mode", "area")], node("GridSample", &["x", "g"], "y"));
    assert!(refused(model_of(16, vec![other]), 20).contains("has the mode `area`"));
}

#[test]
fn roi_align_keeps_its_pixels_where_they_were() {
    assert_eq!(
        raised(model_of(10, vec![node("RoiAlign", &["x", "r", "b"], "y")]), 19),
        ["RoiAlign{coordinate_transformation_mode=output_half_pixel}(x, r, b) -> y"]
    );
    assert_eq!(
        raised(model_of(16, vec![node("RoiAlign", &["x", "r", "b"], "y")]), 19),
        ["RoiAlign(x, r, b) -> y"]
    );
}
