//! What ran each node, from the profile that ONNX Runtime writes of a run: a JSON list of events, of which those of the
//! category `Node` whose names end with `_kernel_time` say the provider.

use std::collections::{BTreeMap, BTreeSet};

use nimctl_backend_kit::protocol::Provider;
use serde::Deserialize;

/// The CPU provider's name.
const CPU: &str = "CPUExecutionProvider";
/// The CUDA provider's name.
const CUDA: &str = "CUDAExecutionProvider";
/// What the names of events end with that are about a node's own work.
const KERNEL: &str = "_kernel_time";
/// Element types of shapes, indices and masks. Everything else is the work of a model, types that are new to us too.
const WHOLE: [&str; 9] = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"];
/// So many nodes are named.
const MAX_NAMED: usize = 3;

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    provider: String,
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    node_index: String,
    /// Each output as an object of one member: its element type, and its shape.
    #[serde(default)]
    output_type_shape: Vec<BTreeMap<String, serde_json::Value>>,
}

/// Counts the nodes that each provider ran, by the provider's name.
///
/// # Errors
/// In words: a malformed profile, one without nodes, and nodes that ran on the wrong provider. ONNX Runtime puts the
/// arithmetic of shapes on the CPU on purpose; a node whose outputs are not integers is a fallback, not reported
/// otherwise.
pub(crate) fn nodes_by_provider(profile: &[u8], wanted: Provider) -> Result<BTreeMap<String, u64>, String> {
    let events: Vec<Event> = serde_json::from_slice(profile)
        .map_err(|error| format!("ONNX Runtime's profile has an unexpected format: {error}"))?;
    // A node inside of a loop has an event for each turn.
    let mut seen = BTreeSet::new();
    let mut counts = BTreeMap::new();
    let mut fallen = Vec::new();
    for Event { cat, name, args } in events {
        let Some(node) = name.strip_suffix(KERNEL).filter(|_| cat == "Node" && !args.provider.is_empty())
        else {
            continue;
        };
        if !seen.insert((node.to_owned(), args.node_index)) {
            continue;
        }
        let does_the_work = args
            .output_type_shape
            .iter()
            .any(|output| output.keys().any(|element_type| !WHOLE.contains(&element_type.as_str())));
        if args.provider != name_of(wanted) && does_the_work {
            fallen.push(format!("`{node}` ({}) on {}", args.op_name, args.provider));
        }
        *counts.entry(args.provider).or_default() += 1;
    }
    if !fallen.is_empty() {
        let more = fallen.len().saturating_sub(MAX_NAMED);
        fallen.truncate(MAX_NAMED);
        let more = if more == 0 { String::new() } else { format!(", and {more} more") };
        return Err(format!("asked for {}, ONNX Runtime ran {}{more}", name_of(wanted), fallen.join(", ")));
    }
    if counts.is_empty() {
        return Err("ONNX Runtime's profile lists no nodes".into());
    }
    Ok(counts)
}

fn name_of(provider: Provider) -> &'static str {
    match provider {
        Provider::Cpu => CPU,
        Provider::Cuda => CUDA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by ONNX Runtime 1.32.0 on the CPU, less what is not read.
    const RECORDED: &str = r#"[
        {"cat":"Session","pid":1,"tid":1,"dur":344771,"ts":2,"ph":"X","name":"model_loading_uri","args":{}},
        {"cat":"Node","pid":1,"tid":1,"dur":65,"ts":567821,"ph":"X","name":"text.end_index_kernel_time","args":
         {"op_name":"ArgMax","node_index":"171","provider":"CPUExecutionProvider","output_type_shape":[{"int64":[2]}]}},
        {"cat":"Node","pid":1,"tid":1,"dur":41,"ts":568298,"ph":"X","name":"text.position_kernel_time","args":
         {"op_name":"Add","node_index":"1","provider":"CPUExecutionProvider","output_type_shape":[{"float":[2,77,512]}]}},
        {"cat":"Session","pid":1,"tid":1,"dur":9,"ts":9,"ph":"X","name":"model_run","args":{}}
    ]"#;

    /// The recorded one with the other provider's name: no profile was recorded on a GPU.
    fn on_cuda(floats: &str, integers: &str) -> String {
        RECORDED.replacen("CPUExecutionProvider", integers, 1).replacen(
            "CPUExecutionProvider\",\"output_type_shape\":[{\"float\"",
            &format!("{floats}\",\"output_type_shape\":[{{\"float\""),
            1,
        )
    }

    #[test]
    fn nodes_are_counted() {
        let counts = nodes_by_provider(RECORDED.as_bytes(), Provider::Cpu).unwrap();
        assert_eq!(counts, BTreeMap::from([(CPU.into(), 2)]));
    }

    #[test]
    fn a_node_that_ran_twice_counts_once() {
        let twice = RECORDED.replacen('[', &RECORDED.replace("\n    ]", ","), 1);
        let counts = nodes_by_provider(twice.as_bytes(), Provider::Cpu).unwrap();
        assert_eq!(counts, BTreeMap::from([(CPU.into(), 2)]));
    }

    #[test]
    fn arithmetic_of_shapes_may_stay_on_the_cpu() {
        let counts = nodes_by_provider(on_cuda(CUDA, CPU).as_bytes(), Provider::Cuda).unwrap();
        assert_eq!(counts, BTreeMap::from([(CPU.into(), 1), (CUDA.into(), 1)]));
    }

    #[test]
    fn numbers_that_fall_to_the_cpu_are_an_error_that_names_the_node() {
        let error = nodes_by_provider(on_cuda(CPU, CUDA).as_bytes(), Provider::Cuda).unwrap_err();
        assert_eq!(
            error,
            "asked for CUDAExecutionProvider, ONNX Runtime ran `text.position` (Add) on CPUExecutionProvider"
        );
        let many = on_cuda(CPU, CPU).replace("int64", "float16");
        let error = nodes_by_provider(many.as_bytes(), Provider::Cuda).unwrap_err();
        assert!(
            error.contains("`text.end_index` (ArgMax) on CPUExecutionProvider, `text.position`"),
            "{error}"
        );
    }

    #[test]
    fn a_type_that_nobody_knows_yet_is_no_arithmetic_of_shapes() {
        let new = on_cuda(CUDA, CPU).replace("int64", "float2e1");
        assert!(nodes_by_provider(new.as_bytes(), Provider::Cuda).is_err());
    }

    #[test]
    fn what_is_no_profile_is_an_error() {
        let check = |text: &str, part: &str| {
            let error = nodes_by_provider(text.as_bytes(), Provider::Cpu).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check("", "unexpected format");
        check("{}", "unexpected format");
        check("[]", "lists no nodes");
    }
}
