//! `nimctl publish`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use nimctl::digest::Sha256;
use nimctl::oci::Which;
use nimctl::ops::publish::{FileLayout, PublishOptions, Published, Shipment, publish};
use nimctl::ops::workspace::Workspace;
use nimctl::profile::ModelRelease;
use nimctl::registry::Watch;
use nimctl::store::Store;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::places::{Opened, Reach, tell, to_write};
use crate::cli::{self, Global, LayoutArgument};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::progress::Bytes;
use crate::table::size;

/// No job runs, so the time limit has no effect.
pub(super) const NO_JOB_RUNS_S: u64 = 60;

pub(crate) fn run(
    arguments: &cli::Publish,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Publish { source, to, from, layout, registries } = arguments;
    let layout = match layout {
        LayoutArgument::Packs => FileLayout::Packs,
        LayoutArgument::Files => FileLayout::Files,
    };
    let from = from
        .as_ref()
        .map(|from| from.parse::<Sha256>().map_or_else(|_| Which::Tag(from.clone()), Which::Digest));
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let watch = Watch { cancelled: &cancelled, notice: &notice };
    let workspace = environment::workspace(global, NO_JOB_RUNS_S, cancel)?;
    let shipment = shipment(source, &workspace)?;
    let opened = to_write(to, Reach { arguments: registries, watch })?;
    send(&shipment, &workspace, to, opened, (layout, from.as_ref()), output)
}

/// Returns what a release folder or a recipe gives to publish. First of all: without it, no place is made.
pub(super) fn shipment(source: &Path, workspace: &Workspace) -> Result<Shipment, Failure> {
    if source.is_dir() {
        return Ok(Shipment::of_release(source)?);
    }
    Ok(Shipment::of_recipe(workspace, &super::build::resolved(workspace, source, None, &|_| ())?)?)
}

/// Publishes to a place, and says what was sent.
pub(super) fn send(
    shipment: &Shipment,
    workspace: &Workspace,
    to: &str,
    opened: Opened<'_>,
    (layout, from): (FileLayout, Option<&Which>),
    output: &Output,
) -> Result<ExitCode, Failure> {
    let tag = match &opened.which {
        Which::Tag(tag) if tag.is_empty() => shipment.model.release.clone(),
        Which::Tag(tag) => tag.clone(),
        Which::Digest(digest) => {
            let message = format!("{to}: a release is published under a tag, not under the digest {digest}");
            return Err(Failure::new(nimctl::error_kind::ErrorKind::Input, anyhow::Error::msg(message)));
        }
    };
    let bytes = Bytes::new(output, "sending");
    let options = PublishOptions {
        tag: &tag,
        from,
        layout,
        cancelled: &|| workspace.cancel.is_cancelled(),
        on_sent: &|done, total| bytes.show(done, total),
    };
    // Only looked at: a release folder can be published where there is no store.
    let store = Store::look_at(&workspace.store);
    let published = publish(shipment, &store, opened.place.as_ref(), &options)?;
    bytes.finish();
    opened.finish()?;
    let view = View::new(&shipment.model, to, &tag, &published);
    output.result(&text(shipment, to, &tag, &published), &view);
    Ok(done())
}

fn text(shipment: &Shipment, to: &str, tag: &str, published: &Published) -> String {
    let Published { digest, files_bytes, distinct_bytes, sent_bytes, sent_blobs, profiles } = published;
    format!(
        "{} {}: {} profiles, {} of files, {} of them different\nsent {} in {sent_blobs} blobs to {to} as {tag}\n{digest}\n",
        shipment.model.name,
        shipment.model.release,
        profiles.len(),
        size(*files_bytes),
        size(*distinct_bytes),
        size(*sent_bytes),
    )
}

/// `nimctl.published/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    model: &'a str,
    release: &'a str,
    place: &'a str,
    tag: &'a str,
    digest: Sha256,
    files_bytes: u64,
    distinct_bytes: u64,
    sent_bytes: u64,
    sent_blobs: usize,
    profiles: &'a BTreeMap<String, Sha256>,
}

impl<'a> View<'a> {
    fn new(model: &'a ModelRelease, place: &'a str, tag: &'a str, published: &'a Published) -> Self {
        let Published { digest, files_bytes, distinct_bytes, sent_bytes, sent_blobs, profiles } = published;
        Self {
            schema: "nimctl.published/1",
            model: &model.name,
            release: &model.release,
            place,
            tag,
            digest: *digest,
            files_bytes: *files_bytes,
            distinct_bytes: *distinct_bytes,
            sent_bytes: *sent_bytes,
            sent_blobs: *sent_blobs,
            profiles,
        }
    }
}
