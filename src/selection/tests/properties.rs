//! What holds for every manifest and every host.

use proptest::prelude::*;

use super::*;

fn any_profile() -> impl Strategy<Value = String> {
    let pick = |options: &'static [&'static str]| prop::sample::select(options);
    (
        pick(&[
            "",
            "gpu=l4",
            "gpu=t4",
            "gpu=H100",
            "gpu_device=27b8:10de",
            "compute_capability=8.9",
            "compute_capability=7.5+8.0",
        ]),
        pick(&["backend=onnx", "backend=tensorrt", "backend=tensorrt-rtx", "llm_engine=vllm"]),
        pick(&["precision=fp16", "precision=fp8", "precision=fp32"]),
        pick(&["", "tp=2"]),
        0..4_u8,
    )
        .prop_map(|(gpu, backend, precision, tp, n)| format!("{backend} {precision} n={n} {gpu} {tp}"))
}

fn any_manifest() -> impl Strategy<Value = Vec<ManifestProfile>> {
    prop::collection::btree_set(any_profile(), 0..12)
        .prop_map(|texts: BTreeSet<String>| profiles(&texts.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn any_host() -> impl Strategy<Value = Host> {
    let device = prop::sample::select(vec!["l4", "t4", "h100-sxm", "l4:2", "a100-sxm/1g.10gb", "gtx-1080"]);
    prop_oneof![
        1 => Just(Host::stated(["none"]).unwrap()),
        5 => prop::collection::vec(device, 1..4).prop_map(|devices| Host::stated(devices).unwrap()),
    ]
}

proptest! {
    /// The order of the manifest doesn't matter: the same profiles fit, in the same order.
    #[test]
    fn order_does_not_matter(
        (profiles, shuffled) in any_manifest().prop_flat_map(|profiles| (Just(profiles.clone()), Just(profiles).prop_shuffle())),
        host in any_host(),
    ) {
        let ids = |profiles: &[ManifestProfile]| -> Vec<Vec<String>> {
            let answers = select(profiles, &BTreeMap::new(), &TagSelector::default(), Lora::Excluded, &host);
            let of = |answer: &Answer<'_>| answer.fitting.iter().map(|(place, _, _)| profiles[*place].id.clone()).collect();
            answers.iter().map(of).collect()
        };
        prop_assert_eq!(ids(&profiles), ids(&shuffled));
    }

    /// The chosen profile has the requested tags and is made for the GPU; each profile is in exactly one list.
    #[test]
    fn what_is_chosen_satisfies_the_request(profiles in any_manifest(), host in any_host()) {
        let selector: TagSelector = "precision=fp16".parse().unwrap();
        for answer in select(&profiles, &BTreeMap::new(), &selector, Lora::Excluded, &host) {
            let places: BTreeSet<usize> = answer.fitting.iter().map(|(place, _, _)| *place)
                .chain(answer.short_of_memory.iter().map(|(place, _)| *place))
                .chain(answer.rejected.iter().map(|(place, _)| *place))
                .collect();
            let count = answer.fitting.len() + answer.short_of_memory.len() + answer.rejected.len();
            prop_assert_eq!((places.len(), count), (profiles.len(), profiles.len()));
            let Some(place) = answer.chosen() else { continue };
            let tags = &profiles[place].tags;
            prop_assert_eq!(tags["precision"].as_str(), "fp16");
            let device = answer.group.slots.first().map(|slot| slot.device);
            let needs_gpu = tags.get("backend").is_none_or(|backend| backend != "onnx") || tags.len() > 3 + usize::from(tags.contains_key("tp"));
            prop_assert!(device.is_some() || !needs_gpu);
            if let (Some(gpu), Some(device)) = (tags.get("gpu"), device) {
                let known = device.known_as.clone().unwrap();
                prop_assert!(known.starts_with(&gpu.to_lowercase()), "{} on {}", gpu, known);
            }
            if tags.contains_key("tp") {
                prop_assert!(answer.group.slots.len() >= 2);
            }
        }
    }
}
