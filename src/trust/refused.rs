//! Why a policy accepts a signature or a release not.

use std::error::Error;
use std::fmt::{self, Write as _};

use super::document::ExecutedOn;
use crate::attestation::Kind;
use crate::signing::Refusal;

/// A signature that no rule knows.
#[derive(Debug)]
pub struct UnknownSigner {
    /// The policy.
    pub policy: String,
    /// Whose signature it says it is.
    pub claimed: String,
    /// Each key and authority that was tried: the line of its rule, and why it was not that.
    pub tried: Vec<(u32, Refusal)>,
}

/// A release that no rule accepts.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The policy.
    pub policy: String,
    /// The model.
    pub model: String,
    /// Its release.
    pub release: String,
    /// Each rule for the model: its line, and the first fact that broke it. Empty if there is none.
    pub broken: Vec<(u32, Broken)>,
    /// The models that the policy has rules for.
    pub models: Vec<String>,
}

/// A fact that broke a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Broken {
    /// Somebody else signed.
    #[error("it is signed by {signer}, which this rule does not trust")]
    Signer {
        /// Who signed.
        signer: String,
    },
    /// The name in the certificate.
    #[error("it is signed by {subject}, and the rule accepts {}", quoted(accepted))]
    Subject {
        /// The name in the certificate.
        subject: String,
        /// The patterns.
        accepted: Vec<String>,
    },
    /// The rule does not hold yet.
    #[error("the rule holds from {from}")]
    NotYet {
        /// The first day.
        from: String,
    },
    /// The rule does not hold any more.
    #[error("the rule held until {until}")]
    Over {
        /// The last day.
        until: String,
    },
    /// A roll-back.
    #[error("the release is older than `min_release` {min}")]
    TooOld {
        /// The earliest release that is accepted.
        min: String,
    },
    /// A release that is no version.
    #[error("the release can't be compared with `min_release` {min}: it is not numbers with dots")]
    NotComparable {
        /// The earliest release that is accepted.
        min: String,
    },
    /// No passport.
    #[error("the rule has a `require`, and no passport is signed")]
    NoPassport,
    /// The profile itself was not run.
    #[error("{profile} was validated as `{status}`, and the rule requires `executed_on` {wanted}")]
    NotExecuted {
        /// The profile.
        profile: String,
        /// How it was validated.
        status: &'static str,
        /// What the rule wants.
        wanted: ExecutedOn,
    },
    /// It was run elsewhere.
    #[error("{profile} was executed by {ran_on}, and the rule requires `executed_on` {wanted}")]
    ElsewhereExecuted {
        /// The profile.
        profile: String,
        /// What ran it.
        ran_on: String,
        /// What the rule wants.
        wanted: ExecutedOn,
    },
    /// It did not pass.
    #[error("{profile} did not pass validation (`{status}`)")]
    NotPassed {
        /// The profile.
        profile: String,
        /// How it was validated.
        status: &'static str,
    },
    /// Nobody whom the rule trusts attests something.
    #[error(
        "{profile} has no attestation of its {kind} by somebody whom the rule trusts, and the rule requires it"
    )]
    NotAttested {
        /// The profile.
        profile: String,
        /// What is missing.
        kind: Kind,
    },
    /// The cosine is too small, or there is none.
    #[error("the cosine of {profile} is {}, and the rule requires `min_cosine` {min}",
        found.map_or_else(|| "not known".into(), |found| found.to_string()))]
    Cosine {
        /// The profile.
        profile: String,
        /// What was measured.
        found: Option<f64>,
        /// What the rule wants.
        min: f64,
    },
}

fn quoted(patterns: &[String]) -> String {
    patterns.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for ExecutedOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(_) => f.write_str("any"),
            Self::On(capabilities) => {
                let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
                f.write_str(&names.join(" or "))
            }
        }
    }
}

impl fmt::Display for UnknownSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, claimed, tried } = self;
        write!(f, "{policy} does not accept the signature, which says that it is by {claimed}")?;
        for (number, (line, refusal)) in tried.iter().enumerate() {
            let joint = if number == 0 { ": " } else { "; " };
            write!(f, "{joint}rule in line {line}: {}", in_words(refusal))?;
        }
        Ok(())
    }
}

impl Error for UnknownSigner {}

impl UnknownSigner {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        "ask who signed the model for the public key, and add it to a rule only if you trust its owner".into()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, model, release, broken, models } = self;
        write!(f, "{policy} refuses {} {}", model.escape_debug(), release.escape_debug())?;
        if broken.is_empty() {
            return write!(f, ": no rule is for this model, rules are for {}", quoted(models));
        }
        for (number, (line, fact)) in broken.iter().enumerate() {
            let joint = if number == 0 { ": " } else { "; " };
            write!(f, "{joint}rule in line {line}: {fact}")?;
        }
        Ok(())
    }
}

impl Error for Refused {}

impl Refused {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        let Some((line, fact)) = self.broken.first() else {
            return format!("add a rule for the model to {}, if you trust who signed it", self.policy);
        };
        match fact {
            Broken::Signer { .. } | Broken::Subject { .. } => {
                "get the model from who the policy trusts, or add its signer to a rule".into()
            }
            Broken::NotYet { .. } | Broken::Over { .. } => {
                format!("check the clock, then `from` and `until` of the rule in line {line} of {}", self.policy)
            }
            Broken::TooOld { .. } | Broken::NotComparable { .. } => "use a later release".into(),
            Broken::NotAttested { .. } => {
                "ask for a release whose signer attests it (`nimctl attest`), or relax `require`".into()
            }
            Broken::NoPassport
            | Broken::NotExecuted { .. }
            | Broken::ElsewhereExecuted { .. }
            | Broken::NotPassed { .. }
            | Broken::Cosine { .. } => {
                "ask for a release that was validated so (`nimctl validate` on a host with that GPU), or relax `require`"
                    .into()
            }
        }
    }
}

/// Returns an error with its causes.
pub(crate) fn in_words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            let _ = write!(words, ": {text}");
        }
        cause = error.source();
    }
    words
}
