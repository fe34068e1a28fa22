//! NVFP4: 4-bit floating point (E2M1) in blocks of 16 along the summed side, whose scales are 8-bit floating point (E4M3), and have
//! one scale in FP32.
//!
//! Activations are quantized while the graph runs, each block by its own maximum: only the scale of their blocks' scales is made
//! ahead, from samples. The operator for that is TensorRT's own, and ONNX Runtime's CPU has no E2M1: so there is a twin, of
//! standard operators in FP32, that gives what the real graph gives on a GPU. Its weights are those that the stored ones stand for.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;

use super::candidates::Product;
use super::number_formats::{e2m1_bits, e2m1_value, e4m3_bits, e4m3_value};
use super::nvfp4_twin::{Constant, Twin, twin_nodes};
use super::rewrite::{Rewrite, header};
use super::weights::{Matrix, Nibbles, larger};
use crate::onnx::ElementType;
use crate::onnx::new_nodes::{int_attribute, plain_node};
use crate::onnx::proto::{NodeProto, TypeProto, ValueInfoProto, type_proto};
use crate::onnx::write::{Initializer, Produce};

/// How many numbers share a scale.
pub(super) const BLOCK: usize = 16;
/// The largest E2M1 number.
pub(super) const LARGEST: f32 = 6.0;
/// The largest E4M3 number.
pub(super) const LARGEST_SCALE: f32 = 448.0;
/// The domain of TensorRT's operators.
pub(super) const DOMAIN: &str = "trt";
/// The operator that quantizes an activation while the graph runs.
pub(super) const DYNAMIC_QUANTIZE: &str = "TRT_FP4DynamicQuantize";
/// The version of it.
pub(super) const DOMAIN_VERSION: i64 = 1;

/// The scales of a weight's blocks, in the order in which they are stored: [summed / 16, columns], or [columns, summed / 16] of a
/// transposed weight.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BlockScales {
    /// The scale of the scales.
    pub(super) global: f32,
    /// The scales over the global one, in E4M3.
    pub(super) codes: Vec<u8>,
}

impl BlockScales {
    /// Returns a block's scale.
    pub(super) fn of(&self, block: usize) -> f32 {
        e4m3_value(self.codes[block]) * self.global
    }
}

/// Returns the scale of scales for blocks whose largest magnitude is `most`.
pub(super) fn global_scale(most: f32) -> f32 {
    (most / (LARGEST * LARGEST_SCALE)).max(f32::MIN_POSITIVE)
}

impl Matrix<'_> {
    /// Returns the scales of a weight whose summed side is multiplied by `factors` first.
    pub(super) fn nvfp4_scales(&self, factors: &[f32]) -> io::Result<BlockScales> {
        let mut maxima = vec![0.0f32; self.summed / BLOCK * self.columns];
        self.rows(|index, row| {
            for (place, four) in row.iter().enumerate() {
                let value = f32::from_le_bytes(*four) * factors[self.summed_place(index, place)];
                let most = &mut maxima[self.block_of(index, place)];
                *most = larger(*most, value);
            }
            Ok(())
        })?;
        let global = global_scale(maxima.iter().copied().fold(0.0, f32::max));
        let codes = maxima.iter().map(|most| e4m3_bits(most / LARGEST / global)).collect();
        Ok(BlockScales { global, codes })
    }

    /// Writes the weight in E2M1, two numbers a byte, or, for the twin, the FP32 numbers that those stand for.
    pub(super) fn write_nvfp4(
        &self,
        factors: &[f32],
        scales: &BlockScales,
        is_twin: bool,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let code = |index: usize, place: usize, four: &[u8; 4]| {
            let value = f32::from_le_bytes(*four) * factors[self.summed_place(index, place)];
            let scale = scales.of(self.block_of(index, place));
            // A block of zeros, or of what is nothing beside the largest.
            (if scale == 0.0 { 0 } else { e2m1_bits(value / scale) }, scale)
        };
        if is_twin {
            let mut written = Vec::new();
            return self.rows(|index, row| {
                written.clear();
                for (place, four) in row.iter().enumerate() {
                    let (code, scale) = code(index, place, four);
                    written.extend((e2m1_value(code) * scale).to_le_bytes());
                }
                out.write_all(&written)
            });
        }
        let mut nibbles = Nibbles::new(out);
        self.rows(|index, row| {
            let mut codes = row.iter().enumerate().map(|(place, four)| code(index, place, four).0);
            codes.try_for_each(|code| nibbles.put_bits(code))
        })?;
        nibbles.end()
    }

    /// Returns the place along the summed side of a number of a stored row.
    fn summed_place(&self, row: usize, place: usize) -> usize {
        if self.is_transposed { place } else { row }
    }

    /// Returns the block of a number of a stored row.
    fn block_of(&self, row: usize, place: usize) -> usize {
        if self.is_transposed {
            row * (self.summed / BLOCK) + place / BLOCK
        } else {
            row / BLOCK * self.columns + place
        }
    }
}

