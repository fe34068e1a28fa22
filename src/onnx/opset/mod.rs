//! Raises the operator set of a model, so that newer operators can be put into it.
//!
//! A node means what the operator set of its model says. Where a later one says something else, [`raise`] rewrites the
//! node so that it computes the same as before. `changes` lists all that changed; `inputs`, `softmax`, `resize`,
//! `training` and `group_norm` rewrite one kind of node each, with what `facts` and `shapes` know of the values around it.
//! What an attribute said and an input says now becomes a Constant node, which graphs, subgraphs and functions all can
//! have. Other domains than ONNX's own are left alone.

mod changes;
mod facts;
mod group_norm;
mod inputs;
mod problem;
mod resize;
mod shapes;
mod softmax;
mod training;
mod work;

use std::collections::BTreeSet;

use serde::Serialize;

pub use self::problem::OpsetProblem;

use self::changes::{Change, HIGHEST, LOWEST, next_change};
use self::facts::{NodeFacts, facts, used_names};
use self::work::Work;
use super::analysis::{is_known_operator, is_own_domain, label, subgraphs_mut};
use super::free_names::FreeNames;
use super::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};

/// What was done to raise a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Raised {
    /// The operator set that the model had; `None` if it used none of ONNX's own operators.
    pub from: Option<i64>,
    /// The operator set that it has now.
    pub to: i64,
    /// How many of its nodes were rewritten, those of subgraphs and functions included.
    pub nodes_rewritten: usize,
}

/// Raises a model to operator set `to` of ONNX's own domain, and its IR version to the one that goes with that. Every
/// node computes what it did before; graph inputs and outputs stay as they are. A model of that operator set or a later
/// one keeps it.
///
/// Shapes of weights help to rewrite nodes, so that they should be there; their payloads may be anywhere: they are not read,
/// but for the scales of Resize in operator set 10. Weights that an old model lists among its inputs leave them: from IR
/// version 4 on, a caller could replace them.
///
/// # Errors
/// `to` is not between 7 and 23, the model's operator set is older than 7, or a node can't be rewritten; the model is in
/// an undefined state then.
pub fn raise(model: &mut ModelProto, to: i64) -> Result<Raised, OpsetProblem> {
    if !(LOWEST..=HIGHEST).contains(&to) {
        return Err(OpsetProblem::Target { to });
    }
    let from = own_opset(&model.opset_import);
    let of_functions = model.functions.iter().filter_map(|function| own_opset(&function.opset_import));
    if let Some(from) = of_functions.chain(from).find(|from| *from < LOWEST) {
        return Err(OpsetProblem::TooOld { from, to });
    }
    let mut raise = Raise {
        to,
        free: FreeNames::of(model),
        used: used_names(model),
        own_functions: own_functions(&model.functions),
        rewritten: 0,
    };
    if let Some(from) = from.filter(|from| *from < to) {
        let training = model.training_info.iter_mut();
        let training = training.flat_map(|training| [&mut training.initialization, &mut training.algorithm]);
        for graph in model.graph.iter_mut().chain(training.flatten()) {
            raise.graph(graph, from, None)?;
        }
    }
    for function in &mut model.functions {
        raise.function(function)?;
    }
    set_own_opset(&mut model.opset_import, to, from.is_none());
    if model.ir_version() < ir_version(to) {
        weights_leave_inputs(model);
        model.ir_version = Some(ir_version(to));
    }
    Ok(Raised { from, to: from.unwrap_or(to).max(to), nodes_rewritten: raise.rewritten })
}

/// The oldest version of the format that may use an operator set, by the specification.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=8 => 3,
        9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        _ => 11,
    }
}

pub(in crate::onnx) fn own_opset(imports: &[OperatorSetIdProto]) -> Option<i64> {
    imports.iter().find(|opset| is_own_domain(opset.domain())).map(|opset| opset.version())
}

fn set_own_opset(imports: &mut Vec<OperatorSetIdProto>, to: i64, add: bool) {
    for import in imports.iter_mut().filter(|import| is_own_domain(import.domain()) && import.version() < to)
    {
        import.version = Some(to);
    }
    if add {
        imports.push(OperatorSetIdProto { domain: None, version: Some(to) });
    }
}

