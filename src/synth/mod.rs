//! Models of a known architecture with seeded weights, for tests, benchmarks and demonstrations.
//!
//! The real weights of such models are often not public; their shapes are. Equal arguments give equal bytes on
//! every machine: weights come from integers and correctly rounded multiplications alone (see [`weights`]).

mod attention;
mod graph_builder;
mod nvclip;
pub mod weights;

pub use nvclip::{
    NvclipSize, NvclipTower, SYNTH_VERSION, UnknownNvclipSize, UnknownNvclipTower, write_nvclip_tower,
};
