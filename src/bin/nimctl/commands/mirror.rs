//! `nimctl mirror`.

use std::process::ExitCode;

use nimctl::oci::Which;
use nimctl::ops::mirror::{Mirrored, mirror};
use nimctl::registry::Watch;
use nimctl::worker::host::Cancel;
use serde_json::json;

use super::places::{Reach, shown, tell, to_read, to_write};
use crate::cli;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::table::{counted, size};

pub(crate) fn run(
    arguments: &cli::MirrorRelease,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::MirrorRelease { from, to, registries } = arguments;
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let reach = Reach { arguments: registries, watch: Watch { cancelled: &cancelled, notice: &notice } };
    let (source, destination) = (to_read(from, reach)?, to_write(to, reach)?);
    // Without a tag it keeps its own.
    let tag = match (&destination.which, &source.which) {
        (Which::Tag(tag), Which::Tag(own)) if tag.is_empty() => Some(own.clone()),
        (Which::Tag(tag), _) => Some(tag.clone()),
        (Which::Digest(_), _) => None,
    };
    let tag = match tag.filter(|tag| !tag.is_empty()) {
        Some(tag) => tag,
        None => {
            let message = format!("{to}: name the tag that the copy gets");
            return Err(Failure::new(nimctl::error_kind::ErrorKind::Input, anyhow::Error::msg(message)));
        }
    };
    let mirrored =
        mirror(source.place.as_ref(), &source.which, destination.place.as_ref(), Some(&tag), &cancelled)?;
    if source.place.keeps_referrers() && !destination.place.keeps_referrers() {
        let place = destination.place.name();
        output.warning(&format!("signatures and attestations are not copied: {place} keeps none"));
    }
    destination.finish()?;
    let Mirrored { copied, copied_bytes, were_there, attached, not_attached } = mirrored;
    if not_attached > 0 {
        output.warning(&format!(
            "not copied: {} attached to the release; only signatures and attestations are, up to a limit",
            counted(not_attached, "manifest")
        ));
    }
    let attachments = match attached {
        0 => String::new(),
        count => format!("; {count} signatures and attestations"),
    };
    let text = format!(
        "copied {copied} blobs and manifests, {}, to {to} as {tag}; {were_there} were there{attachments}",
        size(copied_bytes)
    );
    let view = json!({
        "schema": "nimctl.mirrored/1", "from": shown(from), "to": to, "tag": tag,
        "copied": copied, "copied_bytes": copied_bytes, "were_there": were_there, "attached": attached,
        "not_attached": not_attached,
    });
    output.result(&text, &view);
    Ok(done())
}