/// Returns what a graph says of a value inside it, without its shape.
fn value_of(name: &str, element_type: ElementType) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: Some(element_type.to_onnx()), shape: None };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

impl<'a> Rewrite<'a> {
    /// Returns the nodes that quantize an activation of `channels` and dequantize it again, and what they make of it.
    pub(super) fn nvfp4_activation(
        &mut self,
        name: &str,
        value: &str,
        global: f32,
    ) -> (Vec<NodeProto>, String) {
        let global = self.floats(&format!("{name}.scale_of_scales"), &[], &[global]);
        if self.is_twin {
            return self.twin(name, value, &global);
        }
        let [quantized, scales, back] = ["quantized", "block_scales", "dequantized"]
            .map(|what| self.free.take(&format!("{name}.{what}")));
        self.value_info.push(value_of(&quantized, ElementType::Float4e2m1));
        self.value_info.push(value_of(&scales, ElementType::Float8e4m3fn));
        let mut quantize =
            plain_node(&mut self.free, DYNAMIC_QUANTIZE, vec![value.to_owned(), global.clone()], &quantized);
        quantize.output.push(scales.clone());
        quantize.domain = Some(DOMAIN.into());
        quantize.attribute = vec![
            int_attribute("axis", -1),
            int_attribute("block_size", BLOCK as i64),
            int_attribute("scale_type", ElementType::Float8e4m3fn.to_onnx().into()),
        ];
        let (wide, of_scales) = self.wide_scales(name, &scales, &global);
        let blocks = vec![int_attribute("axis", -1), int_attribute("block_size", BLOCK as i64)];
        let dequantize = NodeProto {
            attribute: blocks,
            ..plain_node(&mut self.free, "DequantizeLinear", vec![quantized, of_scales], &back)
        };
        (vec![quantize, wide, dequantize], back)
    }

    /// Returns the node that makes FP32 scales of E4M3 ones. Half precision has no room for a scale of scales.
    fn wide_scales(&mut self, name: &str, scales: &str, global: &str) -> (NodeProto, String) {
        let wide = self.free.take(&format!("{name}.scales_in_fp32"));
        let node = NodeProto {
            attribute: vec![int_attribute("output_dtype", ElementType::Float.to_onnx().into())],
            ..plain_node(&mut self.free, "DequantizeLinear", vec![scales.into(), global.into()], &wide)
        };
        (node, wide)
    }

    /// Adds a weight, and returns the nodes that dequantize it and what they make of it; of the twin, what the weight stands for.
    pub(super) fn nvfp4_weight(
        &mut self,
        product: &Product,
        factors: &Arc<Vec<f32>>,
        scales: BlockScales,
    ) -> (Vec<NodeProto>, String) {
        let (name, is_twin) = (&product.weight, self.is_twin);
        let mut shape = vec![product.summed, product.columns];
        // The side with the blocks.
        let axis = usize::from(product.is_transposed);
        if product.is_transposed {
            shape.reverse();
        }
        let (global, codes) = (scales.global, Bytes::copy_from_slice(&scales.codes));
        let matrix = self.ingredients.matrix(product);
        let factors = Arc::clone(factors);
        let produce: Produce<'a> = Box::new(move |out| matrix.write_nvfp4(&factors, &scales, is_twin, out));
        let element_type = if is_twin { ElementType::Float } else { ElementType::Float4e2m1 };
        let weight = self.weight(name, &shape, element_type, produce);
        if is_twin {
            return (Vec::new(), weight);
        }
        shape[axis] /= BLOCK;
        let global = self.floats(&format!("{name}.scale_of_scales"), &[], &[global]);
        let scales = self.bytes(&format!("{name}.scales"), &shape, ElementType::Float8e4m3fn, codes);
        let (wide, of_scales) = self.wide_scales(name, &scales, &global);
        let back = self.free.take(&format!("{name}.dequantized"));
        let dequantize = NodeProto {
            attribute: vec![int_attribute("axis", axis as i64), int_attribute("block_size", BLOCK as i64)],
            ..plain_node(&mut self.free, "DequantizeLinear", vec![weight, of_scales], &back)
        };
        (vec![wide, dequantize], back)
    }

    /// Adds the nodes of the twin; see [`twin_nodes`].
    fn twin(&mut self, name: &str, value: &str, global: &str) -> (Vec<NodeProto>, String) {
        let back = self.free.take(&format!("{name}.dequantized"));
        let Twin { nodes, constants, exact_nodes } = twin_nodes(&mut self.free, name, value, global, &back);
        for Constant { name, shape, element_type, bytes } in constants {
            self.initializers.push(Initializer {
                header: header(&name, &shape, element_type),
                size_bytes: bytes.len() as u64,
                produce: Box::new(move |out| out.write_all(&bytes)),
            });
        }
        self.exact_nodes.extend(exact_nodes);
        (nodes, back)
    }
}
