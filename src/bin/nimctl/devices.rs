//! The GPUs that a command uses: named on the command line, from a file, or this host's.

use nimctl::device::Host;
use nimctl::error_kind::ErrorKind;
use nimctl::nvml;

use crate::cli::DeviceArguments;
use crate::environment;
use crate::exit::Failure;

/// Returns the host given by the arguments, as names or as a file; else queries the driver and marks the GPUs that the
/// environment hides from programs.
pub(crate) fn host(arguments: &DeviceArguments) -> Result<Host, Failure> {
    let DeviceArguments { stated, file } = arguments;
    if let Some(path) = file {
        let text = nimctl::files::text::read(path).map_err(|error| Failure::new(ErrorKind::Input, error))?;
        return Ok(Host::read(&text, &path.display().to_string())?);
    }
    if !stated.is_empty() {
        return Ok(Host::stated(stated.iter().map(String::as_str))?);
    }
    let mut host = nvml::probe(environment::nvml_library().as_deref());
    environment::visible_devices().apply(&mut host);
    Ok(host)
}
