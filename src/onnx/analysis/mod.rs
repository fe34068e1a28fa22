//! What follows from a graph by itself: which value each name means, of which type it is, what computes shapes.
//!
//! * `wiring` refuses a graph that could run nowhere.
//! * `constants` makes all constants initializers.
//! * `scope` finds the values of a graph and of its subgraphs, `infer` their types, by the operators' definitions in
//!   `signature`.
//! * `index_bound` finds the lengths of the tables that inputs index.
//! * `shape_arithmetic` finds the nodes whose numbers must stay exact.
//!
//! Nothing here decides on a precision: [`lower`](super::lower) does, and keeps what it decides in the notes of
//! values and nodes. Nothing here uses it.

mod constants;
mod index_bound;
mod infer;
mod node;
mod scope;
mod shape_arithmetic;
mod signature;
pub(super) mod wiring;

pub(super) use constants::{constant_tensor, take_constants};
pub use index_bound::index_bounds;
pub(super) use infer::{declared_type, stash_type};
pub(super) use node::{attribute, is_own_domain, producers, subgraphs, subgraphs_mut};
pub use node::{label, nodes};
pub(super) use scope::{Body, Node, Value, Values};
pub(super) use shape_arithmetic::shape_arithmetic;
pub(super) use signature::{Kind, Signature, later_signatures};
