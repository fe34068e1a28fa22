//! `nimctl schema`, and `nimctl recipe schema`.

use std::process::ExitCode;

use nimctl::benchmark::BenchDocument;
use nimctl::device::Host;
use nimctl::error_kind::ErrorKind;
use nimctl::fleet::Fleet;
use nimctl::manifest::Manifest;
use nimctl::passport::Passport;
use nimctl::profile::Contents;
use nimctl::recipe::Recipe;
use nimctl::release::Policy;
use nimctl::trust::TrustText;
use nimctl::worker::protocol::{EventLine, RequestLine};
use schemars::schema_for;

use super::inspect_plan::PlanView;
use crate::cli::SchemaOf;
use crate::exit::{Failure, done};
use crate::output::Output;

pub(crate) fn run(file: SchemaOf, output: &Output) -> Result<ExitCode, Failure> {
    let schema = match file {
        SchemaOf::Recipe => Recipe::json_schema(),
        SchemaOf::Manifest => schema_for!(Manifest),
        SchemaOf::Contents => schema_for!(Contents),
        SchemaOf::Passport => schema_for!(Passport),
        SchemaOf::ReleasePolicy => schema_for!(Policy),
        SchemaOf::Trust => schema_for!(TrustText),
        SchemaOf::Fleet => schema_for!(Fleet),
        SchemaOf::Bench => schema_for!(BenchDocument),
        SchemaOf::Devices => schema_for!(Host),
        SchemaOf::Plan => schema_for!(PlanView<'_>),
        SchemaOf::WorkerRequest => schema_for!(RequestLine),
        SchemaOf::WorkerEvent => schema_for!(EventLine),
    };
    let text = serde_json::to_string_pretty(&schema).map_err(|error| Failure::new(ErrorKind::Bug, error))?;
    output.data(&text);
    Ok(done())
}
