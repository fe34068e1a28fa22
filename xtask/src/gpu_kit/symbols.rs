//! Which glibc a host needs for the kit's executables and libraries: the newest version that one of them asks for.

use std::path::Path;

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::project::{Project, read};

/// The files that only hosts without a C++ runtime use.
const FALLBACKS: [&str; 2] = ["libstdc++.so", "libgcc_s.so"];

/// Returns the newest version, as `GLIBC_2.34`.
pub(super) fn newest_glibc<'a>(project: &Project, files: impl Iterator<Item = &'a Path>) -> Result<String> {
    let mut newest = None;
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if FALLBACKS.iter().any(|fallback| name.starts_with(fallback)) || !is_elf(project, file)? {
            continue;
        }
        let printed = read(cmd!(project.shell, "readelf --version-info --wide {file}"))
            .context("readelf is missing: install it, e.g. `apt-get install binutils`")?;
        newest = newest.max(newest_in(&printed));
    }
    let (major, minor) = newest.context("no file of the kit asks for a version of glibc")?;
    Ok(format!("GLIBC_{major}.{minor}"))
}

fn is_elf(project: &Project, file: &Path) -> Result<bool> {
    let start = project.shell.read_binary_file(file)?;
    Ok(start.starts_with(b"\x7fELF"))
}

/// Returns the newest `GLIBC_x.y` in what `readelf` printed.
fn newest_in(printed: &str) -> Option<(u32, u32)> {
    printed
        .split("Name: GLIBC_")
        .skip(1)
        .filter_map(|rest| {
            let version = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
            let mut numbers = version.split('.').map_while(|number| number.parse().ok());
            Some((numbers.next()?, numbers.next().unwrap_or(0)))
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::newest_in;

    #[test]
    fn versions_are_compared_as_numbers() {
        let printed = "  0x0010:   Name: GLIBC_2.9  Flags: none  Version: 4\n  0x0020:   Name: GLIBC_2.34  Flags: none\n  \
                       Name: GLIBCXX_3.4.30  Flags\n  Name: GLIBC_2.2.5  Flags\n  Name: GLIBC_PRIVATE  Flags";
        assert_eq!(newest_in(printed), Some((2, 34)));
        assert_eq!(newest_in("No version information found in this file."), None);
    }
}