/// Returns the names of functions that stand in for operators of ONNX's own domain.
fn own_functions(functions: &[FunctionProto]) -> BTreeSet<String> {
    let own = functions.iter().filter(|function| is_own_domain(function.domain()));
    own.map(|function| function.name().to_owned()).collect()
}

/// Takes weights out of the inputs, where a model before IR version 4 has to list them.
fn weights_leave_inputs(model: &mut ModelProto) {
    fn leave(graph: &mut GraphProto) {
        let weights: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
        graph.input.retain(|input| !weights.contains(input.name()));
        for node in &mut graph.node {
            subgraphs_mut(node).for_each(leave);
        }
    }
    if model.ir_version() < 4 {
        model.graph.iter_mut().for_each(leave);
    }
}

/// What a model is raised with.
struct Raise {
    to: i64,
    free: FreeNames,
    used: BTreeSet<String>,
    own_functions: BTreeSet<String>,
    rewritten: usize,
}

impl Raise {
    fn graph(
        &mut self,
        graph: &mut GraphProto,
        from: i64,
        function: Option<&str>,
    ) -> Result<(), OpsetProblem> {
        let facts = facts(graph, from);
        self.nodes(graph, from, function, &mut facts.iter())
    }

    fn function(&mut self, function: &mut FunctionProto) -> Result<(), OpsetProblem> {
        let Some(from) = own_opset(&function.opset_import).filter(|from| *from < self.to) else {
            return Ok(());
        };
        let mut graph = GraphProto {
            node: std::mem::take(&mut function.node),
            value_info: std::mem::take(&mut function.value_info),
            ..GraphProto::default()
        };
        self.graph(&mut graph, from, Some(function.name()))?;
        (function.node, function.value_info) = (graph.node, graph.value_info);
        set_own_opset(&mut function.opset_import, self.to, false);
        Ok(())
    }

    /// Rewrites the nodes of a graph and its subgraphs, for which `facts` come in the same order.
    fn nodes<'f>(
        &mut self,
        graph: &mut GraphProto,
        from: i64,
        function: Option<&str>,
        facts: &mut impl Iterator<Item = &'f NodeFacts>,
    ) -> Result<(), OpsetProblem> {
        let mut out = Vec::with_capacity(graph.node.len());
        for mut node in std::mem::take(&mut graph.node) {
            let known = facts.next().expect("every node has facts");
            for body in subgraphs_mut(&mut node) {
                self.nodes(body, from, function, facts)?;
            }
            self.node(&mut out, node, known, from, function)?;
        }
        graph.node = out;
        Ok(())
    }

    fn node(
        &mut self,
        out: &mut Vec<NodeProto>,
        node: NodeProto,
        facts: &NodeFacts,
        from: i64,
        function: Option<&str>,
    ) -> Result<(), OpsetProblem> {
        if !is_own_domain(node.domain()) || self.own_functions.contains(node.op_type()) {
            out.push(node);
            return Ok(());
        }
        let to = self.to;
        let (name, op_type) = (label(&node).to_owned(), node.op_type().to_owned());
        let refused = |reason: &str| OpsetProblem::Node {
            node: name.clone(),
            op_type: op_type.clone(),
            function: function.map(Into::into),
            from,
            to,
            reason: reason.into(),
        };
        if !is_known_operator(&op_type) {
            return Err(refused("is of an operator that ONNX does not have, or had as an experiment"));
        }
        let mut work = Work::new(node, facts, &mut self.free, &self.used, to);
        let mut is_rewritten = false;
        let mut at = from;
        while let Some((since, change)) = next_change(work.node.op_type(), at, to) {
            match change {
                Change::Same | Change::Still => {}
                Change::Converted(convert) => {
                    convert(&mut work).map_err(|reason| refused(&reason))?;
                    is_rewritten = true;
                }
                Change::Refused(reason) => return Err(refused(reason)),
            }
            at = since;
        }
        self.rewritten += usize::from(is_rewritten);
        work.finish(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
