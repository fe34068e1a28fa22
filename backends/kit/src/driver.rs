//! Asks the CUDA driver for its devices, without linking it.

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_uint};

use crate::compute_capability::ComputeCapability;
use crate::protocol::{ErrorCode, Problem, WorkerDevice};
use libloading::{Library, Symbol};

const DRIVER: &str = "libcuda.so.1";
const NEED: &str = "an NVIDIA GPU and its driver (libcuda.so.1)";
// From cuda.h: CUdevice_attribute.
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;

type Init = unsafe extern "C" fn(c_uint) -> c_int;
type GetCount = unsafe extern "C" fn(*mut c_int) -> c_int;
type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type GetName = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
type GetPciAddress = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
type GetAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;

/// Returns the devices, at least one.
pub fn devices() -> Result<Vec<WorkerDevice>, Problem> {
    let devices = query().map_err(|reason| {
        Problem::new(ErrorCode::NoDriver, format!("no NVIDIA driver: {reason}")).needing(NEED)
    })?;
    if devices.is_empty() {
        return Err(Problem::new(ErrorCode::NoDriver, "the NVIDIA driver sees no GPU").needing(NEED));
    }
    Ok(devices)
}

#[expect(unsafe_code, reason = "the driver is a C library, and absent on machines that only build")]
fn query() -> Result<Vec<WorkerDevice>, String> {
    // SAFETY: the driver's constructors have no preconditions; every CUDA program runs them.
    let driver = unsafe { Library::new(DRIVER) }.map_err(|error| {
        let words = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        // One that is there and can't be loaded is another matter, in the loader's own words.
        if words.contains("No such file") { format!("{DRIVER} not found") } else { words }
    })?;
    // The driver starts threads: it must never be unloaded.
    let driver: &'static Library = Box::leak(Box::new(driver));
    let init: Symbol<'_, Init> = symbol(driver, c"cuInit")?;
    let get_count: Symbol<'_, GetCount> = symbol(driver, c"cuDeviceGetCount")?;
    let get: Symbol<'_, Get> = symbol(driver, c"cuDeviceGet")?;
    let get_name: Symbol<'_, GetName> = symbol(driver, c"cuDeviceGetName")?;
    let get_attribute: Symbol<'_, GetAttribute> = symbol(driver, c"cuDeviceGetAttribute")?;
    let get_pci_address: Symbol<'_, GetPciAddress> = symbol(driver, c"cuDeviceGetPCIBusId")?;
    // SAFETY: `cuInit` may be called at any time and any number of times; its flags must be 0.
    check(unsafe { init(0) }, "cuInit")?;
    let mut count = 0;
    // SAFETY: the driver is initialized, and writes one int.
    check(unsafe { get_count(&raw mut count) }, "cuDeviceGetCount")?;
    let mut devices = Vec::new();
    for ordinal in 0..count {
        let [mut device, mut major, mut minor] = [0; 3];
        let mut name: [c_char; 256] = [0; 256];
        // SAFETY: `ordinal` is below the count; the driver writes one int.
        check(unsafe { get(&raw mut device, ordinal) }, "cuDeviceGet")?;
        // SAFETY: the driver writes at most 255 characters and a zero.
        check(unsafe { get_name(name.as_mut_ptr(), 255, device) }, "cuDeviceGetName")?;
        // SAFETY: the device came from `cuDeviceGet`; the driver writes one int.
        let code = unsafe { get_attribute(&raw mut major, COMPUTE_CAPABILITY_MAJOR, device) };
        check(code, "cuDeviceGetAttribute")?;
        // SAFETY: as above.
        let code = unsafe { get_attribute(&raw mut minor, COMPUTE_CAPABILITY_MINOR, device) };
        check(code, "cuDeviceGetAttribute")?;
        // SAFETY: the array is longer than what the driver may write, and was zero before, so it ends with a zero.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let (Ok(major), Ok(minor)) = (u8::try_from(major), u8::try_from(minor)) else {
            return Err(format!("device {ordinal} has compute capability {major}.{minor}"));
        };
        let mut address: [c_char; 32] = [0; 32];
        // SAFETY: as for the name.
        let code = unsafe { get_pci_address(address.as_mut_ptr(), 31, device) };
        // SAFETY: as for the name.
        let address = unsafe { CStr::from_ptr(address.as_ptr()) }.to_string_lossy();
        devices.push(WorkerDevice {
            name,
            compute_capability: ComputeCapability::new(major, minor),
            pci_address: (code == 0).then(|| pci_address(&address)),
        });
    }
    Ok(devices)
}

#[expect(unsafe_code, reason = "symbols have no types")]
fn symbol<T>(driver: &'static Library, name: &CStr) -> Result<Symbol<'static, T>, String> {
    // SAFETY: callers give the type that cuda.h declares for this name.
    unsafe { driver.get(name) }.map_err(|_| format!("{DRIVER} has no {}", name.to_string_lossy()))
}

/// Writes an address as NVML does, which has eight digits for the domain where CUDA has four.
fn pci_address(text: &str) -> String {
    match text.split_once(':') {
        Some((domain, rest)) => format!("{domain:0>8}:{rest}").to_uppercase(),
        None => text.to_uppercase(),
    }
}

fn check(code: c_int, function: &str) -> Result<(), String> {
    match code {
        0 => Ok(()),
        100 => Err("it sees no GPU (CUDA_ERROR_NO_DEVICE)".into()),
        803 => Err("driver and library versions differ (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)".into()),
        code => Err(format!("{function} failed with CUDA error {code}")),
    }
}
