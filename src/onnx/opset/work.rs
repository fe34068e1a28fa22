//! One node while it is rewritten.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use half::f16;

use super::facts::NodeFacts;
use crate::onnx::ElementType;
use crate::onnx::analysis::{attribute, label};
use crate::onnx::free_names::FreeNames;
use crate::onnx::new_nodes::{plain_node, tensor_attribute};
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};

/// Why a node can't be rewritten, to be read behind its name.
pub(super) type Reason = Cow<'static, str>;

/// CastLike is there from this operator set on.
const CAST_LIKE: i64 = 15;

/// A node while it is rewritten, and the nodes that are put around it.
pub(super) struct Work<'a> {
    pub(super) node: NodeProto,
    pub(super) facts: &'a NodeFacts,
    /// The operator set that the node will be of.
    pub(super) to: i64,
    /// Whether it is an Upsample, whose scales are 1 at least.
    pub(super) grows: bool,
    label: String,
    free: &'a mut FreeNames,
    used: &'a BTreeSet<String>,
    before: Vec<NodeProto>,
    after: Vec<NodeProto>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        node: NodeProto,
        facts: &'a NodeFacts,
        free: &'a mut FreeNames,
        used: &'a BTreeSet<String>,
        to: i64,
    ) -> Self {
        let label = label(&node).to_owned();
        Self { node, facts, to, grows: false, label, free, used, before: Vec::new(), after: Vec::new() }
    }

    /// Adds the node and those around it, in their order.
    pub(super) fn finish(self, out: &mut Vec<NodeProto>) {
        out.extend(self.before);
        out.push(self.node);
        out.extend(self.after);
    }

    /// Returns whether an output is there and anything uses it.
    pub(super) fn uses_output(&self, index: usize) -> bool {
        self.node.output.get(index).is_some_and(|name| self.used.contains(name))
    }

    /// Returns an input; `None` if it is absent.
    pub(super) fn input(&self, index: usize) -> Option<&str> {
        self.node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Makes a value an input, with absent ones before it where there are none.
    pub(super) fn set_input(&mut self, index: usize, name: String) {
        if self.node.input.len() <= index {
            self.node.input.resize(index + 1, String::new());
        }
        self.node.input[index] = name;
    }

    /// Takes an attribute off the node, if it has it.
    ///
    /// # Errors
    /// It is that of the function around the node, and not known.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<AttributeProto>, Reason> {
        let Some(index) = self.node.attribute.iter().position(|one| one.name() == name) else {
            return Ok(None);
        };
        let attribute = self.node.attribute.remove(index);
        is_given(&attribute)?;
        Ok(Some(attribute))
    }

    /// Returns an attribute that is a string; `None` if it is absent.
    ///
    /// # Errors
    /// It is that of the function around the node, and not known.
    pub(super) fn string(&self, name: &str) -> Result<Option<String>, Reason> {
        let Some(attribute) = attribute(&self.node, name) else { return Ok(None) };
        is_given(attribute)?;
        Ok(attribute.s.as_ref().map(|text| String::from_utf8_lossy(text).into_owned()))
    }

    /// Takes an attribute that is a list of integers; `None` if it is absent or empty.
    pub(super) fn take_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, Reason> {
        Ok(self.take(name)?.map(|one| one.ints).filter(|ints| !ints.is_empty()))
    }

    /// Adds a constant list of integers, and returns its name.
    pub(super) fn ints(&mut self, what: &str, values: &[i64]) -> String {
        self.constant(
            what,
            ElementType::Int64,
            &[values.len()],
            values.iter().flat_map(|one| one.to_le_bytes()),
        )
    }

    /// Adds a constant integer, and returns its name.
    pub(super) fn int(&mut self, what: &str, value: i64) -> String {
        self.constant(what, ElementType::Int64, &[], value.to_le_bytes())
    }

    /// Adds a constant number, and returns its name.
    pub(super) fn float(&mut self, what: &str, value: f32) -> String {
        self.constant(what, ElementType::Float, &[], value.to_le_bytes())
    }

    /// Adds a constant list of numbers, and returns its name.
    pub(super) fn floats(&mut self, what: &str, values: &[f32]) -> String {
        self.constant(
            what,
            ElementType::Float,
            &[values.len()],
            values.iter().flat_map(|one| one.to_le_bytes()),
        )
    }

    /// Adds a constant number of the type of the first input, and returns its name.
    ///
    /// # Errors
    /// The type is unknown.
    pub(super) fn number_of_its_type(&mut self, what: &str, value: f32) -> Result<String, Reason> {
        Ok(match self.facts.types.first().copied().flatten() {
            Some(ElementType::Double) => {
                self.constant(what, ElementType::Double, &[], f64::from(value).to_le_bytes())
            }
            Some(ElementType::Float16) => {
                self.constant(what, ElementType::Float16, &[], f16::from_f32(value).to_le_bytes())
            }
            None if self.to >= CAST_LIKE => {
                let number = self.float(what, value);
                let like = self.node.input.first().cloned().unwrap_or_default();
                self.before("CastLike", vec![number, like], what, Vec::new())
            }
            Some(ElementType::Float) => self.float(what, value),
            Some(other) => return Err(format!("has an input of type {}", other.as_str()).into()),
            None => return Err("has an input whose type can't be inferred".into()),
        })
    }

    /// Adds a node before this one, and returns the name of its output.
    pub(super) fn before(
        &mut self,
        op_type: &str,
        inputs: Vec<String>,
        what: &str,
        attributes: Vec<AttributeProto>,
    ) -> String {
        let output = self.name(what);
        let node = plain_node(self.free, op_type, inputs, &output);
        self.before.push(NodeProto { attribute: attributes, ..node });
        output
    }

    /// Lets a node come after this one, which takes its first output and these inputs, and gives what this one gave.
    pub(super) fn after(&mut self, op_type: &str, more: Vec<String>, what: &str) {
        let inner = self.name(what);
        let Some(output) = self.node.output.first_mut() else { return };
        let outer = std::mem::replace(output, inner.clone());
        let inputs = std::iter::once(inner).chain(more).collect();
        self.after.push(plain_node(self.free, op_type, inputs, &outer));
    }

    fn name(&mut self, what: &str) -> String {
        self.free.take(&format!("{}_{what}", self.label))
    }

    fn constant(
        &mut self,
        what: &str,
        element_type: ElementType,
        dims: &[usize],
        bytes: impl IntoIterator<Item = u8>,
    ) -> String {
        let tensor = TensorProto {
            data_type: Some(element_type.to_onnx()),
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            raw_data: Some(Bytes::from_iter(bytes)),
            ..TensorProto::default()
        };
        self.before("Constant", Vec::new(), what, vec![tensor_attribute("value", tensor)])
    }
}

/// Fails if the value of an attribute is that of an attribute of the function around the node.
fn is_given(attribute: &AttributeProto) -> Result<(), Reason> {
    let (name, reference) = (attribute.name(), attribute.ref_attr_name());
    if reference.is_empty() {
        return Ok(());
    }
    Err(format!("takes its {name} from the attribute `{reference}` of the function").into())
}
