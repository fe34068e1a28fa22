//! Which glibc a host needs for executables and libraries: the newest version that one of them asks for.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::project::{Project, read};

/// A version of glibc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Glibc(pub(crate) u32, pub(crate) u32);

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor) = self;
        write!(f, "GLIBC_{major}.{minor}")
    }
}

/// Returns the newest version that a file asks for; `None` if it is no executable or library, or asks for none.
pub(crate) fn needed_by(project: &Project, file: &Path) -> Result<Option<Glibc>> {
    if !is_elf(project, file)? {
        return Ok(None);
    }
    let printed = read(cmd!(project.shell, "readelf --version-info --wide {file}"))
        .context("readelf is missing: install it, e.g. `apt-get install binutils`")?;
    Ok(newest_in(&printed))
}

fn is_elf(project: &Project, file: &Path) -> Result<bool> {
    let start = project.shell.read_binary_file(file)?;
    Ok(start.starts_with(b"\x7fELF"))
}

/// Returns the newest `GLIBC_x.y` in what `readelf` printed.
fn newest_in(printed: &str) -> Option<Glibc> {
    printed
        .split("Name: GLIBC_")
        .skip(1)
        .filter_map(|rest| {
            let version = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
            let mut numbers = version.split('.').map_while(|number| number.parse().ok());
            Some(Glibc(numbers.next()?, numbers.next().unwrap_or(0)))
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::{Glibc, newest_in};

    #[test]
    fn versions_are_compared_as_numbers() {
        let printed = "  0x0010:   Name: GLIBC_2.9  Flags: none  Version: 4\n  0x0020:   Name: GLIBC_2.34  Flags: none\n  \
                       Name: GLIBCXX_3.4.30  Flags\n  Name: GLIBC_2.2.5  Flags\n  Name: GLIBC_PRIVATE  Flags";
        assert_eq!(newest_in(printed), Some(Glibc(2, 34)));
        assert_eq!(Glibc(2, 34).to_string(), "GLIBC_2.34");
        assert_eq!(newest_in("No version information found in this file."), None);
    }
}
