//! Walks over all tensors of a model, those in subgraphs and functions included.

use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};

type Visit<'v, E> = &'v mut dyn FnMut(&TensorProto) -> Result<(), E>;

/// Calls `visit` for every tensor of the model, until it fails.
pub(super) fn visit_tensors<E>(
    model: &ModelProto,
    mut visit: impl FnMut(&TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    let training =
        model.training_info.iter().flat_map(|training| [&training.initialization, &training.algorithm]);
    for graph in model.graph.iter().chain(training.flatten()) {
        visit_graph(graph, &mut visit)?;
    }
    for function in &model.functions {
        visit_nodes(&function.node, &mut visit)?;
        visit_attributes(&function.attribute_proto, &mut visit)?;
    }
    Ok(())
}

fn visit_graph<E>(graph: &GraphProto, visit: Visit<'_, E>) -> Result<(), E> {
    graph.initializer.iter().try_for_each(&mut *visit)?;
    graph.sparse_initializer.iter().try_for_each(|sparse| visit_sparse(sparse, visit))?;
    visit_nodes(&graph.node, visit)
}

fn visit_nodes<E>(nodes: &[NodeProto], visit: Visit<'_, E>) -> Result<(), E> {
    nodes.iter().try_for_each(|node| visit_attributes(&node.attribute, visit))
}

fn visit_attributes<E>(attributes: &[AttributeProto], visit: Visit<'_, E>) -> Result<(), E> {
    for attribute in attributes {
        attribute.t.iter().chain(&attribute.tensors).try_for_each(&mut *visit)?;
        for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
            visit_sparse(sparse, visit)?;
        }
        for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
            visit_graph(graph, visit)?;
        }
    }
    Ok(())
}

fn visit_sparse<E>(sparse: &SparseTensorProto, visit: Visit<'_, E>) -> Result<(), E> {
    sparse.values.iter().chain(&sparse.indices).try_for_each(visit)
}

type Change<'c, E> = &'c mut dyn FnMut(&mut TensorProto) -> Result<(), E>;

/// Calls `change` for every tensor of the model, until it fails.
pub(super) fn change_tensors<E>(model: &mut ModelProto, change: Change<'_, E>) -> Result<(), E> {
    let training = model.training_info.iter_mut();
    let training = training.flat_map(|training| [&mut training.initialization, &mut training.algorithm]);
    for graph in model.graph.iter_mut().chain(training.flatten()) {
        change_graph(graph, change)?;
    }
    for function in &mut model.functions {
        change_nodes(&mut function.node, change)?;
        change_attributes(&mut function.attribute_proto, change)?;
    }
    Ok(())
}

fn change_graph<E>(graph: &mut GraphProto, change: Change<'_, E>) -> Result<(), E> {
    graph.initializer.iter_mut().try_for_each(&mut *change)?;
    graph.sparse_initializer.iter_mut().try_for_each(|sparse| change_sparse(sparse, change))?;
    change_nodes(&mut graph.node, change)
}

fn change_nodes<E>(nodes: &mut [NodeProto], change: Change<'_, E>) -> Result<(), E> {
    nodes.iter_mut().try_for_each(|node| change_attributes(&mut node.attribute, change))
}

fn change_attributes<E>(attributes: &mut [AttributeProto], change: Change<'_, E>) -> Result<(), E> {
    for attribute in attributes {
        attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(&mut *change)?;
        for sparse in attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors) {
            change_sparse(sparse, change)?;
        }
        for graph in attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs) {
            change_graph(graph, change)?;
        }
    }
    Ok(())
}

fn change_sparse<E>(sparse: &mut SparseTensorProto, change: Change<'_, E>) -> Result<(), E> {
    sparse.values.iter_mut().chain(&mut sparse.indices).try_for_each(change)
}
