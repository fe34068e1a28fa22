//! Arguments of `report`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = "\
The page is one HTML file that needs no network. It contains its data, which can be downloaded from it.

Examples:
  nimctl report recipes/nvclip-demo.yaml -o report.html
  nimctl report dist/nvclip-demo --format markdown")]
pub(crate) struct Report {
    /// A recipe whose profiles were built, or the folder of a release.
    pub(crate) source: PathBuf,
    /// The file to write [default: standard output].
    #[arg(short = 'o', long = "output-file", value_name = "FILE")]
    pub(crate) destination: Option<PathBuf>,
    /// The format of the report [default: html; json with `--output json` on standard output].
    #[arg(long, value_enum)]
    pub(crate) format: Option<ReportFormat>,
}

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// A page with tables and plots.
    Html,
    /// Release notes in Markdown.
    Markdown,
    /// Only the data, `nimctl.report/1`.
    Json,
}
