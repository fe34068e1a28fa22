//! Writes the seeds of `pack_index`, `oci_index` and `oci_manifest`: the documents of the small release.

use std::fs;
use std::io;
use std::path::Path;

use nimctl_fuzz::SmallRelease;

fn main() -> io::Result<()> {
    let release = SmallRelease::new();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (target, name, bytes) in [
        ("pack_index", "packed", &release.pack_index),
        ("oci_index", "packed", &release.index),
        ("oci_manifest", "packed", &release.manifest),
        ("oci_manifest", "plain", &release.plain_manifest),
    ] {
        let folder = seeds.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{name}.json")), bytes)?;
    }
    Ok(())
}
