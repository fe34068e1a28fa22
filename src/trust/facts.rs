//! What a passport says that a rule can ask for, and what is attested of its profile.

use std::collections::BTreeSet;

use super::judge::Identified;
use crate::attestation::Kind;
use crate::compute_capability::ComputeCapability;
use crate::passport::{Passport, Status};
use crate::validation::{GateResult, Validation};

/// What a signed passport says of its profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileFacts {
    /// The name of the profile.
    pub name: String,
    /// How it was validated: `executed`, `static` or `skipped`.
    pub status: &'static str,
    /// Whether it passed validation; `false` if there was none.
    pub passed: bool,
    /// What ran it, as the passport says it.
    pub ran_on: Option<String>,
    /// The compute capability of the GPU that ran it; `None` for the CPU.
    pub compute_capability: Option<ComputeCapability>,
    /// The least cosine of a row of an output with the reference; `None` if none was measured, one is not finite, or an output of floats has none.
    pub min_cosine: Option<f64>,
    /// What is attested of it, and by whom. A passport does not say.
    pub attestations: Vec<(Kind, Identified)>,
}

impl ProfileFacts {
    /// Returns what a passport says.
    pub fn of(passport: &Passport) -> Self {
        let validation = passport.validation.validation();
        let executed = match &passport.validation {
            Status::Executed(validation) => Some(validation),
            Status::Static(_) | Status::Skipped(_) => None,
        };
        Self {
            name: passport.name.clone(),
            status: passport.validation.word(),
            passed: validation.is_some_and(|validation| validation.passed),
            ran_on: validation.map(|validation| validation.ran_on.clone()),
            compute_capability: executed.and_then(|validation| {
                // Passports of earlier versions have it in words only.
                validation.compute_capability.or_else(|| compute_capability(&validation.ran_on))
            }),
            min_cosine: validation.and_then(min_cosine),
            attestations: Vec::new(),
        }
    }
}

/// Returns the least cosine of a row of any output; `None` if there is an output of floats without a cosine: one with a tolerance of its own, or
/// that was not compared.
fn min_cosine(validation: &Validation) -> Option<f64> {
    let place = |gate: &GateResult| (gate.subject.clone(), gate.shapes.clone());
    let of = |name: &'static str| validation.all_gates().filter(move |gate| gate.gate == name);
    let measured: BTreeSet<_> = of("row_cosine").map(place).collect();
    if of("finite").any(|gate| !measured.contains(&place(gate))) {
        return None;
    }
    let cosines: Option<Vec<f64>> =
        of("row_cosine").map(|gate| gate.value.filter(|value| value.is_finite())).collect();
    cosines?.into_iter().min_by(f64::total_cmp)
}

/// Returns the compute capability in `TensorRT 11.4.0.1 on NVIDIA L4 (8.9)`.
fn compute_capability(ran_on: &str) -> Option<ComputeCapability> {
    ran_on.strip_suffix(')')?.rsplit_once(" (")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passport_has_the_compute_capability_in_a_place_of_its_own() {
        const GOLDEN: &[u8] = include_bytes!("../../tests/fixtures/formats/passport.json");
        let mut passport = Passport::parse(GOLDEN, "golden").unwrap();
        let Status::Executed(mut validation) = passport.validation.clone() else { panic!("it was executed") };
        assert!(!serde_json::to_string(&validation).unwrap().contains("compute_capability"));
        // A node of a fleet comes after it.
        validation.ran_on = "TensorRT 11.4.0.1 on NVIDIA L4 (8.9), node n1".into();
        validation.compute_capability = Some(ComputeCapability::new(8, 9));
        passport.validation = Status::Executed(validation.clone());
        let read = Passport::parse(&passport.for_release(), "released").unwrap();
        assert_eq!(ProfileFacts::of(&read).compute_capability, Some(ComputeCapability::new(8, 9)));
        // What stood in for it did not run there.
        passport.validation = Status::Static(validation);
        assert_eq!(ProfileFacts::of(&passport).compute_capability, None);
    }

    #[test]
    fn a_cosine_is_that_of_every_output_of_floats() {
        const GOLDEN: &[u8] = include_bytes!("../../tests/fixtures/formats/passport.json");
        let passport = Passport::parse(GOLDEN, "golden").unwrap();
        let validation = passport.validation.validation().unwrap();
        assert!(min_cosine(validation).is_some_and(|cosine| cosine > 0.999));
        // One of its outputs has a tolerance of its own.
        let mut tolerant = validation.clone();
        let at = tolerant.gates.iter().position(|gate| gate.gate == "row_cosine").unwrap();
        tolerant.gates[at].gate = "tolerance".into();
        assert_eq!(min_cosine(&tolerant), None);
    }

    #[test]
    fn a_gpu_is_named_with_its_compute_capability() {
        assert_eq!(
            compute_capability("TensorRT 11.4.0.1 on NVIDIA L4 (8.9)"),
            Some(ComputeCapability::new(8, 9))
        );
        for other in ["ONNX Runtime 1.32.0 on the CPU", "x on NVIDIA L4 (8.9) or so", "(8.9)", ""] {
            assert_eq!(compute_capability(other), None, "{other}");
        }
    }
}
