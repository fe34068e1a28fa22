//! What follows from a graph by itself: which value each name means, of which type it is, what computes shapes.
//!
//! * `wiring` refuses a graph that could run nowhere.
//! * `constants` makes all constants initializers.
//! * `scope` finds the values of a graph and of its subgraphs, `infer` their types, by the operators' definitions in
//!   `signature`.
//! * `index_bound` finds the lengths of the tables that inputs index.
//! * `flow` makes one list of the nodes of all subgraphs, and says what passes between them.
//! * `quantities` finds what kind of number each value holds (a `quantity`), by the `operator_rules` and by what
//!   `constant_facts` says of constants.
//! * `exactness` finds the nodes whose numbers must stay exact, `carried` those that loops sum up with.
//!
//! Nothing here decides on a precision: [`lower`](super::lower) does, and keeps what it decides in the notes of
//! values and nodes. Nothing here uses it.

mod carried;
mod constant_facts;
mod constants;
mod exactness;
mod flow;
mod index_bound;
mod infer;
mod node;
mod operator_rules;
mod quantities;
mod quantity;
mod scope;
mod signature;
pub(super) mod wiring;

pub(super) use carried::{Carried, carried};
pub(super) use constant_facts::ConstantFacts;
pub(super) use constants::{constant_tensor, take_constants};
pub(super) use exactness::{Exact, Exactness, exact};
pub(super) use flow::{End, Flow, Step, ValueId, Wires};
pub use index_bound::index_bounds;
pub(super) use infer::{declared_type, stash_type};
pub(super) use node::{attribute, is_own_domain, subgraphs, subgraphs_mut};
pub use node::{label, nodes};
pub(super) use operator_rules::Rule;
pub(super) use quantities::Quantities;
pub(super) use scope::{Body, Node, Value, Values};
pub(super) use signature::{Kind, Signature, is_known_operator, later_signatures};
