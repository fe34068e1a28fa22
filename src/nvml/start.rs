//! Why NVML or a GPU can't be asked: no library, no driver, no GPU, or a GPU that can't be opened.

use std::path::Path;

use nvml_wrapper::error::NvmlError;

use super::LIBRARY;
use super::answers::{kind_of, list, words};
use crate::device::{Problem, ProblemKind};
use crate::machine::pci;

/// Returns why NVML doesn't start. `library` is the library that the user named.
pub(super) fn problem(error: &NvmlError, library: Option<&Path>, pci_devices: &Path) -> Problem {
    if let NvmlError::LibloadingError(error) = error {
        return not_loaded(&error.to_string(), library, pci_devices);
    }
    let name = library.map_or_else(|| LIBRARY.into(), |path| path.display().to_string());
    let (kind, message, hint) = match (error, kind_of(error)) {
        (NvmlError::LibRmVersionMismatch, kind) => (
            kind,
            format!(
                "{name} and the loaded kernel driver have different versions, so the driver doesn't answer"
            ),
            "the driver was updated while it ran: reboot, or unload and load its kernel modules; restart containers that were started before",
        ),
        (_, kind @ ProblemKind::TooOld) => (
            kind,
            format!("{name} is not NVML, or is too old: {}", words(error)),
            "install an NVIDIA driver of version 525 or later",
        ),
        (_, kind @ ProblemKind::NoDriver) => (
            kind,
            format!("{name} was found, but the kernel driver is not loaded"),
            "load it with `modprobe nvidia`, and check `dmesg` if that fails; after a kernel update the driver must be rebuilt",
        ),
        (_, ProblemKind::NoGpu) => return no_gpu(),
        (_, kind @ ProblemKind::NotPermitted) => (
            kind,
            format!("{name} could not start: {}", words(error)),
            "this user can't open /dev/nvidiactl: check the file's permissions and, in a container, the device rules",
        ),
        (_, kind) => (
            kind,
            format!("{name} could not start: {}", words(error)),
            "check whether `nvidia-smi` works, and look for NVRM and Xid lines in `dmesg`",
        ),
    };
    Problem { kind, message, hint: Some(hint.into()) }
}

fn not_loaded(error: &str, library: Option<&Path>, pci_devices: &Path) -> Problem {
    let absent = error.contains("No such file");
    let (kind, message, hint) = match library {
        Some(path) if absent => (
            ProblemKind::NoLibrary,
            format!("NVML library not found at {}", path.display()),
            "correct the path, or leave it out to use the default",
        ),
        None if absent => match pci::nvidia_gpus(pci_devices) {
            0 => (
                ProblemKind::NoGpu,
                format!("found no NVIDIA GPU on the PCI bus and no {LIBRARY}"),
                "a virtual machine has GPUs only if its host passes them through",
            ),
            count => (
                ProblemKind::NoLibrary,
                format!("NVIDIA GPUs on the PCI bus: {count}, but {LIBRARY} was not found"),
                "install the NVIDIA driver; in a container, start it with the GPUs (`docker run --gpus all`)",
            ),
        },
        _ => (
            ProblemKind::NoLibrary,
            format!("the NVML library can't be loaded: {error}"),
            "it is damaged or built for another system: reinstall the NVIDIA driver",
        ),
    };
    Problem { kind, message, hint: Some(hint.into()) }
}

/// The driver runs but has no GPU.
pub(super) fn no_gpu() -> Problem {
    Problem {
        kind: ProblemKind::NoGpu,
        message: "the driver runs but has no GPU".into(),
        hint: Some("if you expect one, look for NVRM lines in `dmesg`; in a container, check which GPUs it was started with".into()),
    }
}

/// GPUs that the driver lists but can't open.
pub(super) fn unopened(kind: ProblemKind, answer: &str, indices: &[u32]) -> Problem {
    let numbers: Vec<String> = indices.iter().map(u32::to_string).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let gpus = if numbers.len() == 1 { "GPU" } else { "GPUs" };
    let hint = match kind {
        ProblemKind::NotPermitted => {
            "this user can't open /dev/nvidia<number>; that is expected in a container that was started with other GPUs"
        }
        _ => "look for NVRM and Xid lines in `dmesg`; if a GPU doesn't start, reset it or reboot the host",
    };
    Problem {
        kind,
        message: format!("NVML could not open {gpus} {}: {answer}", list(&numbers)),
        hint: Some(hint.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No library: the driver is missing if there is a GPU; nothing is wrong if there is none.
    #[test]
    fn a_missing_library_means_what_the_bus_says() {
        let bus = tempfile::tempdir().unwrap();
        let absent = "libnvidia-ml.so.1: cannot open shared object file: No such file or directory";
        let check = |expected_kind, expected| {
            let Problem { kind, message, hint: _ } = not_loaded(absent, None, bus.path());
            assert_eq!((kind, message.as_str()), (expected_kind, expected));
        };
        check(ProblemKind::NoGpu, "found no NVIDIA GPU on the PCI bus and no libnvidia-ml.so.1");
        for (address, vendor, class) in [
            ("0000:00:02.0", "0x8086\n", "0x030000\n"),
            ("0000:18:00.0", "0x10de\n", "0x030200\n"),
            ("0000:18:00.1", "0x10de\n", "0x040300\n"),
        ] {
            let folder = bus.path().join(address);
            fs_err::create_dir(&folder).unwrap();
            fs_err::write(folder.join("vendor"), vendor).unwrap();
            fs_err::write(folder.join("class"), class).unwrap();
        }
        check(ProblemKind::NoLibrary, "NVIDIA GPUs on the PCI bus: 1, but libnvidia-ml.so.1 was not found");
        let damaged = not_loaded("libnvidia-ml.so.1: invalid ELF header", None, bus.path());
        assert_eq!(
            damaged.message,
            "the NVML library can't be loaded: libnvidia-ml.so.1: invalid ELF header"
        );
    }
}
