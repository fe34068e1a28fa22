//! Failures that a worker reports.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a request failed, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// What kind of failure, for programs.
    pub code: ErrorCode,
    /// What happened to what, for people: lower case, no final period, the library's own words included.
    pub message: String,
    /// What the machine would need for this to work, each in a few words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
}

impl Problem {
    /// Returns a problem that nothing on this machine would fix.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), needs: Vec::new() }
    }

    /// Adds something that the machine would need.
    #[must_use]
    pub fn needing(mut self, need: impl Into<String>) -> Self {
        self.needs.push(need.into());
        self
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Kinds of failure. On the wire a string; readers keep those they don't know.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
            /// A code that this version doesn't know.
            Other(String),
        }

        impl ErrorCode {
            /// Returns the code as it is on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<String> for ErrorCode {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)*
                    _ => Self::Other(text),
                }
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for ErrorCode {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                "ErrorCode".into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "examples": [$($text),*] })
            }
        }
    };
}

error_codes! {
    /// There is no driver for the device, or no device.
    NoDriver = "no_driver",
    /// The inference library is missing or can't be loaded.
    LibraryMissing = "library_missing",
    /// The library can't build for the compute capability.
    UnsupportedTarget = "unsupported_target",
    /// The file is not a graph, or one that the library can't read.
    InvalidGraph = "invalid_graph",
    /// The request contradicts itself or the graph: a missing shape range, an unknown input, a malformed line.
    InvalidRequest = "invalid_request",
    /// The library read the graph and could not compile it.
    BuildFailed = "build_failed",
    /// The library could not load or run the graph or plan.
    RunFailed = "run_failed",
    /// The device has too little free memory at the moment.
    OutOfMemory = "out_of_memory",
    /// A file could not be read or written.
    Io = "io",
    /// A file is not the one that the request gives the digest of.
    DamagedFile = "damaged_file",
    /// The worker doesn't know the request, or doesn't do it.
    UnsupportedRequest = "unsupported_request",
    /// A bug in the worker: it went on after a panic.
    WorkerBug = "worker_bug",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}
