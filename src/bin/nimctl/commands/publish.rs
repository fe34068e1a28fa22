//! `nimctl publish`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::oci::Which;
use nimctl::ops::publish::{FileLayout, PublishOptions, Published, Shipment, publish};
use nimctl::ops::sign::default_signature;
use nimctl::ops::verify_signature::read_bundle;
use nimctl::ops::workspace::Workspace;
use nimctl::profile::ModelRelease;
use nimctl::recipe::Only;
use nimctl::registry::Watch;
use nimctl::store::Store;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::places::{Opened, Reach, check_form, tell, to_write};
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
    let cli::Publish { source, only, to, from, layout, signature, registries } = arguments;
    let layout = match layout {
        LayoutArgument::Packs => FileLayout::Packs,
        LayoutArgument::Files => FileLayout::Files,
    };
    let from = from
        .as_ref()
        .map(|from| from.parse::<Sha256>().map_or_else(|_| Which::Tag(from.clone()), Which::Digest));
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let watch = Watch { cancelled: &cancelled, notice: &notice };
    check_form(to)?;
    let workspace = environment::workspace(global, NO_JOB_RUNS_S, cancel)?;
    let mut shipment = shipment(source, only.as_ref(), &workspace)?;
    let signature = signature_of(source, signature.as_deref())?;
    let opened = to_write(to, Reach { arguments: registries, watch })?;
    if let Some((path, bytes, is_named)) = signature {
        if is_named || opened.place.keeps_referrers() {
            shipment.signature = Some(bytes);
        } else {
            let place = opened.place.name();
            output.warning(&format!("{} is not published: {place} keeps no signatures", path.display()));
        }
    }
    let sent = send(&shipment, &workspace, to, opened, (layout, from.as_ref()), output)?;
    output.result(&sent.text(), &sent.view());
    Ok(done())
}

/// Returns the signature of a release folder, its file, and whether the user named it: that file, else the one beside the folder.
fn signature_of(source: &Path, named: Option<&Path>) -> Result<Option<(PathBuf, Vec<u8>, bool)>, Failure> {
    if !source.is_dir() {
        return match named {
            None => Ok(None),
            Some(_) => {
                let message = format!(
                    "--signature is that of a release folder, and {} is none: make one with `nimctl release`, and sign it",
                    source.display()
                );
                Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)))
            }
        };
    }
    let path = match named {
        Some(path) => path.to_path_buf(),
        None => default_signature(source)?,
    };
    if named.is_none() && fs_err::symlink_metadata(&path).is_err() {
        return Ok(None);
    }
    let bytes = read_bundle(source, &path)?;
    Ok(Some((path, bytes, named.is_some())))
}

/// Returns what a release folder or a recipe gives to publish. First of all: without it, no place is made.
pub(super) fn shipment(
    source: &Path,
    only: Option<&Only>,
    workspace: &Workspace,
) -> Result<Shipment, Failure> {
    if !source.is_dir() {
        return Ok(Shipment::of_recipe(
            workspace,
            &super::build::resolved(workspace, source, only, &|_| ())?,
        )?);
    }
    if only.is_some() {
        let message = format!(
            "--only chooses among the profiles of a recipe, and {} is a release folder, which is published as it is: name \
             the recipe, or make a release with `nimctl release --only`",
            source.display()
        );
        return Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)));
    }
    Ok(Shipment::of_release(source)?)
}

/// Publishes to a place.
pub(super) fn send<'a>(
    shipment: &'a Shipment,
    workspace: &Workspace,
    to: &'a str,
    opened: Opened<'_>,
    (layout, from): (FileLayout, Option<&Which>),
    output: &Output,
) -> Result<Sent<'a>, Failure> {
    let tag = match &opened.which {
        Which::Tag(tag) if tag.is_empty() => shipment.model.release.clone(),
        Which::Tag(tag) => tag.clone(),
        Which::Digest(digest) => {
            let message = format!("{to}: a release is published under a tag, not under the digest {digest}");
            return Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)));
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
    Ok(Sent { model: &shipment.model, to, tag, published })
}

/// What was published.
pub(super) struct Sent<'a> {
    model: &'a ModelRelease,
    to: &'a str,
    tag: String,
    published: Published,
}

impl Sent<'_> {
    pub(super) fn text(&self) -> String {
        let Self { model, to, tag, published } = self;
        let Published { digest, files_bytes, distinct_bytes, sent_bytes, sent_blobs, profiles } = published;
        format!(
            "{} {}: {} profiles, {} of files, {} of them different\nsent {} in {sent_blobs} blobs to {to} as {tag}\n{digest}\n",
            model.name,
            model.release,
            profiles.len(),
            size(*files_bytes),
            size(*distinct_bytes),
            size(*sent_bytes),
        )
    }

    pub(super) fn view(&self) -> View<'_> {
        let Self { model, to, tag, published } = self;
        let Published { digest, files_bytes, distinct_bytes, sent_bytes, sent_blobs, profiles } = published;
        View {
            schema: "nimctl.published/1",
            model: &model.name,
            release: &model.release,
            place: to,
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

/// `nimctl.published/1`.
#[derive(Serialize)]
pub(super) struct View<'a> {
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
