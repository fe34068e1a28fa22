//! The exit codes of errors and signals.

use std::fmt;
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;

/// A failure of a command: what to print, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) error: anyhow::Error,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, error: impl Into<anyhow::Error>) -> Self {
        Self { kind, error: error.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Returns the message with every cause that adds something.
    pub(crate) fn message(&self) -> String {
        let mut message = self.error.to_string();
        for cause in self.error.chain().skip(1) {
            let cause = cause.to_string();
            if !message.contains(&cause) {
                message.push_str(": ");
                message.push_str(&cause);
            }
        }
        message
    }

    /// Returns the exit code.
    pub(crate) fn code(&self) -> u8 {
        code(self.kind)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

/// Returns the exit code of a kind of error; docs/guide.md documents them.
pub(crate) fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Input => 1,
        ErrorKind::Refused => 3,
        ErrorKind::NoProfile => 4,
        ErrorKind::Unavailable => 5,
        ErrorKind::Bug => 70,
        ErrorKind::Interrupted => 130,
    }
}

/// Returns success.
pub(crate) fn done() -> ExitCode {
    ExitCode::SUCCESS
}

macro_rules! failures {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.kind(), error)
            }
        })*
    };
}

failures!(
    nimctl::onnx::OnnxError,
    nimctl::ops::bench::BenchError,
    nimctl::ops::lower::LowerError,
    nimctl::ops::quantize::QuantizeError,
    nimctl::ops::read_manifest::ReadManifestError,
    nimctl::ops::release::ReleaseError,
    nimctl::ops::report::ReportError,
    nimctl::ops::store_care::StoreCareError,
    nimctl::store::StoreError,
    nimctl::worker::error::WorkerError,
);

macro_rules! failures_with_hints {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let hint = error.hint();
                Self::new(error.kind(), error).hint(hint)
            }
        })*
    };
}

failures_with_hints!(
    nimctl::oci::PlaceError,
    nimctl::ops::mirror::MirrorError,
    nimctl::ops::publish::PublishError,
    nimctl::ops::pull::PullError,
    nimctl::ops::attest::AttestError,
    nimctl::ops::attest::AttestationsError,
    nimctl::ops::explain::ExplainError,
    nimctl::ops::reproduce::ReproduceError,
    nimctl::ops::sbom::SbomError,
    nimctl::ops::sign::SignError,
    nimctl::ops::trust::NotAdmitted,
    nimctl::ops::trust::NotTrusted,
    nimctl::ops::trust::PolicyError,
    nimctl::ops::verify_signature::VerifySignatureError,
);

impl From<nimctl::toolchain::ToolchainError> for Failure {
    fn from(error: nimctl::toolchain::ToolchainError) -> Self {
        let hint = error.hint();
        Self::new(error.kind(), error).hint(hint)
    }
}

impl From<nimctl::device::InvalidDevice> for Failure {
    fn from(error: nimctl::device::InvalidDevice) -> Self {
        Self::new(ErrorKind::Input, error)
    }
}

impl From<nimctl::device::InvalidDeviceFile> for Failure {
    fn from(error: nimctl::device::InvalidDeviceFile) -> Self {
        Self::new(ErrorKind::Input, error)
    }
}

impl From<nimctl::ops::init::InitError> for Failure {
    fn from(error: nimctl::ops::init::InitError) -> Self {
        let hint = error.hint();
        Self::new(error.kind(), error).hint(hint)
    }
}

impl From<nimctl::ops::check::CheckError> for Failure {
    fn from(error: nimctl::ops::check::CheckError) -> Self {
        let hint = error.hint();
        Self::new(error.kind(), error).hint(hint)
    }
}

impl From<nimctl::ops::select::SelectError> for Failure {
    fn from(error: nimctl::ops::select::SelectError) -> Self {
        let hint = error.hint();
        Self::new(error.kind(), error).hint(hint)
    }
}

impl From<nimctl::files::destination::BadDestination> for Failure {
    fn from(error: nimctl::files::destination::BadDestination) -> Self {
        Self::new(ErrorKind::Input, error)
    }
}

impl From<nimctl::recipe::RecipeError> for Failure {
    fn from(error: nimctl::recipe::RecipeError) -> Self {
        Self::new(ErrorKind::Input, error)
    }
}

impl From<nimctl::ops::error::PipelineError> for Failure {
    fn from(error: nimctl::ops::error::PipelineError) -> Self {
        let hint = error.hint();
        Self::new(error.kind(), error).hint(hint)
    }
}

impl From<nimctl::ops::validate::ValidateError> for Failure {
    fn from(error: nimctl::ops::validate::ValidateError) -> Self {
        let hint = error.hint();
        Self::new(error.kind(), error).hint(hint)
    }
}

impl From<nimctl::ops::hash_profile::HashError> for Failure {
    fn from(error: nimctl::ops::hash_profile::HashError) -> Self {
        let hint = error.hint();
        Self::new(error.kind(), error).hint(hint)
    }
}
