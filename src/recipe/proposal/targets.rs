//! Which backend can build for which GPU.

use crate::backend::{Backend, Builds};
use crate::compute_capability::ComputeCapability;
use crate::gpu::Gpu;

/// The oldest GPUs that TensorRT still builds for.
const OLDEST: ComputeCapability = ComputeCapability::new(7, 5);

/// GPUs that one backend builds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The backend.
    pub backend: Backend,
    /// The names of the GPUs, each once, in the order in which they were asked for.
    pub gpus: Vec<String>,
}

/// What can be built for some GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// By backend: plans built ahead of time, then those that are built on the GPU itself.
    pub groups: Vec<Group>,
    /// GPUs that no compiler builds for any more: they run the generic profile.
    pub generic_only: Vec<String>,
}

/// Returns the backends for GPUs: TensorRT for RTX where it has the compute capability, else TensorRT.
pub fn groups(gpus: &[&Gpu]) -> Groups {
    let mut found = Groups::default();
    let capabilities = match Backend::ahead_of_time().facts().builds {
        Builds::AheadOfTime(capabilities) => capabilities,
        _ => &[],
    };
    let (mut ahead, mut on_the_gpu) = (Vec::new(), Vec::new());
    for gpu in gpus {
        let list = if capabilities.contains(&gpu.compute_capability) {
            &mut ahead
        } else if gpu.compute_capability >= OLDEST {
            &mut on_the_gpu
        } else {
            &mut found.generic_only
        };
        if !list.contains(&gpu.name) {
            list.push(gpu.name.clone());
        }
    }
    for (backend, gpus) in [(Backend::ahead_of_time(), ahead), (Backend::on_the_device(), on_the_gpu)] {
        if !gpus.is_empty() {
            found.groups.push(Group { backend, gpus });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu;

    #[test]
    fn each_gpu_has_the_backend_that_builds_for_it() {
        let gpus: Vec<&Gpu> = ["l4", "h100-sxm", "v100-sxm", "RTX 5090", "l4"]
            .into_iter()
            .map(|name| gpu::find(name).unwrap())
            .collect();
        let groups = groups(&gpus);
        let names: Vec<(&str, Vec<&str>)> = groups
            .groups
            .iter()
            .map(|group| (group.backend.name(), group.gpus.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(names, [("tensorrt-rtx", vec!["l4", "rtx-5090"]), ("tensorrt", vec!["h100-sxm"])]);
        assert_eq!(groups.generic_only, ["v100-sxm"]);
    }
}
