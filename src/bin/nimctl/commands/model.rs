//! `nimctl model`.

use std::process::ExitCode;

use nimctl::onnx::FileDigest;
use nimctl::ops::synth;
use serde::Serialize;

use crate::cli::{self, Architecture};
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::table::{size, table};

/// `nimctl.model-files/1`.
#[derive(Serialize)]
struct View {
    schema: &'static str,
    files: Vec<FileDigest>,
}

pub(crate) fn run(arguments: &cli::Model, output: &Output) -> Result<ExitCode, Failure> {
    let cli::Model::Synth { architecture: Architecture::Nvclip, size: model_size, seed, folder } = arguments;
    let files = synth::write_nvclip(*model_size, *seed, folder)?;
    let rows: Vec<Vec<String>> = files
        .iter()
        .map(|file| {
            vec![
                folder.join(&file.path).display().to_string(),
                size(file.size_bytes),
                file.sha256.to_string(),
            ]
        })
        .collect();
    output
        .result(&table(&["FILE", "SIZE", "DIGEST"], &rows), &View { schema: "nimctl.model-files/1", files });
    Ok(done())
}
