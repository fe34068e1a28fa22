//! Files of `/proc` whose lines are a name, a colon and a value.

/// Returns the value of the first line with this name.
pub(super) fn value(path: &str, name: &str) -> Option<String> {
    value_in(&fs_err::read_to_string(path).ok()?, name).map(str::to_owned)
}

/// Returns the value of the first line with this name, given in `kB`, in bytes.
pub(super) fn size_bytes(path: &str, name: &str) -> Option<u64> {
    size_bytes_in(&fs_err::read_to_string(path).ok()?, name)
}

fn value_in<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.trim_end() == name).map(|(_, value)| value.trim())
}

fn size_bytes_in(text: &str, name: &str) -> Option<u64> {
    let kib: u64 = value_in(text, name)?.strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::{size_bytes_in, value_in};

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "MemTotal:       16 kB\nMemAvailable:    3 kB\nmodel name\t: CPU: fast\nVmHWM:\t huge\n";
        assert_eq!(value_in(text, "model name"), Some("CPU: fast"));
        assert_eq!(value_in(text, "model"), None);
        assert_eq!(size_bytes_in(text, "MemAvailable"), Some(3072));
        assert_eq!(size_bytes_in(text, "VmHWM"), None);
    }
}
